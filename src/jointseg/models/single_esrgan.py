"""ESRGAN in a single stage, 10 m -> 1 m: what Prog-ESRGAN's two stages are measured against."""

from typing import Any

from torch import Tensor, nn

from jointseg.models.prog_esrgan import RGB, STAGE1_SCALE, bilinear_rgb
from jointseg.models.rrdb import RRDBNet

SCALE = 10


class SingleESRGAN(nn.Module):
    """One RRDBNet from 10 m to 1 m behind the interface of ProgESRGAN; shapes are the same.

    It adds its detail to the bilinear image. At 2.5 m nothing is learnt: `stage1` gives the bilinear image, which
    `stage2` does not look at. `generator` holds keyword arguments of RRDBNet; all its modes of upsampling make x10.
    """

    def __init__(self, generator: dict[str, Any], in_channels: int = RGB) -> None:
        super().__init__()
        self.generator1 = nn.Identity()  # the stage that this network lacks: no weights to train or to freeze
        self.generator2 = RRDBNet(in_channels, RGB, scale=SCALE, **generator)

    def stage1(self, x: Tensor) -> Tensor:
        """[n, in_channels, h, w] at 10 m -> [n, 3, 4h, 4w], bilinear."""
        return bilinear_rgb(x, STAGE1_SCALE)

    def stage2(self, x: Tensor, sr25: Tensor) -> Tensor:
        """[n, in_channels, h, w] at 10 m -> [n, 3, 10h, 10w] at 1 m."""
        return bilinear_rgb(x, SCALE) + self.generator2(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sr25 = self.stage1(x)
        return sr25, self.stage2(x, sr25)
