"""Prog-ESRGAN: two generators in a row, 10 m -> 2.5 m -> 1 m, the second seeing the Sentinel-2 image again."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointseg.models.rrdb import RRDBNet
from jointseg.models.sentinel2_sensor import SCALE, blur_and_downsample

STAGE1_SCALE = 4
STAGE2_SCALE = 2.5
RGB = 3  # the first channels of every input: B04 B03 B02
MERGED_FACTOR = 2  # 5 m pixels of merged dates along the side of a 10 m pixel
MERGED_CHANNELS = MERGED_FACTOR**2 * RGB  # the last channels of an input that has them


def upsample(x: Tensor, factor: float) -> Tensor:
    """Bilinear upsampling [n, c, h, w] -> [n, c, h * factor, w * factor], pixel edges (not centres) aligned."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def merged_dates_image(x: Tensor) -> Tensor | None:
    """The merged dates of [n, channels, h, w] as one image [n, 3, 2h, 2w] at 5 m; None where x has none.

    They are its last channels, the RGB of the north-western 5 m pixel, then of the north-eastern, south-western and
    south-eastern one.
    """
    if x.shape[1] < RGB + MERGED_CHANNELS:
        return None
    by_band = x[:, -MERGED_CHANNELS:].unflatten(1, (MERGED_FACTOR**2, RGB)).transpose(1, 2).flatten(1, 2)
    return F.pixel_shuffle(by_band, MERGED_FACTOR)


def bilinear_rgb(x: Tensor, scale: float) -> Tensor:
    """The finest RGB image that [n, channels, h, w] holds, [n, 3, h * scale, w * scale]: merged dates, else the first."""
    finer = merged_dates_image(x)
    return upsample(x[:, :RGB], scale) if finer is None else upsample(finer, scale / MERGED_FACTOR)


def segmenter_input(image: Tensor, x: Tensor, channels: int) -> Tensor:
    """What a segmenter of 3 or 4 channels reads: RGB [n, 3, 10h, 10w], and for 4 the near infrared of x [n, bands, h, w]."""
    scale = image.shape[2] // x.shape[2]
    return image if channels == RGB else torch.cat((image, upsample(x[:, RGB:channels], scale)), 1)


class ProgESRGAN(nn.Module):
    """Normalised Sentinel-2 image at 10 m -> RGB at (2.5 m [n, 3, 4h, 4w], 1 m [n, 3, 10h, 10w]), any h and w.

    The input [n, in_channels, h, w] begins with red, green and blue (B04 B03 B02); what follows, B08 or merged dates
    (see `merged`), is seen by both generators. Each adds its detail to a bilinear upsampling of the finest RGB image it
    receives, so training starts at that image instead of at noise. The second one takes the first one's output with
    the Sentinel-2 image upsampled x4 beside it, merged dates as one image. `stage1` and `stage2` are keyword arguments
    of RRDBNet: features, growth, blocks, unshuffle, upsampling, tail. A 2.5 m grid halves to 5 m with `unshuffle: 2`,
    from where 1 m is a whole factor.

    A `consistent` generator adds, at the end, what the Sentinel-2 image has and its own image, seen by Sentinel-2, has not
    (one step of back-projection, Irani and Peleg 1991): so colours stay those of the input on ground unlike that of the
    training.
    """

    def __init__(
        self, stage1: dict[str, Any], stage2: dict[str, Any], in_channels: int = RGB, consistent: bool = False
    ) -> None:
        super().__init__()
        self.consistent = consistent
        seen = in_channels - MERGED_CHANNELS + RGB if in_channels >= RGB + MERGED_CHANNELS else in_channels
        self.generator1 = RRDBNet(in_channels, RGB, scale=STAGE1_SCALE, **stage1)
        self.generator2 = RRDBNet(RGB + seen, RGB, scale=STAGE2_SCALE, **stage2)

    def stage1(self, x: Tensor) -> Tensor:
        """[n, in_channels, h, w] at 10 m -> [n, 3, 4h, 4w] at 2.5 m."""
        return bilinear_rgb(x, STAGE1_SCALE) + self.generator1(x)

    def stage2(self, x: Tensor, sr25: Tensor) -> Tensor:
        """The 10 m image and its 2.5 m version [n, 3, 4h, 4w] -> [n, 3, 10h, 10w] at 1 m."""
        finer = merged_dates_image(x)
        own = x if finer is None else x[:, :-MERGED_CHANNELS]
        seen = [
            upsample(own, STAGE1_SCALE),
            *([] if finer is None else [upsample(finer, STAGE1_SCALE / MERGED_FACTOR)]),
        ]
        image = upsample(sr25, STAGE2_SCALE) + self.generator2(torch.cat((sr25, *seen), 1))
        if not self.consistent:
            return image
        # In full precision: what is told apart are images that hardly differ.
        with torch.autocast(image.device.type, enabled=False):
            missing = x[:, :RGB].float() - blur_and_downsample(image.float())
            return image.float() + upsample(missing, SCALE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sr25 = self.stage1(x)
        return sr25, self.stage2(x, sr25)
