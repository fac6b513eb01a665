"""Losses of super-resolution: exact values on tiny arrays."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jointseg.runtime.errors import DataError
from jointseg.training import backbone as backbones
from jointseg.training import losses


def test_l1_ignores_nodata_which_has_no_gradient() -> None:
    prediction = torch.tensor([[[[1.0, 100.0]]]], requires_grad=True)
    loss = losses.l1(prediction, torch.tensor([[[[3.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0]]]]))
    loss.backward()
    assert loss.item() == 2.0
    assert prediction.grad is not None and prediction.grad.tolist() == [[[[-1.0, 0.0]]]]


def test_l1_without_valid_pixels_is_zero() -> None:
    assert losses.l1(torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), torch.zeros(1, 1, 2, 2)).item() == 0.0


def shifted_pair(seed: int, shifts: list[tuple[int, int]], side: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise [n, 3, side, side], and the same noise shifted per sample by (rows, columns)."""
    noise = torch.randn(len(shifts), 3, side + 20, side + 20, generator=torch.Generator().manual_seed(seed))
    shifted = [
        image[:, 10 + row : 10 + row + side, 10 + col : 10 + col + side] for image, (row, col) in zip(noise, shifts)
    ]
    return noise[..., 10 : 10 + side, 10 : 10 + side], torch.stack(shifted)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=4), st.integers(0, 999))
def test_l1_is_zero_for_any_shift_up_to_the_largest(shifts: list[tuple[int, int]], seed: int) -> None:
    prediction, target = shifted_pair(seed, shifts)
    valid = torch.ones_like(target[:, :1])
    assert losses.l1(prediction, target, valid, 2).item() == 0
    # The mean absolute difference of two noise images is 1.13; at least one of four samples is shifted.
    assert (losses.l1(prediction, target, valid).item() > 0.2) == any(shift != (0, 0) for shift in shifts)


def test_l1_is_positive_for_a_larger_shift() -> None:
    prediction, target = shifted_pair(0, [(0, 3)])
    assert losses.l1(prediction, target, torch.ones_like(target[:, :1]), 2).item() > 0.5


def test_the_best_shift_depends_on_valid_pixels_and_has_the_gradient() -> None:
    prediction, target = shifted_pair(1, [(0, 0), (2, -1)])
    prediction = (prediction + 0.1).requires_grad_()
    valid = torch.ones_like(target[:, :1])
    target[0, :, 12:], valid[0, :, 12:] = 50.0, 0  # nodata must not influence the shift
    loss = losses.l1(prediction, target, valid, 2)
    loss.backward()
    assert loss.item() == pytest.approx(0.1, abs=1e-5)
    number = (10 * 20 + 20 * 20) * 3  # margins of 2 px are cut
    assert prediction.grad is not None
    grad = prediction.grad
    torch.testing.assert_close(grad[0, :, 2:12, 2:-2], torch.full((3, 10, 20), 1 / number))
    torch.testing.assert_close(grad[1, :, 4:, 1:-3], torch.full((3, 20, 20), 1 / number))
    assert not grad[0, :, 12:].any() and not grad[1, :, :4].any() and grad.count_nonzero() == number


def test_the_shortest_of_equal_shifts_and_the_error_for_a_small_patch() -> None:
    flat = torch.arange(100.0).reshape(1, 1, 10, 10)
    image, _, _ = losses.align(flat, flat, torch.zeros(1, 1, 10, 10), 3)
    assert torch.equal(image, flat[..., 3:7, 3:7])
    with pytest.raises(DataError, match="10 px cannot be shifted by 5 px"):
        losses.align(flat, flat, torch.ones(1, 1, 10, 10), 5)


def test_largest_shift_is_in_whole_pixels_of_each_grid() -> None:
    assert losses.max_shifts_px(2.0) == {"l1_2.5m": 0, "l1_1m": 2}
    assert losses.max_shifts_px(5.0) == {"l1_2.5m": 2, "l1_1m": 5}


def test_area_average_splits_the_middle_pixel_in_half() -> None:
    row = torch.tensor([[[[1.0, 2.0, 3.0, 4.0, 5.0]]]]).expand(1, 1, 5, 5)
    expected = [(1 + 2 + 1.5) / 2.5, (1.5 + 4 + 5) / 2.5]
    assert losses.area_average(row, 5, 2)[0, 0].tolist() == [pytest.approx(expected), pytest.approx(expected)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31 - 1))
