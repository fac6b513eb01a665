"""A segmenter that reads the 10 m image itself: the rival of super-resolution followed by segmentation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jointseg.models.mask_loss import LossWeights, dense_loss
from jointseg.models.prog_esrgan import upsample
from jointseg.models.rrdb import RRDBNet

SCALE = 10


class DirectSegmenter(nn.Module):
    """Normalised Sentinel-2 image [n, in_channels, h, w] at 10 m -> impervious surface at 1 m [n, 1, 10h, 10w].

    An RRDB trunk on the 10 m grid, whose features are upsampled by learned layers to a grid `scale` times finer and
    read there as one logit a pixel; from there to 1 m the logit is interpolated. No 1 m image takes part, neither in
    the network nor in its loss. `trunk` holds keyword arguments of RRDBNet; with as many blocks as both stages of
    Prog-ESRGAN together, at 64 features and growth 32, it is of the same size.
    """

    def __init__(self, trunk: dict[str, Any], in_channels: int = 3, scale: int = SCALE) -> None:
        super().__init__()
        self.network = RRDBNet(in_channels, 1, scale=scale, **trunk)
        self.scale = scale

    def logit(self, x: Tensor) -> Tensor:
        """Logit of impervious surface [n, 1, 10h, 10w]."""
        logit = self.network(x)
        return logit if self.scale == SCALE else upsample(logit, SCALE / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Probability of impervious surface [n, 1, 10h, 10w] of [n, in_channels, h, w], any h and w."""
        return self.logit(x).sigmoid()

    def loss(
        self,
        x: Tensor,
        label: Tensor,
        weights: LossWeights,
        generators: Sequence[torch.Generator],
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Cross-entropy + dice against label [n, 10h, 10w] uint8 (0, 1, 255 unknown: weighs nothing).

        The interface is the Segmenter's: `weights` and `generators` belong to its set loss and have no part in this one.
        `dtype` is that of the network's arithmetic.
        """
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
            logit = self.logit(x)
        return dense_loss(logit.float(), label)
