import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from jointseg.dataset import radiometric_match, registration, scene_registration_qc

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


def views(seed: int, shift: tuple[float, float], noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A 10 m image and the 1 m digital numbers of the same ground, of which `shift` is the registration shift."""
    rng = np.random.default_rng(seed)
    image = ground(seed)
    whole = np.round(shift).astype(int)
    east, north = np.array(shift) - whole
    # The fraction is put into the 10 m image: the centre of its pixels is the corner that four 1 m pixels share.
    centres = 20 + MARGIN + 4.5 + 10 * np.arange(SIDE)
    points = np.meshgrid(centres + north, centres - east, indexing="ij")
    seen = (gaussian_filter(band, registration.PSF_SIGMA_M) for band in image)
    lr = np.stack([map_coordinates(band, points, order=3) for band in seen]) + rng.normal(0, noise, (3, SIDE, SIDE))
    # Content at x is found at x - shift in the scene; rows count down, northings up.
    row, col = 20 - whole[1], 20 + whole[0]
    size = SIDE * 10 + 2 * MARGIN
    scene = image[:, row : row + size, col : col + size]
    return lr.astype(np.float32), (scene * 5000 + 300 + rng.normal(0, 20, scene.shape)).astype(np.float32)


def attempt(name: str, lr: np.ndarray, scene: np.ndarray) -> scene_registration_qc.ChipScenePair:
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    return scene_registration_qc.ChipScenePair(name, lr, np.ones(lr.shape[1:], dtype=bool), smooth, MARGIN)


def patch(rng: np.random.Generator, shape: tuple[int, int], share: float, size: float) -> np.ndarray:
    """bool, a rounded patch over a share of an image."""
    field = gaussian_filter(rng.standard_normal(shape), size)
    return field > np.quantile(field, 1 - share)


@settings(max_examples=12, deadline=None)
@given(st.integers(-14, 14), st.integers(-14, 14), st.integers(0, 5))
def test_known_shifts_come_back(x: int, y: int, seed: int) -> None:
    lr, scene = views(seed, (x, y), noise=0.004)
    known = np.ones((SIDE, SIDE), dtype=bool)
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    (found_x, found_y), value = registration.find_peak(
        registration.correlation_surface(lr, known, smooth, MARGIN, REACH)
    )
    assert np.hypot(found_x - x, found_y - y) < 0.5
    assert value > 0.8


@settings(max_examples=25, deadline=None)
@given(st.floats(-8, 8), st.floats(-8, 8), st.integers(0, 30))
def test_fractions_of_a_metre_come_back(x: float, y: float, seed: int) -> None:
    lr, scene = views(seed, (x, y), noise=0.004)
    one = attempt("a", lr, scene)
    start, _ = registration.find_peak(registration.correlation_surface(lr, one.valid, one.smooth, MARGIN, REACH))
    place = registration.refine_shift(lr, one.valid, one.smooth, MARGIN, start, REACH)
    assert np.hypot(place.shift_m[0] - x, place.shift_m[1] - y) < 0.2
    assert place.sd_m < 0.2


def test_the_standard_deviation_is_what_it_says() -> None:
    """Over many draws of noise, errors are as large as stated; with changed fields too."""
    rng = np.random.default_rng(0)
    lr, scene = views(4, (3.3, -2.6))
    one = attempt("a", lr, scene)
    for _ in range(25):  # another crop than at the scene's date
        row, col = rng.integers(0, SIDE - 3, 2)
        lr[:, row : row + 3, col : col + 3] = rng.uniform(0.05, 0.3, 3)[:, None, None]
    off, said = [], []
    for _ in range(40):
        noisy = lr + rng.normal(0, 0.01, lr.shape).astype(np.float32)
        place = registration.refine_shift(noisy, one.valid, one.smooth, MARGIN, (3.3, -2.6), REACH)
        off.append((place.shift_m[0] - 3.3, place.shift_m[1] + 2.6))
        said.append(place.sd_m)
    # Changed fields are the same in all draws: what they add is said, but does not vary.
    assert np.std(off, axis=0).mean() < np.mean(said) < 6 * np.std(off, axis=0).mean()
    assert np.hypot(*np.mean(off, axis=0)) < 3 * np.mean(said)


def test_flat_ground_has_no_sure_place() -> None:
    rng = np.random.default_rng(0)
    lr = (0.1 + rng.normal(0, 0.003, (3, SIDE, SIDE))).astype(np.float32)
    _, scene = views(1, (0, 0))
    one = attempt("flat", lr, scene * 0 + 800 + rng.normal(0, 20, scene.shape).astype(np.float32))
    assert scene_registration_qc.featureless(lr, one.valid)
    assert not scene_registration_qc.featureless(views(1, (0, 0))[0], one.valid)
    place = registration.refine_shift(lr, one.valid, one.smooth, MARGIN, (0.0, 0.0), REACH)
    assert not place.sd_m <= scene_registration_qc.MAX_SHIFT_SD_M


@pytest.fixture(scope="module")
def clean() -> list[tuple[np.ndarray, np.ndarray]]:
    return [views(seed, (4.3, -5.7), noise=0.004) for seed in range(10)]


def test_chips_of_a_scene_share_its_place(clean: list) -> None:
    verdicts = scene_registration_qc.register_chips([attempt(str(n), *pair) for n, pair in enumerate(clean)], 14, 0.5)
    assert {verdict.status for verdict in verdicts} == {"ok"}
    places = {verdict.shift for verdict in verdicts}
    assert len(places) == 1
    assert np.hypot(*np.subtract(places.pop().shift_m, (4.3, -5.7))) < 0.1


def test_few_chips_tried_later_take_the_place_that_their_scene_has_shown(clean: list) -> None:
    learnt = scene_registration_qc.SceneRecord()
    first = scene_registration_qc.register_chips(
        [attempt(str(n), *pair) for n, pair in enumerate(clean[:9])], 14, 0.5, learnt
    )
    later = scene_registration_qc.register_chips([attempt("9", *clean[9])], 14, 0.5, learnt)
    assert later[0].status == "ok"
    assert np.hypot(*np.subtract(later[0].shift.shift_m, first[0].shift.shift_m)) < 0.05
    assert (
        scene_registration_qc.register_chips([attempt("9", *clean[9])], 14, 0.5)[0].shift.sd_m < 0.1
    )  # alone: its own


@pytest.mark.parametrize("seed", range(6))
def test_clouds_and_floods_are_told_from_clear_ground(clean: list, seed: int) -> None:
    rng = np.random.default_rng(seed)
    attempts, drawn = [], []
    for number, (lr, clear) in enumerate(clean):
        kind = ("ok", "ok", "cloud or haze", "flooded", "ok")[number % 5]
        scene = clear.copy()
        where = patch(rng, scene.shape[1:], rng.uniform(0.35, 0.9), 30)
        if kind == "cloud or haze":
            opacity = gaussian_filter(where.astype(np.float32), 8)
            scene += (4200 - scene) * opacity
        elif kind == "flooded":
            scene[:, where] = rng.uniform(600, 900, 3)[:, None] + rng.normal(0, 20, (3, int(where.sum())))
        attempts.append(attempt(str(number), lr, scene))
        drawn.append(kind)
    verdicts = scene_registration_qc.register_chips(attempts, 14, 0.5)
    assert [verdict.status for verdict in verdicts] == drawn
    assert all(
        np.hypot(*np.subtract(verdict.shift.shift_m, (4.3, -5.7))) < 0.3
        for verdict in verdicts
        if verdict.status == "ok"
    )


def test_floods_of_a_part_of_the_chip_are_seen(clean: list) -> None:
    rng = np.random.default_rng(0)
    shares = []
    for lr, clear in clean:
        for wanted in (0.0, 0.2, 0.35):
            scene = clear.copy()
            where = patch(rng, scene.shape[1:], wanted, 20)
            scene[:, where] = 750 + rng.normal(0, 20, (3, int(where.sum())))
            image = registration.sample_at_10m(attempt("a", lr, scene).smooth, lr.shape[1:], MARGIN, (4.3, -5.7))
            share = scene_registration_qc.flooded_fraction((image - 300) / 5000, lr, np.ones(lr.shape[1:], dtype=bool))
            shares.append((wanted, where[MARGIN:-MARGIN, MARGIN:-MARGIN].mean(), share))
    drawn = np.array(shares)
    dry, wet = drawn[drawn[:, 0] == 0, 2], drawn[drawn[:, 1] > 0.15, 2]
    assert len(wet) > 10
    assert (dry < scene_registration_qc.FLOOD_FRACTION).all()
    assert (wet > scene_registration_qc.FLOOD_FRACTION).mean() > 0.85


def test_another_ground_is_rejected(clean: list) -> None:
    attempts = [attempt(str(n), *pair) for n, pair in enumerate(clean)]
    attempts.append(attempt("other", clean[0][0], clean[5][1]))
    assert scene_registration_qc.register_chips(attempts, 14, 0.5)[-1].status in (
        "no registration",
        "flooded",
        "low correlation",
        "cloud or haze",
    )
    assert scene_registration_qc.register_chips(attempts[-1:], 14, 0.5)[0].status != "ok"


def test_a_shift_beyond_belief_is_told(clean: list) -> None:
    verdicts = scene_registration_qc.register_chips([attempt(str(n), *pair) for n, pair in enumerate(clean)], 5, 0.5)
    assert {verdict.status for verdict in verdicts} <= {"shift too large", "no registration"}


def test_unknown_pixels_do_not_steer(monkeypatch: pytest.MonkeyPatch) -> None:
    lr, scene = views(3, (4, -7))
    known = np.ones((SIDE, SIDE), dtype=bool)
    known[5:12, 3:15] = False
    lr[:, ~known] = 0.9
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    (x, y), _ = registration.find_peak(registration.correlation_surface(lr, known, smooth, MARGIN, REACH))
    assert np.hypot(x - 4, y + 7) < 0.5


def test_moving_back_by_the_shift_gives_the_composite() -> None:
    lr, scene = views(1, (5, 9))
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    image = registration.sample_at_10m(smooth, (SIDE, SIDE), MARGIN, (5.0, 9.0))
    known = np.ones((SIDE, SIDE), dtype=bool)
    match = radiometric_match.fit_match(image, lr, known)
    assert match.gain == pytest.approx(np.full(3, 1 / 5000), rel=0.02)
    assert match.offset == pytest.approx(np.full(3, -0.06), abs=0.003)
    fitted = radiometric_match.apply_match(match, image)
    assert np.abs(fitted - lr).max() < 0.005
    assert radiometric_match.structural_agreement(fitted, lr, known) > 0.99


def test_changed_ground_does_not_bend_the_fit() -> None:
    lr, scene = views(2, (0, 0))
    lr[:, 4:9, 4:9] = 0.45  # new roofs on 4 % of the ground
    smooth = registration.blur(scene, np.ones(scene.shape[1:], dtype=bool))
    image = registration.sample_at_10m(smooth, (SIDE, SIDE), MARGIN)
    match = radiometric_match.fit_match(image, lr, np.ones((SIDE, SIDE), dtype=bool))
    assert match.gain == pytest.approx(np.full(3, 1 / 5000), rel=0.03)


def test_uncorrelated_fields_do_not_lower_the_gain() -> None:
    rng = np.random.default_rng(0)
    lr = rng.uniform(0.05, 0.3, (1, 4000))
    hr = (lr + 0.06) / 2e-4
    # Half of the ground has another crop at each date, of the same variety of brightness.
    lr[:, :2000] = rng.uniform(0.05, 0.3, (1, 2000))
    match = radiometric_match.fit_match(hr, lr, np.ones(4000, dtype=bool))
    assert match.gain == pytest.approx([2e-4], rel=0.05)


def test_the_offset_of_a_chip_is_its_own() -> None:
    scene = radiometric_match.RadiometricMatch(np.array([2e-4]), np.array([-0.06]))
    hr = np.random.default_rng(0).uniform(500, 1500, (1, 9, 9))
    lr = radiometric_match.apply_match(scene, hr) + 0.02
    lr[0, 0] = 0.6
    match = radiometric_match.fit_offset(scene, hr, lr, np.ones((9, 9), dtype=bool))
    assert match.gain == pytest.approx(scene.gain)
    assert match.offset == pytest.approx([-0.04])
    assert radiometric_match.fit_offset(scene, hr, lr, np.zeros((9, 9), dtype=bool)) is scene


def test_a_flat_chip_agrees() -> None:
    rng = np.random.default_rng(0)
    lr, other = (0.05 + rng.normal(0, 0.002, (2, 3, SIDE, SIDE))).astype(np.float32)
    assert radiometric_match.structural_agreement(other, lr, np.ones((SIDE, SIDE), dtype=bool)) > 0.9


def test_unrelated_images_do_not_agree() -> None:
    a, b = ground(1)[:, ::10, ::10], ground(2)[:, ::10, ::10]
    known = np.ones(a.shape[1:], dtype=bool)
    assert radiometric_match.structural_agreement(a, b, known) < 0.3


def test_the_peak_of_a_parabola_is_found_between_metres() -> None:
    y, x = np.mgrid[-5:6, -5:6]
    (found_x, found_y), value = registration.find_peak(1 - 0.01 * ((2 * x - 1.3) ** 2 + (2 * y + 2.4) ** 2))
    assert (found_x, found_y) == pytest.approx((1.3, -2.4))
    assert value == pytest.approx(1 - 0.01 * (0.7**2 + 0.4**2))


def test_a_peak_at_the_edge_is_not_extrapolated() -> None:
    y, x = np.mgrid[-5:6, -5:6]
    assert registration.find_peak(x + 0.0 * y)[0][0] == 10


def test_blur_leaves_unknown_pixels_out() -> None:
    values = np.full((1, 60, 60), 7.0, dtype=np.float32)
    known = np.ones((60, 60), dtype=bool)
    values[:, 20:30, 20:30], known[20:30, 20:30] = 1e6, False
    assert np.allclose(registration.blur(values, known), 7.0, atol=1e-4)
