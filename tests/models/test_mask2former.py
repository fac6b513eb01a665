from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_networks import SEGMENTER
from transformers.models.mask2former.modeling_mask2former import Mask2FormerHungarianMatcher

from jointseg.config.load import read_config
from jointseg.models.mask2former import Segmenter, build
from jointseg.models.mask_loss import LossWeights, dense_loss, layer_loss, match_queries, sample_points, set_loss

PAPER = {
    "embed_dim": 192,
    "depths": [2, 2, 18, 2],
    "heads": [6, 12, 24, 48],
    "window": 12,
    "drop_path": 0.3,
    "hidden_dim": 256,
    "encoder_layers": 6,
    "encoder_feedforward": 1024,
    "decoder_layers": 9,
    "feedforward": 2048,
    "attention_heads": 8,
    "queries": 100,
}
WEIGHTS = LossWeights(points=128)


@pytest.fixture
def tiny() -> Segmenter:
    torch.manual_seed(0)
    return build(**SEGMENTER).eval()


def generators(images: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(image) for image in range(images)]


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (50, 33), (320, 320)])
def test_probabilities_have_the_size_of_the_input(tiny: Segmenter, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        probability = tiny(torch.randn(1, 3, *size))
    assert probability.shape == (1, 1, *size)
    assert 0 <= probability.min() <= probability.max() <= 1


def test_output_does_not_depend_on_the_batch_size(tiny: Segmenter) -> None:
    x = torch.randn(5, 3, 64, 64)
    with torch.inference_mode():
        batched, single = tiny(x), torch.cat([tiny(x[n : n + 1]) for n in range(5)])
    assert batched.allclose(single, atol=1e-5)  # rounding depends on the size of matrix products


@pytest.mark.slow
def test_network_of_the_paper_runs() -> None:
    network = build(**PAPER).eval()
    assert 210e6 < sum(weight.numel() for weight in network.parameters()) < 220e6
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("bands", [3, 4])
def test_rgb_with_and_without_near_infrared(bands: int) -> None:
    torch.manual_seed(0)
    network = build(**SEGMENTER, in_channels=bands)
    x, other = torch.randn(2, 1, bands, 64, 64)
    other[:, :3] = x[:, :3]
    label = torch.randint(0, 2, (1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(network(x), network(other)) is (bands == 3)
    assert network.loss(x, label, WEIGHTS, generators(len(x))).isfinite()


# Published for 1000 classes: 28 M, 88 M and 197 M (Liu et al. 2021, tables 1 and 5); exact numbers of T and B are
# torchvision's; L has larger tables of relative positions with a window of 12 than with 7.
@pytest.mark.parametrize(
    ("backbone", "published"),
    [
        ({"embed_dim": 96, "depths": [2, 2, 6, 2], "heads": [3, 6, 12, 24], "window": 7}, 28_288_354),
        ({"embed_dim": 128, "depths": [2, 2, 18, 2], "heads": [4, 8, 16, 32], "window": 7}, 87_768_224),
        ({"embed_dim": 192, "depths": [2, 2, 18, 2], "heads": [6, 12, 24, 48], "window": 12}, 196_735_516),
    ],
    ids=["Swin-T", "Swin-B", "Swin-L"],
)
def test_backbones_have_the_published_size(backbone: dict[str, Any], published: int) -> None:
    with torch.device("meta"):
        encoder = build(**{**PAPER, **backbone}).network.model.pixel_level_module.encoder
    head = 1000 * 8 * backbone["embed_dim"] + 1000
    # Each feature map has a normalisation layer, in addition to that of the classifier.
    norms = sum(value.numel() for name, value in encoder.named_parameters() if "hidden_states_norms" in name)
    assert norms == sum(2 * backbone["embed_dim"] * 2**stage for stage in range(4))
    assert sum(value.numel() for value in encoder.parameters()) - norms == published - head


# 47 M and 215 M: Mask2Former's model zoo for semantic segmentation (Cheng et al. 2022, table 4).
@pytest.mark.parametrize(("preset", "millions"), [("small", 1.56), ("base", 47), ("paper", 215)])
def test_presets_of_the_production_config_have_the_published_size(preset: str, millions: float) -> None:
    config = read_config(Path(__file__).parents[2] / "config.yaml")
    assert config.segmentation is not None
    with torch.device("meta"):
        network = build(**config.segmentation.presets[preset].model.model_dump())
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_masks_at_the_size_of_attention_give_the_published_map(tiny: Segmenter) -> None:
    """Equal except for rounding, which rarely changes the sign of a mask near 0."""
    torch.manual_seed(5)
    x = torch.randn(2, 3, 128, 160)
    with torch.no_grad():
        output = tiny.network(pixel_values=x)
        published = tiny._logit(output.class_queries_logits, output.masks_queries_logits, x.shape[2:]).sigmoid()
        predicted = tiny(x)
    with ThreadPoolExecutor(2) as pool:
        flipped = [x, x.flip(3)] * 3
        results = list(pool.map(torch.no_grad()(tiny), flipped))
    assert all((result - predicted).abs().max() < 1e-5 for result in results[::2]), "threads share no state"
    assert (predicted - published).abs().max() < 1e-4
    assert published.std() > 1e-3


def test_semantic_map_is_the_sum_over_queries() -> None:
    classes = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]])
    masks = torch.tensor([0.5, -1.0]).reshape(1, 2, 1, 1)
    probability = classes.softmax(2)[0]
    inside = masks.sigmoid().flatten()
    zero, one = (float((probability[:, value] * inside).sum()) for value in (0, 1))
    logit = Segmenter._logit(classes, masks, (1, 1))
    assert logit.sigmoid().item() == pytest.approx(one / (zero + one), abs=1e-5)


