"""Shifts that were put into images are found again, or the scene is refused with a reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import local_contrast, register
from jointseg.synthetic import panel_raster, sensors
from jointseg.synthetic.landscape import render_static
from jointseg.synthetic.render import render_year
from jointseg.synthetic.terrain import MARGIN_M
from jointseg.synthetic.valley import make_valley

SIDE, BANDS, MAX_M = 256, 3, 15.0


def texture(seed: int, side: int = SIDE) -> np.ndarray:
    """Periodic ground with the spectrum of land seen by the 10 m bands, float64 [bands, side, side], x 10000."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    amplitude = np.exp(-2 * np.pi**2 * 0.53**2 * frequency**2) / np.maximum(frequency, 0.01)
    noise = rng.standard_normal((BANDS + 1, side, side))
    fields = np.fft.ifft2(np.fft.fft2(noise) * amplitude).real
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return 1500 + 300 * (fields[0] + 0.5 * fields[1:])


def scene(ground: np.ndarray, shift_m: tuple[float, float], seed: int = 0, noise: float = 20.0) -> np.ndarray:
    """The ground as a scene shows it to whose coordinates `shift_m` is to be added; exact by Fourier, uint16."""
    rng = np.random.default_rng(seed)
    side = ground.shape[-1]
    across, down = np.fft.rfftfreq(side)[None], np.fft.fftfreq(side)[:, None]
    # Content lies `shift_m` too far west and south: columns less, rows more.
    phase = np.exp(2j * np.pi * (across * shift_m[0] - down * shift_m[1]) / 10)
    moved = np.fft.irfft2(np.fft.rfft2(ground) * phase, ground.shape[1:])
    gain, haze = rng.uniform(0.95, 1.05, (BANDS, 1, 1)), rng.uniform(0, 200)
    return np.rint(np.clip(moved * gain + haze + rng.normal(0, noise, moved.shape), 1, 60_000)).astype(np.uint16)


def found(
    stack: list, clear: np.ndarray | None = None, reference: np.ndarray | None = None
) -> list[register.Registration]:
    """Registers whole images through the windows that are asked for."""
    images = np.stack(stack)
    clear = np.ones((len(images), *images.shape[2:]), dtype=bool) if clear is None else clear
    places = register.windows(images.shape[2:])

    def cut(array: np.ndarray) -> list[np.ndarray]:
        return [array[(..., *place)] for place in places]

    return register.register(cut(images), cut(clear), None if reference is None else cut(reference), MAX_M)


def metres(shifts: list[register.Registration]) -> np.ndarray:
    return np.array([[shift.x_m, shift.y_m] for shift in shifts])


@pytest.mark.parametrize(
    ("shape", "across", "side"),
    [
        ((3000, 3000), (4, 4), (192, 192)),
        ((100, 100), (1, 1), (100, 100)),
        ((358, 1200), (2, 4), (179, 192)),
        ((20, 500), (1, 3), (20, 166)),
    ],
)
def test_windows_are_few_and_lie_evenly(shape: tuple[int, int], across: tuple[int, int], side: tuple[int, int]) -> None:
    places = register.windows(shape)
    seen = np.zeros(shape, dtype=int)
    for place in places:
        assert seen[place].shape == side
        seen[place] += 1
    assert len(places) == across[0] * across[1]
    assert seen.max() == 1
    assert np.nonzero(seen)[0].mean() == pytest.approx((shape[0] - 1) / 2, abs=1)
    assert np.nonzero(seen)[1].mean() == pytest.approx((shape[1] - 1) / 2, abs=1)


@settings(max_examples=10, deadline=None)
@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(0, 5))
def test_a_shift_against_a_reference_comes_back(x: float, y: float, seed: int) -> None:
    ground = texture(seed)
    (shift,) = found([scene(ground, (x, y), seed)], reference=scene(ground, (0, 0), 99))
    assert shift.usable and shift.why == ""
    assert np.hypot(shift.x_m - x, shift.y_m - y) < 0.2
    assert shift.quality > 0.7
    assert shift.cells >= 12
    assert shift.record()["usable"] is True


def test_without_a_reference_dates_lie_where_they_do_against_each_other_and_their_median_is_zero() -> None:
    ground, true = texture(7), np.random.default_rng(7).uniform(-10, 10, (9, 2))
    shifts = found([scene(ground, (x, y), seed) for seed, (x, y) in enumerate(true)])
    assert all(shift.usable for shift in shifts)
    error = metres(shifts) - true
    assert np.hypot(*(error - np.median(error, axis=0)).T).max() < 0.2
    assert np.abs(np.median(metres(shifts), axis=0)).max() < 0.1


