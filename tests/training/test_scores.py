"""Scores of super-resolution compared with independent implementations and on constructed images."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from jointseg.dataset import resample
from jointseg.models.prog_esrgan import upsample
from jointseg.models.sentinel2_sensor import simulate_sentinel2
from jointseg.runtime.errors import DataError
from jointseg.training import backbone as backbones
from jointseg.training import scores
from jointseg.training.backbone import Backbone

SIDE = 120


@pytest.fixture
def high() -> Tensor:
    """Reflectance of two images of 20 m blocks with texture, [2, 3, 120, 120]."""
    torch.manual_seed(0)
    blocks = torch.rand(2, 3, SIDE // 20, SIDE // 20).repeat_interleave(20, 2).repeat_interleave(20, 3)
    return 0.05 + 0.2 * blocks + 0.02 * torch.rand(2, 3, SIDE, SIDE)


@pytest.fixture
def valid() -> Tensor:
    return torch.ones(2, 1, SIDE, SIDE)


def low_of(high: Tensor) -> Tensor:
    return simulate_sentinel2(high, torch.ones_like(high[:, :1]))[0]


def test_psnr_ignores_nodata(high: Tensor, valid: Tensor) -> None:
    sr = high + 0.1
    sr[..., :40, :] += 7
    valid[..., :40, :] = 0
    assert scores.psnr(sr, high, valid) == pytest.approx(20, abs=1e-4)
    assert math.isnan(scores.psnr(sr, high, 0 * valid))


def test_ssim_agrees_with_scikit_image(high: Tensor, valid: Tensor) -> None:
    sr = high + 0.03 * torch.randn_like(high)
    maps = [
        structural_similarity(
            x, y, data_range=0.3, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )[1][5:-5, 5:-5]
        for x, y in zip(sr.double().flatten(0, 1).numpy(), high.double().flatten(0, 1).numpy())
    ]
    assert scores.ssim(sr, high, valid) == pytest.approx(float(np.mean(maps)), abs=1e-6)


def test_ssim_ignores_windows_with_nodata(high: Tensor, valid: Tensor) -> None:
    sr = high + 0.03 * torch.randn_like(high)
    corrupted = sr.clone()
    corrupted[:, :, 50:60, 70:75] = 9
    valid[:, :, 50:60, 70:75] = 0
    total, count = 0.0, 0
    offset = np.arange(11) - 5
    weight = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    weight /= weight.sum()
    for row in range(40, SIDE - 10, 7):
        for col in range(60, SIDE - 10, 7):
            window = np.s_[:, :, row : row + 11, col : col + 11]
            if not bool(valid[window].all()):
                continue
            x, y = sr[window].double().numpy(), high[window].double().numpy()
            mx, my = ((image * weight).sum((2, 3)) for image in (x, y))
            vx, vy, vxy = (
                (a * b * weight).sum((2, 3)) - ma * mb
                for a, b, ma, mb in ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my))
            )
            c1, c2 = 0.003**2, 0.009**2
            total += ((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
            count += 1
    sparse = torch.zeros_like(valid)
    values = []
    for row in range(40, SIDE - 10, 7):
        for col in range(60, SIDE - 10, 7):
            sparse.zero_()
            sparse[:, :, row : row + 11, col : col + 11] = valid[:, :, row : row + 11, col : col + 11]
            values.append(scores.ssim(corrupted, high, sparse))
    finite = [value for value in values if not math.isnan(value)]
    assert len(finite) == count < len(values)
    assert np.mean(finite) == pytest.approx(total / count, abs=1e-6)
    assert math.isnan(scores.ssim(sr[..., :8, :], high[..., :8, :], valid[..., :8, :]))


class TwoLayers(Backbone):
    """Feature maps for manual calculation: the image, and its 2 x 2 means."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, nn.functional.avg_pool2d(x, 2)]


def test_perceptual_distance_of_unit_vectors() -> None:
    right, up = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    right[:, 0], up[:, 1] = 2, 5
    valid = torch.ones(1, 1, 4, 4)
    assert scores.perceptual_distance(right, up, valid, TwoLayers()) == pytest.approx(2 + 2)
    assert scores.perceptual_distance(right, 3 * right, valid, TwoLayers()) == 0
    valid[:, :, :, 2:] = 0
    half = torch.where(valid > 0, right, up)
    assert scores.perceptual_distance(half, right, valid, TwoLayers()) == 0  # they differ at nodata only
    assert scores.perceptual_distance(half, up, valid, TwoLayers()) == pytest.approx(4)


