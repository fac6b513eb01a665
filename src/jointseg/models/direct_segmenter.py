"""Segmenter of the 10 m image, the baseline without super-resolution."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jointseg.models.mask_loss import LossWeights, dense_loss
from jointseg.models.prog_esrgan import upsample
from jointseg.models.rrdb import RRDBNet

SCALE = 10


class DirectSegmenter(nn.Module):
    """Map a normalised Sentinel-2 image [n, in_channels, h, w] at 10 m to ISA probability [n, 1, 10h, 10w] at 1 m.

    An RRDB trunk (`trunk`: keyword arguments of RRDBNet) on the 10 m grid, learned upsampling by `scale` to one logit
    per pixel, then interpolation of the logit to 1 m. Neither the network nor its loss uses a 1 m image. With as many
    blocks as both stages of Prog-ESRGAN together, at 64 features and growth 32, the network has the same size.
    """

    def __init__(self, trunk: dict[str, Any], in_channels: int = 3, scale: int = SCALE) -> None:
        super().__init__()
        self.network = RRDBNet(in_channels, 1, scale=scale, **trunk)
        self.scale = scale

    def logit(self, x: Tensor) -> Tensor:
        """Return the logit of impervious surface [n, 1, 10h, 10w]."""
        logit = self.network(x)
        return logit if self.scale == SCALE else upsample(logit, SCALE / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the probability of impervious surface [n, 1, 10h, 10w] of [n, in_channels, h, w], any h and w."""
        return self.logit(x).sigmoid()

    def loss(
        self,
        x: Tensor,
        label: Tensor,
        weights: LossWeights,
        generators: Sequence[torch.Generator],
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return cross-entropy + dice against label [n, 10h, 10w] uint8 (0, 1; 255 unlabelled, has no weight).

        The interface is that of Segmenter; this loss ignores `weights` and `generators`. `dtype` is that of the
        forward pass.
        """
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
            logit = self.logit(x)
        return dense_loss(logit.float(), label)