def test_points_are_sampled_at_pixel_centres() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    centres = torch.tensor([[[0.5 / 3, 0.25], [2.5 / 3, 0.75]]])
    assert sample_points(x, centres).flatten().tolist() == pytest.approx([0, 5], abs=1e-5)
    assert sample_points(x, centres, "nearest").flatten().tolist() == [0, 5]


def halves() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query 2 predicts class 1 in the left half, query 0 class 0 in the right half, query 1 no object."""
    label = torch.zeros(1, 16, 16, dtype=torch.uint8)
    label[:, :, :8] = 1
    left = torch.where(label[0] == 1, 9.0, -9.0)
    masks = torch.stack((-left, torch.full_like(left, -9.0), left)).unsqueeze(0)
    classes = torch.tensor([[[9.0, -9.0, -9.0], [-9.0, -9.0, 9.0], [-9.0, 9.0, -9.0]]])
    return classes, masks, label


def test_queries_are_matched_to_their_classes() -> None:
    image, query, value = match_queries(*halves(), WEIGHTS, generators(1))
    assert sorted(zip(image.tolist(), query.tolist(), value.tolist(), strict=True)) == [(0, 0, 0), (0, 2, 1)]


def test_matching_agrees_with_transformers() -> None:
    torch.manual_seed(3)  # the costs of the queries differ by more than the sampling error of the points
    label = torch.randint(0, 2, (4, 16, 16), dtype=torch.uint8)
    classes = 2 * torch.randn(4, 6, 3)
    masks = torch.randn(4, 6, 16, 16) + 2 * torch.randn(4, 6, 1, 1) * (label.float() - 0.5).unsqueeze(1)
    image, query, value = match_queries(classes, masks, label, LossWeights(points=20000), generators(4))
    reference = Mask2FormerHungarianMatcher(cost_class=2.0, cost_mask=5.0, cost_dice=5.0, num_points=20000)
    targets = [torch.stack([(image == 0), (image == 1)]).float() for image in label]
    for n, (rows, columns) in enumerate(reference(masks, classes, targets, [torch.tensor([0, 1])] * 4)):
        matched = dict(zip(value[image == n].tolist(), query[image == n].tolist(), strict=True))
        assert matched == dict(zip(columns.tolist(), rows.tolist(), strict=True))


def test_a_perfect_prediction_has_a_small_loss() -> None:
    assert layer_loss(*halves(), WEIGHTS, generators(1)).item() < 0.5
    classes, masks, label = halves()
    assert layer_loss(classes, -masks, label, WEIGHTS, generators(1)).item() > 20


def test_unlabelled_pixels_have_no_gradient() -> None:
    torch.manual_seed(0)
    label = torch.randint(0, 2, (2, 16, 16), dtype=torch.uint8)
    label[:, 5:] = 255
    masks = torch.randn(2, 4, 16, 16, requires_grad=True)
    logit = torch.randn(2, 1, 16, 16, requires_grad=True)
    loss = layer_loss(torch.randn(2, 4, 3), masks, label, WEIGHTS, generators(2)) + dense_loss(logit, label)
    loss.backward()
    assert masks.grad is not None and logit.grad is not None
    assert masks.grad[:, :, :5].any() and not masks.grad[:, :, 6:].any()  # row 5 is half a bilinear sample away
    assert logit.grad[:, :, :5].all() and not logit.grad[:, :, 5:].any()


def test_an_image_without_labelled_pixels_has_no_loss() -> None:
    label = torch.full((1, 16, 16), 255, dtype=torch.uint8)
    classes, masks = torch.randn(1, 4, 3, requires_grad=True), torch.randn(1, 4, 16, 16)
    loss = set_loss([(classes, masks)], label, WEIGHTS, generators(1))
    loss.backward()
    assert loss.item() == 0 and classes.grad is not None and not classes.grad.any()


def test_loss_is_the_same_for_the_same_seed(tiny: Segmenter) -> None:
    x, label = torch.randn(2, 3, 64, 64), torch.randint(0, 2, (2, 64, 64), dtype=torch.uint8)
    first, second = (tiny.loss(x, label, WEIGHTS, generators(2)).item() for _ in range(2))
    assert first == second
    assert first != tiny.loss(x, label, WEIGHTS, generators(3)[1:]).item()
