"""Prog-ESRGAN: two generators, 10 m to 2.5 m to 1 m; both read the Sentinel-2 image."""

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
MERGED_CHANNELS = MERGED_FACTOR**2 * RGB  # the last channels of an input with merged dates


def upsample(x: Tensor, factor: float) -> Tensor:
    """Upsample [n, c, h, w] bilinearly to [n, c, h * factor, w * factor]; pixel edges (not centres) are aligned."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def merged_dates_image(x: Tensor) -> Tensor | None:
    """Return the merged dates of [n, channels, h, w] as an RGB image [n, 3, 2h, 2w] at 5 m; None if x has none.

    They are the last channels of x: RGB of the north-western 5 m pixel, then of the north-eastern, south-western and
    south-eastern pixel.
    """
    if x.shape[1] < RGB + MERGED_CHANNELS:
        return None
    by_band = x[:, -MERGED_CHANNELS:].unflatten(1, (MERGED_FACTOR**2, RGB)).transpose(1, 2).flatten(1, 2)
    return F.pixel_shuffle(by_band, MERGED_FACTOR)


def bilinear_rgb(x: Tensor, scale: float) -> Tensor:
    """Upsample the finest RGB image in [n, channels, h, w], merged dates or composite, to [n, 3, h * scale, w * scale]."""
    finer = merged_dates_image(x)
    return upsample(x[:, :RGB], scale) if finer is None else upsample(finer, scale / MERGED_FACTOR)


def segmenter_input(image: Tensor, x: Tensor, channels: int) -> Tensor:
    """Return the input of a segmenter: RGB [n, 3, 10h, 10w]; for 4 channels with near infrared of x [n, bands, h, w]."""
    scale = image.shape[2] // x.shape[2]
    return image if channels == RGB else torch.cat((image, upsample(x[:, RGB:channels], scale)), 1)


class ProgESRGAN(nn.Module):
    """Map a normalised Sentinel-2 image at 10 m to RGB at 2.5 m [n, 3, 4h, 4w] and 1 m [n, 3, 10h, 10w], any h and w.

    The input [n, in_channels, h, w] starts with red, green and blue (B04 B03 B02). Both generators also read the
    channels after them, B08 or merged dates (see `merged_dates_image`). Each generator adds detail to the bilinearly
    upsampled finest RGB image of its input, so training starts at that image instead of at noise. The second generator
    reads the output of the first with the Sentinel-2 image upsampled x4, merged dates as one image.

    Args:
        stage1, stage2: keyword arguments of RRDBNet: features, growth, blocks, unshuffle, upsampling, tail. With
            `unshuffle: 2`, the trunk of stage 2 runs at 5 m, from which 1 m is an integer factor.
        consistent: add the difference between the input and the simulated Sentinel-2 image of the output, upsampled
            (one step of back-projection, Irani and Peleg 1991). The colours of the input are then preserved on land
            cover that the training data lack.
    """

    def __init__(
        self, stage1: dict[str, Any], stage2: dict[str, Any], in_channels: int = RGB, consistent: bool = False
    ) -> None:
        super().__init__()
        self.consistent = consistent
        channels = in_channels - MERGED_CHANNELS + RGB if in_channels >= RGB + MERGED_CHANNELS else in_channels
        self.generator1 = RRDBNet(in_channels, RGB, scale=STAGE1_SCALE, **stage1)
        self.generator2 = RRDBNet(RGB + channels, RGB, scale=STAGE2_SCALE, **stage2)

    def stage1(self, x: Tensor) -> Tensor:
        """Map [n, in_channels, h, w] at 10 m to [n, 3, 4h, 4w] at 2.5 m."""
        return bilinear_rgb(x, STAGE1_SCALE) + self.generator1(x)

    def stage2(self, x: Tensor, sr25: Tensor) -> Tensor:
        """Map the 10 m image and its 2.5 m version [n, 3, 4h, 4w] to [n, 3, 10h, 10w] at 1 m."""
        finer = merged_dates_image(x)
        composite = x if finer is None else x[:, :-MERGED_CHANNELS]
        inputs = [
            upsample(composite, STAGE1_SCALE),
            *([] if finer is None else [upsample(finer, STAGE1_SCALE / MERGED_FACTOR)]),
        ]
        image = upsample(sr25, STAGE2_SCALE) + self.generator2(torch.cat((sr25, *inputs), 1))
        if not self.consistent:
            return image
        # In float32, because the two images hardly differ.
        with torch.autocast(image.device.type, enabled=False):
            missing = x[:, :RGB].float() - blur_and_downsample(image.float())
            return image.float() + upsample(missing, SCALE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sr25 = self.stage1(x)
        return sr25, self.stage2(x, sr25)