def test_degradation_preserves_the_mean_exactly(rows: int, cols: int, seed: int) -> None:
    # All sums of integers in float64 are exact, so the mean is too.
    values = np.random.default_rng(seed).integers(0, 4096, (1, 3, 5 * rows, 5 * cols))
    image = torch.from_numpy(values).double()
    coarse, mask = losses.degrade_to_stage1(image, torch.ones_like(image[:, :1]))
    assert coarse.shape[-2:] == (2 * rows, 2 * cols)
    assert bool((mask == 1).all())
    torch.testing.assert_close(coarse.mean((2, 3)), image.mean((2, 3)), rtol=1e-14, atol=0)


def test_degradation_ignores_nodata_and_drops_cells_less_than_half_valid() -> None:
    image, valid = torch.full((1, 1, 5, 5), 7.0), torch.ones(1, 1, 5, 5)
    image[..., :1], valid[..., :1] = 1e6, 0  # 1.5 / 2.5 of the left cells' area stays valid
    coarse, mask = losses.degrade_to_stage1(image, valid)
    torch.testing.assert_close(coarse, torch.full((1, 1, 2, 2), 7.0))
    assert bool((mask == 1).all())
    valid[..., :2] = 0  # now 0.5 / 2.5
    assert losses.degrade_to_stage1(image, valid)[1].tolist() == [[[[0.0, 1.0], [0.0, 1.0]]]]


def test_area_average_of_a_remainder_is_an_error() -> None:
    with pytest.raises(DataError, match="multiple of 5 px"):
        losses.area_average(torch.zeros(1, 1, 5, 7), 5, 2)


def test_perceptual_is_the_weighted_sum_of_differences_over_the_targets_deviation() -> None:
    features = [torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)]
    target = [torch.tensor([[[[6.0, -2.0]]]]), torch.tensor([[[[5.0, 1.0]]]])]  # deviations 4 and 2
    assert losses.perceptual(features, target, [0.5, 2.0]).item() == pytest.approx(0.5 * 4 / 4 + 2 * 2 / 2)
    with pytest.raises(DataError, match="one weight per map"):
        losses.perceptual(features, target, [1.0])


def test_adversarial_losses_of_given_scores() -> None:
    half, mask = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    assert losses.generator_adversarial(half, mask).item() == pytest.approx(math.log(2))
    assert losses.discriminator_adversarial(half, half, mask).item() == pytest.approx(math.log(2))
    score = torch.full((1, 1, 2, 2), math.log(3.0))  # a probability of 3/4
    assert losses.generator_adversarial(score, mask).item() == pytest.approx(-math.log(0.75))
    assert losses.discriminator_adversarial(score, -score, mask).item() == pytest.approx(-math.log(0.75))


def test_adversarial_losses_ignore_nodata() -> None:
    scores, mask = torch.tensor([[[[0.0, 50.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    assert losses.discriminator_adversarial(scores, scores, mask).item() == pytest.approx(math.log(2))
    assert losses.generator_adversarial(-scores, mask).item() == pytest.approx(math.log(2))


def test_discriminator_accuracy_counts_real_and_generated_images() -> None:
    real, fake = torch.tensor([[[[1.0, -1.0]]]]), torch.tensor([[[[-1.0, -1.0]]]])
    assert losses.discriminator_accuracy(real, fake, torch.ones(1, 1, 1, 2)) == 0.75
    assert losses.discriminator_accuracy(real, fake, torch.tensor([[[[1.0, 0.0]]]])) == 1.0


def test_psnr_of_a_constant_error() -> None:
    total, count = losses.squared_error(torch.full((1, 3, 2, 2), 0.1), torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2))
    assert count == 12
    assert losses.psnr(total, count) == pytest.approx(20.0)
    assert math.isnan(losses.psnr(0.0, 0.0))


def test_backbone_has_features_at_strides_2_4_8_and_is_frozen() -> None:
    backbone = backbones.load("efficientnet_lite0")
    features = backbone(torch.zeros(1, 3, 40, 48))
    assert [tuple(f.shape) for f in features] == [(1, 16, 20, 24), (1, 24, 10, 12), (1, 40, 5, 6)]
    assert not any(weight.requires_grad for weight in backbone.parameters())


def test_perceptual_loss_is_larger_for_lost_texture_than_for_a_shift_of_brightness() -> None:
    # Trained weights are more sensitive to texture than to a uniform change of the same mean size.
    torch.manual_seed(0)
    backbone = backbones.load("efficientnet_lite0")
    image = torch.randn(1, 3, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect"), 5, 1)
    shifted = image + (image - blurred).abs().mean()
    weights = [1.0, 1.0, 1.0]
    target = backbone(image)
    blur_loss = losses.perceptual(backbone(blurred), target, weights)
    assert blur_loss > 2 * losses.perceptual(backbone(shifted), target, weights)
