"""Baseline networks of Prog-ESRGAN followed by Mask2Former."""

from typing import Any

import pytest
import torch
from support.tiny_networks import GENERATOR

from jointseg.models.checkpoint import build
from jointseg.models.direct_segmenter import DirectSegmenter
from jointseg.models.mask_loss import LossWeights
from jointseg.models.prog_esrgan import ProgESRGAN, upsample
from jointseg.models.single_esrgan import SingleESRGAN

TRUNK: dict[str, Any] = {"features": 8, "growth": 4, "blocks": 2, "upsampling": "shuffle", "tail": 4}
PUBLISHED: dict[str, Any] = {"features": 64, "growth": 32, "blocks": 46}


def size(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("upsampling", ["nearest", "shuffle", "bilinear"])
def test_single_esrgan_has_the_shapes_of_prog_esrgan(upsampling: str) -> None:
    single = build("single_esrgan", generator={**TRUNK, "upsampling": upsampling}, in_channels=4)
    x = torch.randn(2, 4, 5, 7)
    with torch.inference_mode():
        images, expected = single(x), ProgESRGAN(**GENERATOR, in_channels=4)(x)
    assert [image.shape for image in images] == [image.shape for image in expected]


def test_single_esrgan_adds_detail_to_the_bilinear_image() -> None:
    single = SingleESRGAN(TRUNK)
    torch.nn.init.zeros_(single.generator2.conv_last.weight)
    x = torch.randn(1, 3, 6, 6)
    with torch.inference_mode():
        sr25, sr1 = single(x)
    assert torch.equal(sr25, upsample(x, 4)) and torch.equal(sr1, upsample(x, 10))


def test_single_esrgan_has_no_weights_at_2_5_m() -> None:
    single = SingleESRGAN(TRUNK)
    single.generator1.requires_grad_(False)
    single.generator2.requires_grad_(True)
    assert all(weight.requires_grad for weight in single.parameters())


@pytest.mark.parametrize(("scale", "size_px"), [(4, (5, 7)), (5, (6, 6)), (10, (3, 5))])
def test_direct_segmenter_maps_10_m_to_1_m(scale: int, size_px: tuple[int, int]) -> None:
    network = build("direct", trunk=TRUNK, in_channels=4, scale=scale)
    with torch.inference_mode():
        probability = network(torch.randn(2, 4, *size_px))
    assert probability.shape == (2, 1, 10 * size_px[0], 10 * size_px[1])
    assert 0 < probability.min() <= probability.max() < 1


def test_direct_segmenter_learns_and_ignores_unlabelled_pixels() -> None:
    torch.manual_seed(0)
    network = DirectSegmenter(TRUNK)
    x = torch.full((2, 3, 6, 6), -1.0)
    x[:, :, :, 3:] = 1.0
    label = torch.zeros(2, 60, 60, dtype=torch.uint8)
    label[:, :, 30:] = 1
    label[:, :20] = 255
    relabelled = torch.where(label == 255, 0, label)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = network.loss(x, label, LossWeights(), [])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    loss = network.loss(x, label, LossWeights(), [])
    assert network.loss(x, relabelled, LossWeights(), []) > loss
    with torch.inference_mode():
        probability = network(x)[0, 0]
    assert probability[30:, 35:].min() > 0.5 > probability[30:, :25].max()


def test_published_sizes_of_the_baselines_equal_both_stages_together() -> None:
    """46 blocks instead of 23 + 23 are within one per cent of 2 x 16.70 M parameters."""
    with torch.device("meta"):
        two = size(ProgESRGAN(stage1={}, stage2={"upsampling": "bilinear"}))
        assert size(SingleESRGAN(PUBLISHED)) == pytest.approx(two, rel=0.01)
        assert size(DirectSegmenter(PUBLISHED)) == pytest.approx(two, rel=0.01)
