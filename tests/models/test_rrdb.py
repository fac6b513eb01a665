import pytest
import torch

from jointseg.models.rrdb import RRDBNet
from jointseg.runtime.errors import DataError


def test_published_size_has_the_published_number_of_parameters() -> None:
    assert sum(weight.numel() for weight in RRDBNet().parameters()) == 16_697_987


def test_state_dict_keys_are_those_of_the_esrgan_release() -> None:
    keys = {
        key.removesuffix(".weight") for key in RRDBNet(features=4, growth=2, blocks=2).state_dict() if "weight" in key
    }
    dense = {f"RRDB_trunk.{n}.RDB{d}.conv{c}" for n in range(2) for d in range(1, 4) for c in range(1, 6)}
    assert keys == dense | {"conv_first", "trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last"}


@pytest.mark.parametrize(
    ("scale", "unshuffle", "upsampling", "size"),
    [
        (4, 1, "nearest", (5, 7)),
        (1, 2, "nearest", (4, 6)),
        (10, 1, "nearest", (3, 4)),
        (4, 1, "shuffle", (5, 7)),
        (2.5, 2, "shuffle", (4, 6)),
        (2.5, 1, "bilinear", (4, 6)),
    ],
)
def test_output_is_scale_times_the_input(scale: float, unshuffle: int, upsampling: str, size: tuple[int, int]) -> None:
    network = RRDBNet(2, 3, 4, 2, 1, scale=scale, unshuffle=unshuffle, upsampling=upsampling)
    with torch.inference_mode():
        assert network(torch.zeros(2, 2, *size)).shape == (2, 3, int(size[0] * scale), int(size[1] * scale))


@pytest.mark.parametrize(("scale", "upsampling"), [(2.5, "nearest"), (2.5, "shuffle"), (4, "bicubic")])
def test_a_factor_that_a_mode_does_not_support_is_an_error(scale: float, upsampling: str) -> None:
    with pytest.raises(DataError, match=f"'{upsampling}' does not support a factor of {scale}"):
        RRDBNet(scale=scale, upsampling=upsampling, blocks=1)


def test_initial_weights_are_a_tenth_of_he_initialisation() -> None:
    torch.manual_seed(0)
    weight = RRDBNet(blocks=1).trunk_conv.weight
    assert weight.std().item() == pytest.approx(0.1 * (2 / (64 * 9)) ** 0.5, rel=0.02)


def test_residual_scale_is_a_fifth() -> None:
    network = RRDBNet(1, 1, features=1, growth=1, blocks=1)
    block = network.RRDB_trunk[0].RDB1
    torch.nn.init.zeros_(block.conv5.weight)
    torch.nn.init.ones_(block.conv5.bias)
    assert block(torch.full((1, 1, 2, 2), 3.0)).allclose(torch.tensor(3.2))


def test_shuffled_blocks_start_without_a_checkerboard() -> None:
    net = RRDBNet(3, 3, features=8, growth=4, blocks=1, scale=4, upsampling="shuffle", tail=4)
    blocks = net._upsample(torch.randn(1, 8, 3, 3)).unfold(2, 4, 4).unfold(3, 4, 4)
    assert torch.allclose(blocks, blocks[..., :1, :1].expand_as(blocks))
