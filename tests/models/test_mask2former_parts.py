import copy

import pytest
import torch
from support.tiny_networks import SEGMENTER
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention

from jointseg.models import mask2former_parts
from jointseg.models.mask2former import Segmenter, build

SHIFTED = {**SEGMENTER, "depths": [2, 2, 2, 2]}
SHAPES = [(3, 5), (6, 10), (12, 20)]
PIXELS = sum(height * width for height, width in SHAPES)
N, QUERIES, HEADS, CHANNELS, POINTS = 2, 31, 3, 8, 4


@pytest.mark.parametrize(
    "spread_px", [0.1, 1.0, 40.0]
)  # standard deviation of the offsets in px: within the image and far beyond the edges
def test_deformable_sampling_equals_the_published_code(spread_px: float) -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(N, PIXELS, HEADS, CHANNELS, generator=generator)
    size = torch.tensor([[width, height] for height, width in SHAPES])[:, None]
    locations = torch.rand(N, QUERIES, HEADS, len(SHAPES), POINTS, 2, generator=generator) * size - 0.5
    locations += spread_px * torch.randn(locations.shape, generator=generator)
    weights = torch.rand(locations.shape[:-1], generator=generator)
    expected = multi_scale_deformable_attention(value, SHAPES, (locations + 0.5) / size, weights)
    result = mask2former_parts.deformable_sampling(value, SHAPES, locations, weights)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


def test_sampling_at_and_around_the_edge() -> None:
    value = torch.full((1, 4, 1, 1), 2.0)
    xs = torch.tensor([-1.5, -1.0, -0.5, 0.0, 1.0, 1.5, 2.0, 2.5])
    locations = torch.stack([xs, torch.zeros(8)], -1)[None, :, None, None, None]
    result = mask2former_parts.deformable_sampling(value, [(2, 2)], locations, torch.ones(1, 8, 1, 1, 1))
    assert result.flatten().tolist() == [0, 0, 1, 2, 2, 1, 0, 0]


def test_nan_locations_affect_only_their_own_samples() -> None:
    locations = torch.zeros(1, 3, 1, 1, 1, 2)
    locations[0, 1] = torch.nan
    locations[0, 2] = torch.inf
    result = mask2former_parts.deformable_sampling(
        torch.full((1, 4, 1, 1), 2.0), [(2, 2)], locations, torch.ones(1, 3, 1, 1, 1)
    )
    assert result[0, 0, 0] == 2 and result[0, 1].isnan().all() and result[0, 2, 0] == 0


def published(network: Segmenter) -> Segmenter:
    """Return a copy with the modules of transformers."""
    network = copy.deepcopy(network)
    origin = {replaced: original for original, replaced in mask2former_parts.REPLACEMENTS.items()}
    result = [module for module in network.modules() if type(module) in origin]
    assert {type(module) for module in result} == set(origin)
    for module in result:
        module.__class__ = origin[type(module)]
    return network


def test_the_replacements_change_no_output() -> None:
    torch.manual_seed(0)
    replaced = build(**SHIFTED).eval()
    for weight in replaced.parameters():  # the published initialisation gives a uniform attention
        weight.data += 0.05 * torch.randn(weight.shape)
    x = torch.randn(2, 3, 96, 128)
    with torch.inference_mode():
        replaced_classes, replaced_masks = replaced.final_layer(x)
        original = published(replaced).network(x)
    assert original.masks_queries_logits.std() > 0.1
    torch.testing.assert_close(replaced_classes, original.class_queries_logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(replaced_masks, original.masks_queries_logits, atol=1e-3, rtol=1e-3)


def test_gradients_equal_those_of_the_published_modules() -> None:
    def gradients(network: Segmenter) -> list[Tensor]:
        output = network.network(x)
        (output.masks_queries_logits.square().mean() + output.class_queries_logits.square().mean()).backward()
        return [weight.grad for weight in network.network.parameters() if weight.grad is not None]

    torch.manual_seed(0)
    replaced = build(**SHIFTED).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        replaced(x)  # the masks of shifted windows that are cached here must work in training too
    for result, expected in zip(gradients(replaced), gradients(published(replaced)), strict=True):
        torch.testing.assert_close(result, expected)
