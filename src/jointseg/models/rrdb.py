"""RRDBNet, the residual-in-residual dense network of ESRGAN (Wang et al. 2018), with cheaper upsampling."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointseg.runtime.errors import DataError

RESIDUAL_SCALE = 0.2
NEGATIVE_SLOPE = 0.2
INITIAL_SCALE = 0.1
NEAREST = {2: (2,), 4: (2, 2), 10: (2, 5)}  # upsampling factors of "nearest" and their steps


class DenseBlock(nn.Module):
    """Five densely connected 3x3 convolutions; input and output [n, features, h, w]."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        stack = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            stack = torch.cat((stack, F.leaky_relu_(conv(stack), NEGATIVE_SLOPE)), 1)
        return torch.add(x, self.conv5(stack), alpha=RESIDUAL_SCALE)


class RRDB(nn.Module):
    """Three dense blocks with one scaled residual connection."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(features, growth)
        self.RDB2 = DenseBlock(features, growth)
        self.RDB3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.RDB3(self.RDB2(self.RDB1(x))), alpha=RESIDUAL_SCALE)


class RRDBNet(nn.Module):
    """Map [n, in_channels, h, w] to [n, out_channels, h * scale, w * scale]; state-dict keys as in the ESRGAN release.

    Raises DataError if the upsampling mode does not support the factor.

    Args:
        unshuffle: the trunk runs on a grid this much coarser than the input; h and w must be multiples of it.
        upsampling: from the trunk's grid to the output grid, by the factor scale x unshuffle.
            "nearest": one or two steps with a convolution after each, for a factor of 2, 4 (as published) or 10;
            "shuffle": one convolution and a pixel shuffle, for any integer factor; cheapest;
            "bilinear": one interpolation by any factor, then a convolution.
        tail: channels on the output grid of "shuffle" and "bilinear"; default `features`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        features: int = 64,
        growth: int = 32,
        blocks: int = 23,
        scale: float = 4,
        unshuffle: int = 1,
        upsampling: str = "nearest",
        tail: int | None = None,
    ) -> None:
        super().__init__()
        self.unshuffle, self.upsampling = unshuffle, upsampling
        self.factor = scale * unshuffle
        tail = features if tail is None else tail
        self.conv_first = nn.Conv2d(in_channels * unshuffle**2, features, 3, padding=1)
        self.RRDB_trunk = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.trunk_conv = nn.Conv2d(features, features, 3, padding=1)
        if upsampling == "nearest" and self.factor in NEAREST:
            tail = features
            self.upconv1 = nn.Conv2d(features, features, 3, padding=1)
            if len(NEAREST[int(self.factor)]) > 1:
                self.upconv2 = nn.Conv2d(features, features, 3, padding=1)
        elif upsampling == "shuffle" and self.factor == int(self.factor):
            self.upconv1 = nn.Conv2d(features, tail * int(self.factor) ** 2, 3, padding=1)
        elif upsampling == "bilinear":
            self.upconv1 = nn.Conv2d(features, tail, 3, padding=1)
        else:
            raise DataError(
                f"RRDBNet: upsampling '{upsampling}' does not support a factor of {self.factor} (scale x unshuffle); "
                "'nearest' supports 2, 4 or 10, 'shuffle' any integer, 'bilinear' any number"
            )
        self.HRconv = nn.Conv2d(tail, tail, 3, padding=1)
        self.conv_last = nn.Conv2d(tail, out_channels, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """Initialise with a tenth of He's weights, which keeps a deep residual trunk near the identity (ESRGAN, 3.1)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0, mode="fan_in")
                with torch.no_grad():
                    module.weight.mul_(INITIAL_SCALE)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        if self.upsampling == "shuffle":
            # Equal initial weights for the pixels of a shuffled block avoid a checkerboard (ICNR, Aitken et al. 2017).
            block = int(self.factor) ** 2
            with torch.no_grad():
                self.upconv1.weight.copy_(self.upconv1.weight[::block].repeat_interleave(block, 0))

    def _upsample(self, x: Tensor) -> Tensor:
        if self.upsampling == "shuffle":
            return F.pixel_shuffle(self.upconv1(x), int(self.factor))
        if self.upsampling == "bilinear":
            return self.upconv1(F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False))
        first, *second = NEAREST[int(self.factor)]
        x = self.upconv1(F.interpolate(x, scale_factor=first, mode="nearest"))
        for factor in second:
            x = self.upconv2(F.interpolate(F.leaky_relu(x, NEGATIVE_SLOPE), scale_factor=factor, mode="nearest"))
        return x

    def forward(self, x: Tensor) -> Tensor:
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        first = self.conv_first(x)
        x = first + self.trunk_conv(self.RRDB_trunk(first))
        x = F.leaky_relu(self._upsample(x), NEGATIVE_SLOPE)
        return self.conv_last(F.leaky_relu_(self.HRconv(x), NEGATIVE_SLOPE))