def test_of_two_dates_each_goes_half_the_way() -> None:
    ground = texture(3)
    shifts = metres(found([scene(ground, (6.0, -3.0), 1), scene(ground, (-2.0, 5.0), 2)]))
    assert shifts[0] == pytest.approx([4.0, -4.0], abs=0.1)
    assert shifts[1] == pytest.approx([-4.0, 4.0], abs=0.1)


def test_one_date_has_nothing_to_lie_against() -> None:
    (shift,) = found([scene(texture(3), (6.0, 0.0))])
    assert not shift.usable
    assert "too little clear ground" in shift.why
    assert (shift.x_m, shift.y_m) == (0, 0)


def test_the_same_bytes_again_and_in_another_order() -> None:
    ground, true = texture(8), np.random.default_rng(8).uniform(-9, 9, (5, 2))
    stack = [scene(ground, (x, y), seed) for seed, (x, y) in enumerate(true)]
    assert found(stack) == found(stack)
    assert metres(found(stack[::-1]))[::-1] == pytest.approx(metres(found(stack)), abs=0.01)


@pytest.mark.parametrize("others", [1, 2, 4])
@pytest.mark.parametrize("referenced", [True, False])
def test_a_scene_80_m_off_is_refused_and_draws_no_other_to_it(others: int, referenced: bool) -> None:
    ground = texture(5)
    stack = [scene(ground, (80.0, 0.0), 1)] + [scene(ground, (2.0 * k, 4.0 - 2 * k), 2 + k) for k in range(others)]
    shifts = found(stack, reference=scene(ground, (0, 0), 99) if referenced else None)
    assert "80 m off" in shifts[0].why
    assert "15 m" in shifts[0].why
    assert (shifts[0].x_m, shifts[0].y_m) == (0, 0)
    # Of two dates nobody knows which is off.
    assert [shift.usable for shift in shifts[1:]] == [referenced or others > 1] * others
    if others > 1:
        apart = metres(shifts)[1:] - metres(shifts)[1]
        assert apart == pytest.approx(np.array([[2.0 * k, -2.0 * k] for k in range(others)]), abs=0.2)


def test_a_shift_just_above_the_bound_is_refused() -> None:
    ground = texture(5)
    one, other = found([scene(ground, (14.0, 0.0), 1), scene(ground, (0.0, -16.5), 2)], reference=scene(ground, (0, 0)))
    assert one.usable
    assert "16 m off" in other.why or "17 m off" in other.why


def test_water_and_clouds_are_refused_with_a_reason() -> None:
    rng, ground = np.random.default_rng(1), texture(2)
    water = np.rint(500 + rng.normal(0, 15, ground.shape)).astype(np.uint16)
    clear = np.ones((3, SIDE, SIDE), dtype=bool)
    clear[1] = False
    clear[1, :40, :40] = True
    cloud = np.rint(np.clip(6000 + 40 * (texture(31) - 1500) / 30, 1, 60_000)).astype(np.uint16)
    overlooked = cloud  # a cloud that no mask tells
    stack = [scene(ground, (3.0, 3.0)), np.where(clear[1], ground, 9000).astype(np.uint16), overlooked]
    shifts = found(stack, clear, scene(ground, (0, 0), 9))
    assert shifts[0].usable
    assert "too little clear ground" in shifts[1].why
    assert "no texture" in shifts[2].why or "unlike" in shifts[2].why
    for shift in found([water, scene(ground, (3.0, 3.0))], reference=water[:, ::-1]):
        assert "no texture" in shift.why


def test_what_is_not_clear_plays_no_part() -> None:
    ground = texture(4)
    stack, clear = scene(ground, (4.0, -6.0), 1)[None], np.ones((1, SIDE, SIDE), dtype=bool)
    clear[0, 60:170, 20:140] = False
    junk = np.where(clear[:, None], stack, np.random.default_rng(0).integers(1, 9000, stack.shape).astype(np.uint16))
    base = scene(ground, (0, 0), 2)
    base[:, 200:, 200:] = 0  # unknown in the reference
    assert found(list(junk), clear, base) == found(list(stack), clear, base)
    assert metres(found(list(junk), clear, base))[0] == pytest.approx([4.0, -6.0], abs=0.3)


def test_fields_whose_contrast_turns_over_still_tell_the_shift() -> None:
    ground = texture(6)
    turned = ground.copy()
    squares = np.indices((SIDE // 32, SIDE // 32)).sum(axis=0) % 2 == 1
    where = np.kron(squares, np.ones((32, 32), dtype=bool))
    turned[:, where] = 3000 - turned[:, where]
    (shift,) = found([scene(turned, (5.0, -4.0), 1, noise=10)], reference=scene(ground, (0, 0), 2, noise=10))
    assert np.hypot(shift.x_m - 5, shift.y_m + 4) < 1.0


def test_windows_of_nothing() -> None:
    with pytest.raises(DataError, match=r"register\.windows"):
        register.register([], [], None, MAX_M)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 99))
