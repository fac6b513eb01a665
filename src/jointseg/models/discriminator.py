"""The U-Net discriminator with spectral normalisation of Real-ESRGAN (Wang et al. 2021)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

NEGATIVE_SLOPE = 0.2


class UNetDiscriminator(nn.Module):
    """Map an image [n, in_channels, h, w] to one realness logit per pixel [n, 1, h, w]; h, w are multiples of 8."""

    def __init__(self, in_channels: int = 3, features: int = 64) -> None:
        super().__init__()
        f = features
        self.conv0 = nn.Conv2d(in_channels, f, 3, padding=1)
        self.conv1 = spectral_norm(nn.Conv2d(f, 2 * f, 4, stride=2, padding=1, bias=False))
        self.conv2 = spectral_norm(nn.Conv2d(2 * f, 4 * f, 4, stride=2, padding=1, bias=False))
        self.conv3 = spectral_norm(nn.Conv2d(4 * f, 8 * f, 4, stride=2, padding=1, bias=False))
        self.conv4 = spectral_norm(nn.Conv2d(8 * f, 4 * f, 3, padding=1, bias=False))
        self.conv5 = spectral_norm(nn.Conv2d(4 * f, 2 * f, 3, padding=1, bias=False))
        self.conv6 = spectral_norm(nn.Conv2d(2 * f, f, 3, padding=1, bias=False))
        self.conv7 = spectral_norm(nn.Conv2d(f, f, 3, padding=1, bias=False))
        self.conv8 = spectral_norm(nn.Conv2d(f, f, 3, padding=1, bias=False))
        self.conv9 = nn.Conv2d(f, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x0 = F.leaky_relu(self.conv0(x), NEGATIVE_SLOPE)
        x1 = F.leaky_relu(self.conv1(x0), NEGATIVE_SLOPE)
        x2 = F.leaky_relu(self.conv2(x1), NEGATIVE_SLOPE)
        y = F.leaky_relu(self.conv3(x2), NEGATIVE_SLOPE)
        for conv, skip in ((self.conv4, x2), (self.conv5, x1), (self.conv6, x0)):
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            y = F.leaky_relu(conv(y), NEGATIVE_SLOPE) + skip
        y = F.leaky_relu(self.conv7(y), NEGATIVE_SLOPE)
        return self.conv9(F.leaky_relu(self.conv8(y), NEGATIVE_SLOPE))


def pair(scales: Sequence[str], in_channels: int = 3, features: int = 64) -> nn.ModuleDict:
    """Return one discriminator per scale of the generator, such as "2_5m" and "1m"."""
    return nn.ModuleDict({scale: UNetDiscriminator(in_channels, features) for scale in scales})
