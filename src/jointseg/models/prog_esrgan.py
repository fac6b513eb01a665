"""Prog-ESRGAN: two generators in a row, 10 m -> 2.5 m -> 1 m, the second seeing the Sentinel-2 image again."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointseg.models.rrdb import RRDBNet

STAGE1_SCALE = 4
STAGE2_SCALE = 2.5
RGB = 3  # the first channels of every input: B04 B03 B02


def upsample(x: Tensor, factor: float) -> Tensor:
    """Bilinear upsampling [n, c, h, w] -> [n, c, h * factor, w * factor], pixel edges (not centres) aligned."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ProgESRGAN(nn.Module):
    """Normalised Sentinel-2 image at 10 m -> RGB at (2.5 m [n, 3, 4h, 4w], 1 m [n, 3, 10h, 10w]), any h and w.

    The input [n, in_channels, h, w] begins with red, green and blue (B04 B03 B02); what follows, such as B08 or other
    dates, is seen by both generators. Each adds its detail to a bilinear upsampling of the RGB image it receives, so
    training starts at the bilinear image instead of at noise. The second one takes the first one's output with the
    Sentinel-2 image upsampled x4 beside it (3 + in_channels). `stage1` and `stage2` are keyword arguments of RRDBNet:
    features, growth, blocks, unshuffle, upsampling, tail. A 2.5 m grid halves to 5 m with `unshuffle: 2`, from where
    1 m is a whole factor.
    """

    def __init__(self, stage1: dict[str, Any], stage2: dict[str, Any], in_channels: int = RGB) -> None:
        super().__init__()
        self.generator1 = RRDBNet(in_channels, RGB, scale=STAGE1_SCALE, **stage1)
        self.generator2 = RRDBNet(RGB + in_channels, RGB, scale=STAGE2_SCALE, **stage2)

    def stage1(self, x: Tensor) -> Tensor:
        """[n, in_channels, h, w] at 10 m -> [n, 3, 4h, 4w] at 2.5 m."""
        return upsample(x[:, :RGB], STAGE1_SCALE) + self.generator1(x)

    def stage2(self, x: Tensor, sr25: Tensor) -> Tensor:
        """The 10 m image and its 2.5 m version [n, 3, 4h, 4w] -> [n, 3, 10h, 10w] at 1 m."""
        detail = self.generator2(torch.cat((sr25, upsample(x, STAGE1_SCALE)), 1))
        return upsample(sr25, STAGE2_SCALE) + detail

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sr25 = self.stage1(x)
        return sr25, self.stage2(x, sr25)