def test_medians_of_others(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen, alive = rng.random((count, 3, 4)) < 0.7, rng.random(count) < 0.8
    values = rng.integers(-4, 5, (count, 2, 3, 4)).astype(np.float32) * seen[:, None]
    scenes = [local_contrast.Contrast(each, where) for each, where in zip(values, seen)]
    for k, median in enumerate(local_contrast.medians_of_others(scenes, alive)):
        for row, col in np.ndindex(3, 4):
            rest = [j for j in range(count) if j != k and alive[j] and seen[j, row, col]]
            assert median.seen[row, col] == bool(rest)
            wanted = np.median(values[rest, :, row, col], axis=0) if rest else np.zeros(2)
            assert median.values[:, row, col].tolist() == wanted.tolist()


def test_contrast_moves_the_stated_way_and_forgets_haze() -> None:
    image = texture(9).astype(np.uint16)
    clear = np.ones((SIDE, SIDE), dtype=bool)
    one = local_contrast.contrast(image, clear)
    moved = local_contrast.contrast(image, clear, np.array([2.0, -1.0]))
    inner = slice(40, -40)
    assert moved.values[:, inner, inner] == pytest.approx(one.values[:, 41:-39, 38:-42], abs=0.5)
    hazy = local_contrast.contrast(image + np.uint16(700), clear)
    assert hazy.values == pytest.approx(one.values, abs=0.5)
    assert not one.values[:, ~one.seen].any()


@pytest.fixture(scope="module")
def optics() -> dict[int, sensors.Sentinel2Optics]:
    """A square of the synthetic scene's valley in two years."""
    valley = make_valley(2, 11)
    panel = panel_raster.Panel(2000, 0, 4000, 2000).grown(MARGIN_M)
    layers = render_static(valley, panel, panel_raster.make_textures(11))
    return {year: sensors.Sentinel2Optics(render_year(valley, layers, year)) for year in (2021, 2023)}


def look(
    optics: sensors.Sentinel2Optics, day: float, shift_m: tuple[float, float], rng: np.random.Generator, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """(uint16 [bands, rows, columns], clear) of a date, of 5 % another gain, under clouds."""
    surface = optics.observe(day, shift_m) * rng.uniform(0.95, 1.05, (4, 1, 1))
    shape = surface.shape[1:]
    opacity, shade = sensors.cloud_layers(rng, shape, share)
    seen = sensors.add_clouds(surface, opacity, shade, rng)
    stored = sensors.digital_numbers(seen, 0, np.ones(shape, dtype=bool), rng)[:3]
    return stored, ~maximum_filter((opacity > 0.06) | (shade > 0.12), 9)


@pytest.mark.parametrize("referenced", [True, False])
@pytest.mark.parametrize("seasonal", [True, False])
def test_dates_of_the_valley(optics: dict[int, sensors.Sentinel2Optics], referenced: bool, seasonal: bool) -> None:
    errors, usable, scenes = [], 0, 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        true = rng.uniform(-7, 7, (8, 2))
        days = np.sort(rng.uniform(96, 298, 8)) if seasonal else np.full(8, 200.0)
        dates = [
            look(optics[2021], day, (x, y), rng, share)
            for day, (x, y), share in zip(days, true, rng.choice([0.0, 0.15, 0.3], 8))
        ]
        base = [look(optics[2023], day, (0.0, 0.0), rng, 0.0)[0] for day in (120, 170, 210, 250, 280)]
        reference = np.median(base, axis=0).astype(np.uint16) if referenced else None
        shifts = found([stack for stack, _ in dates], np.stack([clear for _, clear in dates]), reference)
        good = np.array([shift.usable for shift in shifts])
        error = metres(shifts)[good] - true[good]
        errors += np.hypot(*(error if referenced else error - np.median(error, axis=0)).T).tolist()
        usable, scenes = usable + int(good.sum()), scenes + len(shifts)
    assert usable >= 0.7 * scenes
    assert np.quantile(errors, 0.95) < 1.0
    assert np.median(errors) < 0.5


def test_a_synthetic_scene_80_m_off_and_an_overcast_one(optics: dict[int, sensors.Sentinel2Optics]) -> None:
    rng = np.random.default_rng(4)
    dates = [look(optics[2021], 200 + k, (1.0 * k, 0.0), rng, 0.0) for k in range(3)]
    dates += [look(optics[2021], 210, (0.0, -80.0), rng, 0.0), look(optics[2021], 215, (0.0, 0.0), rng, 0.95)]
    shifts = found([stack for stack, _ in dates], np.stack([clear for _, clear in dates]))
    assert [shift.usable for shift in shifts] == [True, True, True, False, False]
    assert "80 m off" in shifts[3].why
    assert "too little clear ground" in shifts[4].why
