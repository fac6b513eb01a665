from pathlib import Path

import pytest
import torch
from support.tiny_networks import GENERATOR

from jointseg.config.load import read_config
from jointseg.models.prog_esrgan import ProgESRGAN, bilinear_rgb, merged_dates_image, upsample
from jointseg.models.sentinel2_sensor import blur_and_downsample

PUBLISHED = {"stage1": {}, "stage2": {"upsampling": "bilinear"}}


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 3)])
def test_shapes_for_any_input_size(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        sr25, sr1 = ProgESRGAN(**GENERATOR)(torch.zeros(1, 3, *size))
    assert sr25.shape == (1, 3, 4 * size[0], 4 * size[1])
    assert sr1.shape == (1, 3, 10 * size[0], 10 * size[1])


def test_network_of_the_published_size_runs() -> None:
    network = ProgESRGAN(**PUBLISHED)
    # The second network has 6 input channels instead of 3, and one convolution less after its trunk.
    expected = 16_697_987 + (16_697_987 + 3 * 64 * 9 - (64 * 64 * 9 + 64))
    assert sum(weight.numel() for weight in network.parameters()) == expected
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 4, 4))[1].shape == (1, 3, 40, 40)


def test_without_detail_both_outputs_are_aligned_with_the_input() -> None:
    """A plane in map coordinates is the same plane on all three grids, without a shift."""
    network = ProgESRGAN(**GENERATOR)
    for generator in (network.generator1, network.generator2):
        torch.nn.init.zeros_(generator.conv_last.weight)
    east = (torch.arange(12) + 0.5) * 10
    plane = east.expand(1, 3, 12, 12)
    with torch.inference_mode():
        sr25, sr1 = network(plane)
    for image, pixel_m in ((sr25, 2.5), (sr1, 1.0)):
        centres = (torch.arange(image.shape[3]) + 0.5) * pixel_m
        inside = (centres > 15) & (centres < 105)
        assert image[0, 0, 0, inside].allclose(centres[inside], atol=1e-4)


def test_upsampling_preserves_a_constant() -> None:
    assert upsample(torch.full((1, 1, 4, 6), 0.25), 2.5).allclose(torch.full((1, 1, 10, 15), 0.25), atol=1e-6)


def test_second_stage_reads_the_sentinel2_image() -> None:
    torch.manual_seed(0)
    network = ProgESRGAN(**GENERATOR)
    sr25, first, second = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    with torch.inference_mode():
        assert not torch.equal(network.stage2(first, sr25), network.stage2(second, sr25))


@pytest.mark.parametrize("channels", [4, 5])
def test_both_stages_read_further_channels(channels: int) -> None:
    torch.manual_seed(0)
    network = ProgESRGAN(**GENERATOR, in_channels=channels)
    assert network.generator1.conv_first.weight.shape[1] == channels
    assert network.generator2.conv_first.weight.shape[1] == 4 * (3 + channels)  # after the pixel-unshuffle by 2
    x, other = torch.randn(2, 1, channels, 4, 6)
    other[:, :3] = x[:, :3]
    with torch.inference_mode():
        sr25 = network.stage1(x)
        assert network(x)[1].shape == (1, 3, 40, 60)
        assert not torch.equal(sr25, network.stage1(other))
        assert not torch.equal(network.stage2(x, sr25), network.stage2(other, sr25))
        for generator in (network.generator1, network.generator2):
            torch.nn.init.zeros_(generator.conv_last.weight)
        assert torch.equal(network(x)[0], upsample(x[:, :3], 4))
        assert torch.equal(network(other)[1], network(x)[1])


@pytest.mark.parametrize("composite_bands", [3, 4])
def test_detail_is_added_to_the_merged_dates(composite_bands: int) -> None:
    fine = torch.randn(2, 3, 8, 12)
    corners = [fine[:, :, row::2, col::2] for row in (0, 1) for col in (0, 1)]  # nw, ne, sw, se as in bands.MERGED
    x = torch.cat([torch.randn(2, composite_bands, 4, 6), *corners], 1)
    assert torch.equal(merged_dates_image(x), fine) and merged_dates_image(x[:, :composite_bands]) is None
    torch.manual_seed(0)
    network = ProgESRGAN(**GENERATOR, in_channels=composite_bands + 12)
    assert network.generator2.conv_first.weight.shape[1] == 4 * (3 + composite_bands + 3)
    other = x.clone()
    other[:, -1] += 1
    with torch.inference_mode():
        sr25 = network.stage1(x)
        assert not torch.equal(network.stage2(x, sr25), network.stage2(other, sr25))
        for generator in (network.generator1, network.generator2):
            torch.nn.init.zeros_(generator.conv_last.weight)
        assert torch.equal(network(x)[0], upsample(fine, 2)) and torch.equal(bilinear_rgb(x, 10), upsample(fine, 5))


def test_three_channels_have_the_shapes_of_older_checkpoints() -> None:
    plain, named = ProgESRGAN(**GENERATOR), ProgESRGAN(**GENERATOR, in_channels=3)
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (plain, named)]
    assert shapes[0] == shapes[1]
    assert shapes[0]["generator1.conv_first.weight"] == (8, 3, 3, 3)
    assert shapes[0]["generator2.conv_first.weight"] == (8, 24, 3, 3)


def test_channels_last_does_not_change_the_output() -> None:
    torch.manual_seed(0)
    network = ProgESRGAN(**GENERATOR).eval()
    x = torch.randn(2, 3, 6, 8)
    with torch.inference_mode():
        expected = network(x)[1]
        found = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))[1]
    assert found.allclose(expected, atol=1e-5)


@pytest.mark.parametrize("preset", ["base", "paper"])
def test_networks_of_the_production_presets_run(preset: str) -> None:
    config = read_config(Path(__file__).parents[2] / "config.yaml")
    assert config.superres is not None
    model = config.superres.presets[preset].model
    net = ProgESRGAN(**model.model_dump()).eval()
    with torch.inference_mode():
        sr25, sr1 = net(torch.zeros(1, 3, 8, 8))
    assert sr25.shape == (1, 3, 32, 32) and sr1.shape == (1, 3, 80, 80)
    if preset == "paper":
        # Twice the published 16.70 M parameters; stage 2 has six input channels and one upsampling layer less.
        assert sum(part.numel() for part in net.parameters()) == pytest.approx(2 * 16.70e6, rel=0.005)


def test_a_consistent_generator_preserves_the_colours_of_the_input() -> None:
    torch.manual_seed(3)
    x = upsample(torch.randn(2, 4, 6, 6), 4)
    plain = ProgESRGAN(**GENERATOR, in_channels=4).eval()
    consistent = ProgESRGAN(**GENERATOR, in_channels=4, consistent=True).eval()
    consistent.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for network in (plain, consistent):
            network.generator2.conv_last.bias.add_(torch.tensor([0.5, -0.3, 0.1]))
        plain_error, consistent_error = (
            blur_and_downsample(network(x)[1]) - x[:, :3] for network in (plain, consistent)
        )
    assert plain_error.mean(dim=(0, 2, 3)).abs().max() > 0.3
    assert consistent_error.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert consistent_error.std() < 0.7 * plain_error.std()
