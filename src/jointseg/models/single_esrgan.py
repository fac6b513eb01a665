"""ESRGAN in a single stage from 10 m to 1 m, the baseline of Prog-ESRGAN's two stages."""

from typing import Any

from torch import Tensor, nn

from jointseg.models.prog_esrgan import RGB, STAGE1_SCALE, bilinear_rgb
from jointseg.models.rrdb import RRDBNet

SCALE = 10


class SingleESRGAN(nn.Module):
    """One RRDBNet from 10 m to 1 m with the interface and shapes of ProgESRGAN.

    It adds detail to the bilinear image. `stage1` has no weights: it returns the bilinear image at 2.5 m, which
    `stage2` ignores. `generator` are keyword arguments of RRDBNet; all its upsampling modes support a factor of 10.
    """

    def __init__(self, generator: dict[str, Any], in_channels: int = RGB) -> None:
        super().__init__()
        self.generator1 = nn.Identity()  # stage 1 has no weights to train or to freeze
        self.generator2 = RRDBNet(in_channels, RGB, scale=SCALE, **generator)

    def stage1(self, x: Tensor) -> Tensor:
        """Upsample [n, in_channels, h, w] at 10 m bilinearly to [n, 3, 4h, 4w]."""
        return bilinear_rgb(x, STAGE1_SCALE)

    def stage2(self, x: Tensor, sr25: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] at 10 m to [n, 3, 10h, 10w] at 1 m."""
        return bilinear_rgb(x, SCALE) + self.generator2(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sr25 = self.stage1(x)
        return sr25, self.stage2(x, sr25)
