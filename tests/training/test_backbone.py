"""The frozen networks of the perceptual loss, with random weights read from files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.tiny_networks import SEGMENTER
from torch import Tensor
from torch.nn import functional as F

from jointseg.models import checkpoint
from jointseg.runtime.errors import DataError
from jointseg.training import backbone as backbones
from jointseg.training import losses

# The convolutions of torchvision's vgg19().features by index: (inputs, outputs).
VGG19 = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256), 16: (256, 256), 19: (256, 512), **dict.fromkeys((21, 23, 25, 28, 30, 32, 34), (512, 512))}  # fmt: skip
POOLS = (4, 9, 18, 27)
NORMALISATION = {"mean": [0.1] * 3, "std": [0.05] * 3}


def vgg_weights() -> dict[str, Tensor]:
    """The state dict of a classifier in torchvision's layout, with shortened last layers."""
    torch.manual_seed(0)
    weights = {"classifier.0.weight": torch.zeros(1, 1), "classifier.0.bias": torch.zeros(1)}
    for index, (inputs, outputs) in VGG19.items():
        weights[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3) * (2 / (9 * inputs)) ** 0.5
        weights[f"features.{index}.bias"] = torch.randn(outputs) * 0.1
    return weights


def save_segmenter(path: Path, bands: int = 3) -> Path:
    torch.manual_seed(0)
    kwargs = {**SEGMENTER, "in_channels": bands}
    architecture = {"name": "mask2former", "kwargs": kwargs}
    network = checkpoint.build("mask2former", **kwargs)
    checkpoint.save(path, network, architecture=architecture, normalisation=NORMALISATION, extra={})
    return path


@pytest.mark.parametrize("name", ["vgg.pth", "vgg.safetensors"])
def test_vgg_features_are_outputs_before_activation(tmp_path: Path, name: str) -> None:
    weights = vgg_weights()
    (save_file if name.endswith("safetensors") else torch.save)(weights, tmp_path / name)
    x = torch.randn(2, 3, 32, 48)
    expected, y = [], x
    for index in range(35):
        if index in VGG19:
            y = F.conv2d(y, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1)
            expected.append(y)
        else:
            y = F.max_pool2d(y, 2) if index in POOLS else y.clamp(min=0)
    features = backbones.load("vgg19", tmp_path / name)(x)
    expected = [expected[layer] for layer in (1, 3, 7, 11, 15)]
    assert [feature.shape[1:] for feature in features] == [
        (64, 32, 48),
        (128, 16, 24),
        (256, 8, 12),
        (512, 4, 6),
        (512, 2, 3),
    ]
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_segmenter_features_are_outputs_of_its_encoder(tmp_path: Path) -> None:
    features = backbones.load("segmenter", save_segmenter(tmp_path / "s.safetensors"))(torch.randn(2, 3, 64, 96))
    assert [feature.shape[1:] for feature in features] == [(8, 16, 24), (16, 8, 12), (32, 4, 6), (64, 2, 3)]


def test_gradients_pass_through_a_frozen_backbone(tmp_path: Path) -> None:
    torch.save(vgg_weights(), tmp_path / "vgg.pth")
    paths = {
        "efficientnet_lite0": None,
        "vgg19": tmp_path / "vgg.pth",
        "segmenter": save_segmenter(tmp_path / "s.safetensors"),
    }
    for kind in backbones.KINDS:
        backbone = backbones.load(kind, paths[kind])
        assert not backbone.training and not any(weight.requires_grad for weight in backbone.parameters())
        image, other = torch.randn(1, 3, 64, 64, requires_grad=True), torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            target = backbone(other)
        loss = losses.perceptual(backbone(image), target, [1.0] * len(target))
        loss.backward()
        assert loss > 0 and image.grad is not None and image.grad.abs().sum() > 0
        assert losses.perceptual(backbone(other), target, [1.0] * len(target)) == 0


def test_an_invalid_backbone_is_an_error(tmp_path: Path) -> None:
    weights = vgg_weights()
    del weights["features.34.bias"]
    torch.save(weights, tmp_path / "cut.pth")
    cases = [
        ("alexnet", None, "choose efficientnet_lite0, vgg19, segmenter"),
        ("vgg19", None, "need a file"),
        ("efficientnet_lite0", tmp_path / "cut.pth", "must have none"),
        ("vgg19", tmp_path / "cut.pth", r"features\.34\.bias of shape None, expected \(512,\)"),
        ("vgg19", save_segmenter(tmp_path / "s.safetensors"), r"features\.0\.weight"),
        ("segmenter", save_segmenter(tmp_path / "four.safetensors", 4), "reads 4 bands"),
    ]
    for kind, path, message in cases:
        with pytest.raises(DataError, match=message):
            backbones.load(kind, path)