def test_perceptual_distance_increases_with_lost_texture(high: Tensor, valid: Tensor) -> None:
    backbone = backbones.load("efficientnet_lite0")
    image = (high - 0.15) / 0.06
    noisy = image + 0.05 * torch.randn_like(image)
    blurred = upsample(low_of(image), 10)
    distances = [scores.perceptual_distance(sr, image, valid, backbone) for sr in (image, noisy, blurred)]
    assert distances[0] == 0 < distances[1] < 0.5 * distances[2]


def test_simulated_sentinel2_is_a_gaussian_every_10_m(high: Tensor, valid: Tensor) -> None:
    valid[0, 0, 30:58, 20:49] = 0
    simulated, simulated_valid = simulate_sentinel2(high, valid)
    rows = resample.gaussian_weights(5.3, 15.6, 4.5, 10, SIDE // 10, SIDE)
    mask = valid[0, 0].numpy() > 0
    expected, weight_valid = resample.resample_valid(rows, rows, high[0].numpy(), mask)
    area_valid = mask.reshape(12, 10, 12, 10).mean((1, 3)) >= 0.5
    assert np.array_equal(simulated_valid[0, 0].numpy() > 0, weight_valid & area_valid)
    assert 0 < (simulated_valid[0] == 0).sum() < 12
    both = weight_valid & area_valid
    np.testing.assert_allclose(simulated[0].numpy()[:, both], expected[:, both], atol=2e-6)
    assert simulate_sentinel2(torch.full_like(high, 0.3), torch.ones_like(valid))[0].allclose(torch.tensor(0.3))


def test_a_nodata_10_m_pixel_is_not_scored(high: Tensor, valid: Tensor) -> None:
    valid[:, :, 30:40, 50:60] = 0
    mask = simulate_sentinel2(high, valid)[1]
    assert (mask == 0).sum() == 2 and not mask[:, :, 3, 5].any()
    low = low_of(high)
    clean = scores.consistency(high, low, valid)
    low[:, :, 3, 5] = 7
    assert scores.consistency(high, low, valid) == clean


def test_consistency_measures_changes_of_the_image(high: Tensor, valid: Tensor) -> None:
    low = low_of(high)
    same = scores.consistency(high, torch.cat((low, low[:, :1]), 1), valid)
    assert same["reflectance"] == 0 and same["spectral"] < 1e-4 and same["colour"] < 1e-6
    assert scores.consistency(high + 0.02, low, valid)["reflectance"] == pytest.approx(0.02, abs=1e-6)
    brighter = scores.consistency(1.1 * high, low, valid)
    assert brighter["colour"] == pytest.approx(0.1, abs=1e-5) and brighter["spectral"] < 1e-3
    grey, red = torch.full((1, 3, 40, 40), 0.2), torch.full((1, 3, 4, 4), 0.2)
    red[:, 1:] = 0
    angle = scores.consistency(grey, red, valid[:1, :, :40, :40])["spectral"]
    assert angle == pytest.approx(math.degrees(math.acos(1 / math.sqrt(3))), abs=1e-4)
    assert all(math.isnan(value) for value in scores.consistency(high, low, 0 * valid).values())


def test_displacement_of_a_shifted_image(valid: Tensor) -> None:
    torch.manual_seed(1)
    surface = nn.functional.interpolate(torch.rand(1, 3, 20, 20), (200, 200), mode="bicubic").clamp(0.01) * 0.3
    low = low_of(surface[..., 40:160, 40:160])
    valid = valid[:1]
    assert scores.displacement_m(surface[..., 40:160, 40:160], low, valid) < 0.1
    assert scores.displacement_m(surface[..., 37:157, 44:164], low, valid) == pytest.approx(5, abs=0.5)
    assert math.isnan(
        scores.displacement_m(torch.full((1, 3, SIDE, SIDE), 0.2), torch.full((1, 3, 12, 12), 0.2), valid)
    )


def test_true_detail_is_improvement_and_missing_detail_is_omission(high: Tensor, valid: Tensor) -> None:
    low = low_of(high)
    assert scores.correctness(high, high, low, valid) == (1, 0, 0)
    assert scores.correctness(upsample(low, 10), high, low, valid) == (0, 1, 0)


def test_false_detail_is_hallucination(high: Tensor, valid: Tensor) -> None:
    low = low_of(high)
    random = (upsample(low, 10) * (1 + 2 * torch.rand_like(high))).clamp(0.001)
    fractions = scores.correctness(random, high, low, valid)
    assert fractions.hallucination > 0.9 and sum(fractions) == pytest.approx(1)


def test_an_image_of_three_parts_has_three_fractions(valid: Tensor) -> None:
    """LR is 0.1, HR is 0.3, and SR is near HR, near LR or near neither; pixels with three equal values have no detail."""
    hr, low = torch.full((1, 3, 10, 120), 0.1), torch.full((1, 3, 1, 12), 0.1)
    hr[..., :30] = 0.3
    sr = hr.clone()
    for part, value in enumerate((0.28, 0.11, 0.9)):
        sr[..., 10 * part : 10 * part + 10] = value
    fractions = scores.correctness(torch.flip(sr, [3]), torch.flip(hr, [3]), low, valid[:1, :, :10])
    assert fractions == pytest.approx((1 / 3, 1 / 3, 1 / 3))

    def distance(a: float, b: float) -> float:
        return abs(a - b) / (a + b)

    for value, nearest in ((0.28, 0), (0.11, 1), (0.9, 2)):
        d_im, d_om = (distance(value, other) / distance(0.1, 0.3) for other in (0.3, 0.1))
        bend = 1 - math.exp(-0.8 * (d_im + d_om - 1))
        three = (d_im + d_om * bend, d_om + d_im * bend, math.exp(-0.4 * d_im * d_om))
        assert three.index(min(three)) == nearest


def test_pixels_without_detail_and_nodata_do_not_count() -> None:
    torch.manual_seed(0)
    hr, low = torch.full((1, 3, 100, 100), 0.2), torch.full((1, 3, 10, 10), 0.2)
    hr[..., :60, :] = 0.3 + 0.2 * torch.rand(60, 100)
    sr = hr.clone()
    sr[..., 60:, :] += 0.001  # below the detail threshold
    valid = torch.ones(1, 1, 100, 100)
    assert scores.correctness(sr, hr, low, valid) == (1, 0, 0)
    sr[..., :10, :] = 9.0
    assert scores.correctness(sr, hr, low, valid).hallucination > 0.2
    valid[..., :10, :] = 0
    assert scores.correctness(sr, hr, low, valid) == (1, 0, 0)
    assert all(math.isnan(fraction) for fraction in scores.correctness(sr, hr, low, 0 * valid))


def test_nodata_at_10_m_does_not_affect_neighbours(high: Tensor, valid: Tensor) -> None:
    valid[:, :, 30:40, 50:60] = 0
    low = low_of(high)
    clean = scores.correctness(high, high, low, valid)
    low[:, :, 3, 5] = 7
    assert scores.correctness(high, high, low, valid) == clean == (1, 0, 0)


def test_all_scores_of_one_image(high: Tensor, valid: Tensor) -> None:
    low = torch.cat((low_of(high), torch.rand(2, 1, 12, 12)), 1)
    names = {
        "psnr",
        "ssim",
        "reflectance",
        "spectral",
        "colour",
        "displacement_m",
        "improvement",
        "omission",
        "hallucination",
    }
    result = scores.score(high, high, low, valid)
    assert set(result) == names and result["ssim"] == pytest.approx(1) and result["improvement"] == 1
    normalisation = {"mean": [0.15] * 4, "std": [0.06] * 4}
    result = scores.score(high, high, low, valid, backbone=TwoLayers(), normalisation=normalisation)
    assert set(result) == names | {"perceptual"} and result["perceptual"] == 0
    with pytest.raises(DataError, match="for a 10 m image"):
        scores.score(high, high, low[..., 1:, :], valid)
