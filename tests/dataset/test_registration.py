import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from jointseg.dataset import radiometric_match, registration, scene_registration_qc

MARGIN, REACH, SIDE = 46, 16, 24


def reflectance(seed: int, flat: bool = False) -> np.ndarray:
    """Return reflectance of fields, roofs and texture at 1 m, square with SIDE * 10 + 2 * MARGIN + 40 pixels."""
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


def image_pair(seed: int, shift: tuple[float, float], noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a 10 m image and 1 m digital numbers of the same area with the registration shift `shift`."""
    rng = np.random.default_rng(seed)
    image = reflectance(seed)
    integer = np.round(shift).astype(int)
    east, north = np.array(shift) - integer
    # The fractional part shifts the 10 m image; the centre of its pixels is the corner that four 1 m pixels share.
    centres = 20 + MARGIN + 4.5 + 10 * np.arange(SIDE)
    points = np.meshgrid(centres + north, centres - east, indexing="ij")
    blurred = (gaussian_filter(band, registration.PSF_SIGMA_M) for band in image)
    lr = np.stack([map_coordinates(band, points, order=3) for band in blurred]) + rng.normal(0, noise, (3, SIDE, SIDE))
    # The content at x is at x - shift in the scene; rows increase downwards, northings upwards.
    row, col = 20 - integer[1], 20 + integer[0]
    size = SIDE * 10 + 2 * MARGIN
    scene = image[:, row : row + size, col : col + size]
    return lr.astype(np.float32), (scene * 5000 + 300 + rng.normal(0, 20, scene.shape)).astype(np.float32)


def chip_scene_pair(name: str, lr: np.ndarray, scene: np.ndarray) -> scene_registration_qc.ChipScenePair:
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    return scene_registration_qc.ChipScenePair(name, lr, np.ones(lr.shape[1:], dtype=bool), smooth, MARGIN)


def patch(rng: np.random.Generator, shape: tuple[int, int], fraction: float, size: float) -> np.ndarray:
    """Return a bool mask of rounded patches that cover a fraction of an image."""
    field = gaussian_filter(rng.standard_normal(shape), size)
    return field > np.quantile(field, 1 - fraction)


@settings(max_examples=12, deadline=None)
@given(st.integers(-14, 14), st.integers(-14, 14), st.integers(0, 5))
def test_integer_shifts_are_recovered(x: int, y: int, seed: int) -> None:
    lr, scene = image_pair(seed, (x, y), noise=0.004)
    valid = np.ones((SIDE, SIDE), dtype=bool)
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    (found_x, found_y), value = registration.find_peak(
        registration.correlation_surface(lr, valid, smooth, MARGIN, REACH)
    )
    assert np.hypot(found_x - x, found_y - y) < 0.5
    assert value > 0.8


@settings(max_examples=25, deadline=None)
@given(st.floats(-8, 8), st.floats(-8, 8), st.integers(0, 30))
def test_fractional_shifts_are_recovered(x: float, y: float, seed: int) -> None:
    lr, scene = image_pair(seed, (x, y), noise=0.004)
    pair = chip_scene_pair("a", lr, scene)
    start, _ = registration.find_peak(registration.correlation_surface(lr, pair.valid, pair.smooth, MARGIN, REACH))
    shift = registration.refine_shift(lr, pair.valid, pair.smooth, MARGIN, start, REACH)
    assert np.hypot(shift.shift_m[0] - x, shift.shift_m[1] - y) < 0.2
    assert shift.sd_m < 0.2


def test_standard_deviation_matches_the_errors() -> None:
    """Compare the errors over many draws of noise with the stated standard deviation, with changed fields."""
    rng = np.random.default_rng(0)
    lr, scene = image_pair(4, (3.3, -2.6))
    pair = chip_scene_pair("a", lr, scene)
    for _ in range(25):  # another crop than on the scene's date
        row, col = rng.integers(0, SIDE - 3, 2)
        lr[:, row : row + 3, col : col + 3] = rng.uniform(0.05, 0.3, 3)[:, None, None]
    errors, stated = [], []
    for _ in range(40):
        noisy = lr + rng.normal(0, 0.01, lr.shape).astype(np.float32)
        shift = registration.refine_shift(noisy, pair.valid, pair.smooth, MARGIN, (3.3, -2.6), REACH)
        errors.append((shift.shift_m[0] - 3.3, shift.shift_m[1] + 2.6))
        stated.append(shift.sd_m)
    # The changed fields are the same in all draws: they increase the stated deviation but not the spread.
    assert np.std(errors, axis=0).mean() < np.mean(stated) < 6 * np.std(errors, axis=0).mean()
    assert np.hypot(*np.mean(errors, axis=0)) < 3 * np.mean(stated)


def test_featureless_chips_have_no_reliable_shift() -> None:
    rng = np.random.default_rng(0)
    lr = (0.1 + rng.normal(0, 0.003, (3, SIDE, SIDE))).astype(np.float32)
    _, scene = image_pair(1, (0, 0))
    pair = chip_scene_pair("flat", lr, scene * 0 + 800 + rng.normal(0, 20, scene.shape).astype(np.float32))
    assert scene_registration_qc.featureless(lr, pair.valid)
    assert not scene_registration_qc.featureless(image_pair(1, (0, 0))[0], pair.valid)
    shift = registration.refine_shift(lr, pair.valid, pair.smooth, MARGIN, (0.0, 0.0), REACH)
    assert not shift.sd_m <= scene_registration_qc.MAX_SHIFT_SD_M


@pytest.fixture(scope="module")
def clean() -> list[tuple[np.ndarray, np.ndarray]]:
    return [image_pair(seed, (4.3, -5.7), noise=0.004) for seed in range(10)]


def test_chips_of_a_scene_share_its_shift(clean: list) -> None:
    results = scene_registration_qc.register_chips(
        [chip_scene_pair(str(n), *images) for n, images in enumerate(clean)], 14, 0.5
    )
    assert {result.status for result in results} == {"ok"}
    shifts = {result.shift for result in results}
    assert len(shifts) == 1
    assert np.hypot(*np.subtract(shifts.pop().shift_m, (4.3, -5.7))) < 0.1


def test_later_chips_get_the_shift_of_their_scene(clean: list) -> None:
    record = scene_registration_qc.SceneRecord()
    first = scene_registration_qc.register_chips(
        [chip_scene_pair(str(n), *images) for n, images in enumerate(clean[:9])], 14, 0.5, record
    )
    later = scene_registration_qc.register_chips([chip_scene_pair("9", *clean[9])], 14, 0.5, record)
    assert later[0].status == "ok"
    assert np.hypot(*np.subtract(later[0].shift.shift_m, first[0].shift.shift_m)) < 0.05
    assert (
        scene_registration_qc.register_chips([chip_scene_pair("9", *clean[9])], 14, 0.5)[0].shift.sd_m < 0.1
    )  # without record: its own shift


@pytest.mark.parametrize("seed", range(6))
def test_clouds_and_floods_are_distinguished_from_clear_scenes(clean: list, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs, expected = [], []
    for number, (lr, clear) in enumerate(clean):
        kind = ("ok", "ok", "cloud or haze", "flooded", "ok")[number % 5]
        scene = clear.copy()
        where = patch(rng, scene.shape[1:], rng.uniform(0.35, 0.9), 30)
        if kind == "cloud or haze":
            opacity = gaussian_filter(where.astype(np.float32), 8)
            scene += (4200 - scene) * opacity
        elif kind == "flooded":
            scene[:, where] = rng.uniform(600, 900, 3)[:, None] + rng.normal(0, 20, (3, int(where.sum())))
        pairs.append(chip_scene_pair(str(number), lr, scene))
        expected.append(kind)
    results = scene_registration_qc.register_chips(pairs, 14, 0.5)
    assert [result.status for result in results] == expected
    assert all(
        np.hypot(*np.subtract(result.shift.shift_m, (4.3, -5.7))) < 0.3 for result in results if result.status == "ok"
    )


def test_partial_floods_are_detected(clean: list) -> None:
    rng = np.random.default_rng(0)
    fractions = []
    for lr, clear in clean:
        for wanted in (0.0, 0.2, 0.35):
            scene = clear.copy()
            where = patch(rng, scene.shape[1:], wanted, 20)
            scene[:, where] = 750 + rng.normal(0, 20, (3, int(where.sum())))
            image = registration.sample_at_10m(
                chip_scene_pair("a", lr, scene).smooth, lr.shape[1:], MARGIN, (4.3, -5.7)
            )
            fraction = scene_registration_qc.flooded_fraction(
                (image - 300) / 5000, lr, np.ones(lr.shape[1:], dtype=bool)
            )
            fractions.append((wanted, where[MARGIN:-MARGIN, MARGIN:-MARGIN].mean(), fraction))
    table = np.array(fractions)
    dry, wet = table[table[:, 0] == 0, 2], table[table[:, 1] > 0.15, 2]
    assert len(wet) > 10
    assert (dry < scene_registration_qc.FLOOD_FRACTION).all()
    assert (wet > scene_registration_qc.FLOOD_FRACTION).mean() > 0.85


def test_scene_of_another_area_is_rejected(clean: list) -> None:
    pairs = [chip_scene_pair(str(n), *images) for n, images in enumerate(clean)]
    pairs.append(chip_scene_pair("other", clean[0][0], clean[5][1]))
    assert scene_registration_qc.register_chips(pairs, 14, 0.5)[-1].status in (
        "no registration",
        "flooded",
        "low correlation",
        "cloud or haze",
    )
    assert scene_registration_qc.register_chips(pairs[-1:], 14, 0.5)[0].status != "ok"


def test_large_shifts_are_rejected(clean: list) -> None:
    results = scene_registration_qc.register_chips(
        [chip_scene_pair(str(n), *images) for n, images in enumerate(clean)], 5, 0.5
    )
    assert {result.status for result in results} <= {"shift too large", "no registration"}


def test_nodata_pixels_have_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    lr, scene = image_pair(3, (4, -7))
    valid = np.ones((SIDE, SIDE), dtype=bool)
    valid[5:12, 3:15] = False
    lr[:, ~valid] = 0.9
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    (x, y), _ = registration.find_peak(registration.correlation_surface(lr, valid, smooth, MARGIN, REACH))
    assert np.hypot(x - 4, y + 7) < 0.5


def test_sampling_with_the_shift_gives_the_composite() -> None:
    lr, scene = image_pair(1, (5, 9))
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    image = registration.sample_at_10m(smooth, (SIDE, SIDE), MARGIN, (5.0, 9.0))
    valid = np.ones((SIDE, SIDE), dtype=bool)
    match = radiometric_match.fit_match(image, lr, valid)
    assert match.gain == pytest.approx(np.full(3, 1 / 5000), rel=0.02)
    assert match.offset == pytest.approx(np.full(3, -0.06), abs=0.003)
    fitted = radiometric_match.apply_match(match, image)
    assert np.abs(fitted - lr).max() < 0.005
    assert radiometric_match.structural_agreement(fitted, lr, valid) > 0.99


def test_changed_areas_do_not_bias_the_match() -> None:
    lr, scene = image_pair(2, (0, 0))
    lr[:, 4:9, 4:9] = 0.45  # new roofs on 4 % of the area
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    image = registration.sample_at_10m(smooth, (SIDE, SIDE), MARGIN)
    match = radiometric_match.fit_match(image, lr, np.ones((SIDE, SIDE), dtype=bool))
    assert match.gain == pytest.approx(np.full(3, 1 / 5000), rel=0.03)


def test_uncorrelated_fields_do_not_reduce_the_gain() -> None:
    rng = np.random.default_rng(0)
    lr = rng.uniform(0.05, 0.3, (1, 4000))
    hr = (lr + 0.06) / 2e-4
    # Half of the area has another crop on each date, with the same distribution of brightness.
    lr[:, :2000] = rng.uniform(0.05, 0.3, (1, 2000))
    match = radiometric_match.fit_match(hr, lr, np.ones(4000, dtype=bool))
    assert match.gain == pytest.approx([2e-4], rel=0.05)


def test_offset_is_fitted_per_chip() -> None:
    scene = radiometric_match.RadiometricMatch(np.array([2e-4]), np.array([-0.06]))
    hr = np.random.default_rng(0).uniform(500, 1500, (1, 9, 9))
    lr = radiometric_match.apply_match(scene, hr) + 0.02
    lr[0, 0] = 0.6
    match = radiometric_match.fit_offset(scene, hr, lr, np.ones((9, 9), dtype=bool))
    assert match.gain == pytest.approx(scene.gain)
    assert match.offset == pytest.approx([-0.04])
    assert radiometric_match.fit_offset(scene, hr, lr, np.zeros((9, 9), dtype=bool)) is scene


def test_flat_images_agree() -> None:
    rng = np.random.default_rng(0)
    lr, other = (0.05 + rng.normal(0, 0.002, (2, 3, SIDE, SIDE))).astype(np.float32)
    assert radiometric_match.structural_agreement(other, lr, np.ones((SIDE, SIDE), dtype=bool)) > 0.9


def test_unrelated_images_disagree() -> None:
    a, b = reflectance(1)[:, ::10, ::10], reflectance(2)[:, ::10, ::10]
    valid = np.ones(a.shape[1:], dtype=bool)
    assert radiometric_match.structural_agreement(a, b, valid) < 0.3


def test_peak_is_interpolated() -> None:
    y, x = np.mgrid[-5:6, -5:6]
    (found_x, found_y), value = registration.find_peak(1 - 0.01 * ((2 * x - 1.3) ** 2 + (2 * y + 2.4) ** 2))
    assert (found_x, found_y) == pytest.approx((1.3, -2.4))
    assert value == pytest.approx(1 - 0.01 * (0.7**2 + 0.4**2))


def test_peak_at_the_edge_is_not_extrapolated() -> None:
    y, x = np.mgrid[-5:6, -5:6]
    assert registration.find_peak(x + 0.0 * y)[0][0] == 10


def test_blur_ignores_nodata() -> None:
    values = np.full((1, 60, 60), 7.0, dtype=np.float32)
    valid = np.ones((60, 60), dtype=bool)
    values[:, 20:30, 20:30], valid[20:30, 20:30] = 1e6, False
    assert np.allclose(registration.blur(values, valid), 7.0, atol=1e-4)
