"""Public ESRGAN weights: random state dicts with the published names and shapes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from jointseg.models.prog_esrgan import ProgESRGAN, upsample
from jointseg.models.public_weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    initialise_from_esrgan,
    read_state_dict,
    to_rrdb_names,
)
from jointseg.models.rrdb import RRDBNet
from jointseg.runtime.errors import DataError

FEATURES, GROWTH, BLOCKS = 6, 3, 2
DENSE = [(FEATURES + n * GROWTH, GROWTH if n < 4 else FEATURES) for n in range(5)]


def convolution(inputs: int, outputs: int) -> dict[str, Tensor]:
    return {"weight": torch.randn(outputs, inputs, 3, 3) * 0.1, "bias": torch.randn(outputs) * 0.1}


def published(layout: str, upconvs: int = 2, inputs: int = 3) -> dict[str, Tensor]:
    """Return random weights of an ESRGAN generator with the names of a layout."""
    names = {
        "release": {
            "first": "conv_first",
            "dense": "RRDB_trunk.{block}.RDB{part}.conv{conv}",
            "trunk": "trunk_conv",
            "up": ["upconv1", "upconv2"],
            "hr": "HRconv",
            "last": "conv_last",
        },
        "old": {
            "first": "model.0",
            "dense": "model.1.sub.{block}.RDB{part}.conv{conv}.0",
            "trunk": f"model.1.sub.{BLOCKS}",
            "up": ["model.3", "model.6"],
            "hr": f"model.{8 if upconvs == 2 else 5}",
            "last": f"model.{10 if upconvs == 2 else 7}",
        },
        "basicsr": {
            "first": "conv_first",
            "dense": "body.{block}.rdb{part}.conv{conv}",
            "trunk": "conv_body",
            "up": ["conv_up1", "conv_up2"],
            "hr": "conv_hr",
            "last": "conv_last",
        },
    }[layout]
    layers = {names["first"]: convolution(inputs, FEATURES)}
    for block in range(BLOCKS):
        for part in range(1, 4):
            for conv, (wide, out) in enumerate(DENSE, start=1):
                layers[names["dense"].format(block=block, part=part, conv=conv)] = convolution(wide, out)
    for name in (names["trunk"], *names["up"][:upconvs], names["hr"]):
        layers[name] = convolution(FEATURES, FEATURES)
    layers[names["last"]] = convolution(FEATURES, 3)
    return {f"{name}.{kind}": value for name, layer in layers.items() for kind, value in layer.items()}


def tiny(**changes: int) -> RRDBNet:
    return RRDBNet(**{"features": FEATURES, "growth": GROWTH, "blocks": BLOCKS, "scale": 4, **changes})


@pytest.mark.parametrize("layout", ["release", "old", "basicsr"])
def test_every_layout_gives_the_same_network(layout: str) -> None:
    torch.manual_seed(0)
    weights = published(layout)
    torch.manual_seed(0)
    expected = published("release")
    renamed = to_rrdb_names(weights)
    assert set(renamed) == set(expected) == set(tiny().state_dict())
    assert all(torch.equal(renamed[name], expected[name]) for name in expected)
    tiny().load_state_dict(renamed)


@pytest.mark.parametrize("layout", ["release", "old", "basicsr"])
def test_names_of_the_published_size(layout: str) -> None:
    """64 features, growth 32, 23 blocks, as in the files RRDB_ESRGAN_x4 and RealESRGAN_x4plus."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in RRDBNet().state_dict().items()}
    block = {
        "release": "RRDB_trunk.22.RDB3.conv5",
        "old": "model.1.sub.22.RDB3.conv5.0",
        "basicsr": "body.22.rdb3.conv5",
    }
    trunk = {"release": "trunk_conv", "old": "model.1.sub.23", "basicsr": "conv_body"}
    sample = {
        f"{block[layout]}.weight": (64, 192, 3, 3),
        f"{trunk[layout]}.bias": (64,),
        **({"model.0.bias": (64,), "model.3.weight": (64, 64, 3, 3), "model.6.bias": (64,), "model.8.bias": (64,), "model.10.weight": (3, 64, 3, 3)} if layout == "old" else {}),
    }  # fmt: skip
    for name, value in to_rrdb_names({name: torch.zeros(shape) for name, shape in sample.items()}).items():
        assert shapes[name] == tuple(value.shape)


