import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from jointseg.dataset import registration

MARGIN, REACH, SIDE = 46, 16, 24


def ground(seed: int, flat: bool = False) -> np.ndarray:
    """Fields, roofs and texture at 1 m, [3, SIDE * 10 + 2 * MARGIN + 40] squared, reflectance."""
    rng = np.random.default_rng(seed)
    side = SIDE * 10 + 2 * MARGIN + 40
    image = np.full((3, side, side), 0.1)
    if flat:
        return image
    for _ in range(60):
        row, col = rng.integers(0, side, 2)
        height, width = rng.integers(8, 60, 2)
        image[:, row : row + height, col : col + width] = rng.uniform(0.03, 0.3, 3)[:, None, None]
    return image


def views(seed: int, shift: tuple[int, int], noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A 10 m image and the 1 m digital numbers of the same ground, of which `shift` is the registration shift."""
    rng = np.random.default_rng(seed)
    image = ground(seed)
    seen = np.stack([gaussian_filter(band, registration.PSF_SIGMA_M) for band in image])
    first = 20 + MARGIN
    quad = (seen[:, :-1, :-1] + seen[:, 1:, :-1] + seen[:, :-1, 1:] + seen[:, 1:, 1:]) / 4
    centres = first + 4 + 10 * np.arange(SIDE)
    lr = quad[:, centres[:, None], centres] + rng.normal(0, noise, (3, SIDE, SIDE))
    # Content at x is found at x - shift in the scene; rows count down, northings up.
    row, col = 20 - shift[1], 20 + shift[0]
    size = SIDE * 10 + 2 * MARGIN
    scene = image[:, row : row + size, col : col + size]
    return lr.astype(np.float32), (scene * 5000 + 300 + rng.normal(0, 20, scene.shape)).astype(np.float32)


@settings(max_examples=12, deadline=None)
@given(st.integers(-14, 14), st.integers(-14, 14), st.integers(0, 5))
def test_known_shifts_come_back(x: int, y: int, seed: int) -> None:
    lr, scene = views(seed, (x, y), noise=0.004)
    known = np.ones((SIDE, SIDE), dtype=bool)
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    (found_x, found_y), value = registration.peak(registration.surface(lr, known, smooth, MARGIN, REACH))
    assert np.hypot(found_x - x, found_y - y) < 0.5
    assert value > 0.8


def test_unknown_pixels_do_not_steer(monkeypatch: pytest.MonkeyPatch) -> None:
    lr, scene = views(3, (4, -7))
    known = np.ones((SIDE, SIDE), dtype=bool)
    known[5:12, 3:15] = False
    lr[:, ~known] = 0.9
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    (x, y), _ = registration.peak(registration.surface(lr, known, smooth, MARGIN, REACH))
    assert np.hypot(x - 4, y + 7) < 0.5


def test_moving_back_by_the_shift_gives_the_composite() -> None:
    lr, scene = views(1, (5, 9))
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    image = registration.at_10m(smooth, (SIDE, SIDE), MARGIN, (5.0, 9.0))
    known = np.ones((SIDE, SIDE), dtype=bool)
    match = registration.fit(image, lr, known)
    assert match.gain == pytest.approx(np.full(3, 1 / 5000), rel=0.02)
    assert match.offset == pytest.approx(np.full(3, -0.06), abs=0.003)
    fitted = registration.apply(match, image)
    assert np.abs(fitted - lr).max() < 0.005
    assert registration.agreement(fitted, lr, known) > 0.99


def test_changed_ground_does_not_bend_the_fit() -> None:
    lr, scene = views(2, (0, 0))
    lr[:, 4:9, 4:9] = 0.45  # new roofs on 4 % of the ground
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    image = registration.at_10m(smooth, (SIDE, SIDE), MARGIN)
    match = registration.fit(image, lr, np.ones((SIDE, SIDE), dtype=bool))
    assert match.gain == pytest.approx(np.full(3, 1 / 5000), rel=0.03)


def test_uncorrelated_fields_do_not_lower_the_gain() -> None:
    rng = np.random.default_rng(0)
    lr = rng.uniform(0.05, 0.3, (1, 4000))
    hr = (lr + 0.06) / 2e-4
    # Half of the ground has another crop at each date, of the same variety of brightness.
    lr[:, :2000] = rng.uniform(0.05, 0.3, (1, 2000))
    match = registration.fit(hr, lr, np.ones(4000, dtype=bool))
    assert match.gain == pytest.approx([2e-4], rel=0.05)


def test_the_offset_of_a_chip_is_its_own() -> None:
    scene = registration.Match(np.array([2e-4]), np.array([-0.06]))
    hr = np.random.default_rng(0).uniform(500, 1500, (1, 9, 9))
    lr = registration.apply(scene, hr) + 0.02
    lr[0, 0] = 0.6
    match = registration.fit_offset(scene, hr, lr, np.ones((9, 9), dtype=bool))
    assert match.gain == pytest.approx(scene.gain)
    assert match.offset == pytest.approx([-0.04])
    assert registration.fit_offset(scene, hr, lr, np.zeros((9, 9), dtype=bool)) is scene


def test_a_flat_chip_agrees() -> None:
    rng = np.random.default_rng(0)
    lr, other = (0.05 + rng.normal(0, 0.002, (2, 3, SIDE, SIDE))).astype(np.float32)
    assert registration.agreement(other, lr, np.ones((SIDE, SIDE), dtype=bool)) > 0.9


def test_unrelated_images_do_not_agree() -> None:
    a, b = ground(1)[:, ::10, ::10], ground(2)[:, ::10, ::10]
    known = np.ones(a.shape[1:], dtype=bool)
    assert registration.agreement(a, b, known) < 0.3


def test_the_peak_of_a_parabola_is_found_between_metres() -> None:
    y, x = np.mgrid[-5:6, -5:6]
    (found_x, found_y), value = registration.peak(1 - 0.01 * ((2 * x - 1.3) ** 2 + (2 * y + 2.4) ** 2))
    assert (found_x, found_y) == pytest.approx((1.3, -2.4))
    assert value == pytest.approx(1 - 0.01 * (0.7**2 + 0.4**2))


def test_a_peak_at_the_edge_is_not_extrapolated() -> None:
    y, x = np.mgrid[-5:6, -5:6]
    assert registration.peak(x + 0.0 * y)[0][0] == 10


def test_blur_leaves_unknown_pixels_out() -> None:
    values = np.full((1, 60, 60), 7.0, dtype=np.float32)
    known = np.ones((60, 60), dtype=bool)
    values[:, 20:30, 20:30], known[20:30, 20:30] = 1e6, False
    assert np.allclose(registration.blur(values, known), 7.0, atol=1e-4)