def test_the_old_layout_of_a_x2_network() -> None:
    missing, unexpected = tiny(scale=2).load_state_dict(to_rrdb_names(published("old", upconvs=1)), strict=False)
    assert missing == [] and unexpected == []


def test_the_prefix_of_parallel_training_is_removed() -> None:
    weights = {f"module.{name}": value for name, value in published("release").items()}
    assert set(to_rrdb_names(weights)) == set(tiny().state_dict())


def test_averaged_weights_have_precedence(tmp_path: Path) -> None:
    plain, averaged = published("basicsr"), published("basicsr")
    torch.save({"params": plain, "params_ema": averaged}, tmp_path / "net.pth")
    assert torch.equal(read_state_dict(tmp_path / "net.pth")["conv_first.weight"], averaged["conv_first.weight"])
    torch.save({"params": plain}, tmp_path / "plain.pth")
    assert torch.equal(read_state_dict(tmp_path / "plain.pth")["conv_first.weight"], plain["conv_first.weight"])


def test_a_file_without_weights_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08")
    for name, message in (("text.pth", "cannot be read"), ("none.pth", "cannot be read"), ("cut.safetensors", "cannot be read"), ("other.pth", "no state dict")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            read_state_dict(tmp_path / name)


@pytest.mark.parametrize(("inputs", "unshuffle", "scale"), [(3, 1, 4), (4, 1, 4), (4, 2, 2)])
def test_features_of_an_initialised_network_equal_the_published_ones(
    tmp_path: Path, inputs: int, unshuffle: int, scale: int
) -> None:
    """Away from the padded border, its features are those of the photograph in 0..1."""
    weights = published("basicsr", inputs=3 * unshuffle**2)
    save_file(weights, tmp_path / "net.safetensors")
    public, network = tiny(scale=scale, unshuffle=unshuffle), tiny(in_channels=inputs, scale=scale, unshuffle=unshuffle)
    public.load_state_dict(to_rrdb_names(weights))
    before = network.conv_last.weight.clone()
    initialise_from_esrgan(network, tmp_path / "net.safetensors")
    x = torch.randn(1, inputs, 12, 12)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    photograph = x[:, :3] * std + mean
    unshuffle_pixels = nn.PixelUnshuffle(unshuffle)
    with torch.inference_mode():
        expected, features = public.conv_first(unshuffle_pixels(photograph)), network.conv_first(unshuffle_pixels(x))
    assert features[..., 1:-1, 1:-1].allclose(expected[..., 1:-1, 1:-1], atol=1e-5)
    for name in ("trunk_conv", "upconv1", "HRconv", "RRDB_trunk.1.RDB2.conv3"):
        assert torch.equal(network.get_submodule(name).weight, public.get_submodule(name).weight)
    assert torch.equal(network.conv_last.weight, before)


def test_an_initialised_stage_1_is_near_the_bilinear_image(tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = {"features": FEATURES, "growth": GROWTH, "blocks": BLOCKS}
    network = ProgESRGAN(stage1=size, stage2={**size, "upsampling": "bilinear"})
    torch.save(published("old"), tmp_path / "net.pth")
    initialise_from_esrgan(network.generator1, tmp_path / "net.pth")
    x = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        assert (network.stage1(x) - upsample(x, 4)).abs().mean() < 0.3


@pytest.mark.parametrize(("changes", "name"), [({"features": 8}, "conv_first.weight"), ({"blocks": 3}, "RRDB_trunk.2.RDB1")])  # fmt: skip
def test_weights_of_another_size_are_an_error(tmp_path: Path, changes: dict[str, int], name: str) -> None:
    torch.save(published("release"), tmp_path / "net.pth")
    with pytest.raises(DataError, match=f"has {name}.* of shape"):
        initialise_from_esrgan(tiny(**changes), tmp_path / "net.pth")
