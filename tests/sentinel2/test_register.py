"""Registration recovers known shifts, or rejects the scene with a reason."""

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
    """Return a periodic surface with the spectrum of land in the 10 m bands, float64 [bands, side, side], x 10000."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    amplitude = np.exp(-2 * np.pi**2 * 0.53**2 * frequency**2) / np.maximum(frequency, 0.01)
    noise = rng.standard_normal((BANDS + 1, side, side))
    fields = np.fft.ifft2(np.fft.fft2(noise) * amplitude).real
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return 1500 + 300 * (fields[0] + 0.5 * fields[1:])


def scene(surface: np.ndarray, shift_m: tuple[float, float], seed: int = 0, noise: float = 20.0) -> np.ndarray:
    """Return a scene with the registration shift `shift_m`, uint16; shifted exactly in the Fourier domain."""
    rng = np.random.default_rng(seed)
    side = surface.shape[-1]
    across, down = np.fft.rfftfreq(side)[None], np.fft.fftfreq(side)[:, None]
    # The content is displaced to the west and south: smaller columns, larger rows.
    phase = np.exp(2j * np.pi * (across * shift_m[0] - down * shift_m[1]) / 10)
    moved = np.fft.irfft2(np.fft.rfft2(surface) * phase, surface.shape[1:])
    gain, haze = rng.uniform(0.95, 1.05, (BANDS, 1, 1)), rng.uniform(0, 200)
    return np.rint(np.clip(moved * gain + haze + rng.normal(0, noise, moved.shape), 1, 60_000)).astype(np.uint16)


def registrations(
    stack: list, clear: np.ndarray | None = None, reference: np.ndarray | None = None
) -> list[register.Registration]:
    """Register whole images through the windows of `register.windows`."""
    images = np.stack(stack)
    clear = np.ones((len(images), *images.shape[2:]), dtype=bool) if clear is None else clear
    windows = register.windows(images.shape[2:])

    def cut(array: np.ndarray) -> list[np.ndarray]:
        return [array[(..., *window)] for window in windows]

    return register.register(cut(images), cut(clear), None if reference is None else cut(reference), MAX_M)


def metres(shifts: list[register.Registration]) -> np.ndarray:
    return np.array([[shift.x_m, shift.y_m] for shift in shifts])


@pytest.mark.parametrize(
    ("shape", "counts", "side"),
    [
        ((3000, 3000), (4, 4), (192, 192)),
        ((100, 100), (1, 1), (100, 100)),
        ((358, 1200), (2, 4), (179, 192)),
        ((20, 500), (1, 3), (20, 166)),
    ],
)
def test_windows_are_evenly_spaced(shape: tuple[int, int], counts: tuple[int, int], side: tuple[int, int]) -> None:
    windows = register.windows(shape)
    covered = np.zeros(shape, dtype=int)
    for window in windows:
        assert covered[window].shape == side
        covered[window] += 1
    assert len(windows) == counts[0] * counts[1]
    assert covered.max() == 1
    assert np.nonzero(covered)[0].mean() == pytest.approx((shape[0] - 1) / 2, abs=1)
    assert np.nonzero(covered)[1].mean() == pytest.approx((shape[1] - 1) / 2, abs=1)


@settings(max_examples=10, deadline=None)
@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(0, 5))
def test_shift_to_a_reference_is_recovered(x: float, y: float, seed: int) -> None:
    surface = texture(seed)
    (shift,) = registrations([scene(surface, (x, y), seed)], reference=scene(surface, (0, 0), 99))
    assert shift.usable and shift.reason == ""
    assert np.hypot(shift.x_m - x, shift.y_m - y) < 0.2
    assert shift.quality > 0.7
    assert shift.cells >= 12
    assert shift.record()["usable"] is True


def test_without_a_reference_relative_shifts_are_recovered_and_their_median_is_zero() -> None:
    surface, true = texture(7), np.random.default_rng(7).uniform(-10, 10, (9, 2))
    shifts = registrations([scene(surface, (x, y), seed) for seed, (x, y) in enumerate(true)])
    assert all(shift.usable for shift in shifts)
    error = metres(shifts) - true
    assert np.hypot(*(error - np.median(error, axis=0)).T).max() < 0.2
    assert np.abs(np.median(metres(shifts), axis=0)).max() < 0.1


def test_two_scenes_are_both_shifted_by_half() -> None:
    surface = texture(3)
    shifts = metres(registrations([scene(surface, (6.0, -3.0), 1), scene(surface, (-2.0, 5.0), 2)]))
    assert shifts[0] == pytest.approx([4.0, -4.0], abs=0.1)
    assert shifts[1] == pytest.approx([-4.0, 4.0], abs=0.1)


def test_single_scene_without_reference_is_not_registered() -> None:
    (shift,) = registrations([scene(texture(3), (6.0, 0.0))])
    assert not shift.usable
    assert "too few clear pixels" in shift.reason
    assert (shift.x_m, shift.y_m) == (0, 0)


def test_result_is_reproducible_and_independent_of_the_order() -> None:
    surface, true = texture(8), np.random.default_rng(8).uniform(-9, 9, (5, 2))
    stack = [scene(surface, (x, y), seed) for seed, (x, y) in enumerate(true)]
    assert registrations(stack) == registrations(stack)
    assert metres(registrations(stack[::-1]))[::-1] == pytest.approx(metres(registrations(stack)), abs=0.01)


@pytest.mark.parametrize("others", [1, 2, 4])
@pytest.mark.parametrize("referenced", [True, False])
def test_outlier_of_80_m_is_rejected_and_does_not_bias_the_others(others: int, referenced: bool) -> None:
    surface = texture(5)
    stack = [scene(surface, (80.0, 0.0), 1)] + [scene(surface, (2.0 * k, 4.0 - 2 * k), 2 + k) for k in range(others)]
    shifts = registrations(stack, reference=scene(surface, (0, 0), 99) if referenced else None)
    assert "the shift is 80 m" in shifts[0].reason
    assert "15 m" in shifts[0].reason
    assert (shifts[0].x_m, shifts[0].y_m) == (0, 0)
    # With two dates and no reference the outlier is ambiguous.
    assert [shift.usable for shift in shifts[1:]] == [referenced or others > 1] * others
    if others > 1:
        apart = metres(shifts)[1:] - metres(shifts)[1]
        assert apart == pytest.approx(np.array([[2.0 * k, -2.0 * k] for k in range(others)]), abs=0.2)


def test_shift_just_above_the_limit_is_rejected() -> None:
    surface = texture(5)
    one, other = registrations(
        [scene(surface, (14.0, 0.0), 1), scene(surface, (0.0, -16.5), 2)], reference=scene(surface, (0, 0))
    )
    assert one.usable
    assert "is 16 m" in other.reason or "is 17 m" in other.reason


def test_water_and_clouds_are_rejected_with_a_reason() -> None:
    rng, surface = np.random.default_rng(1), texture(2)
    water = np.rint(500 + rng.normal(0, 15, surface.shape)).astype(np.uint16)
    clear = np.ones((3, SIDE, SIDE), dtype=bool)
    clear[1] = False
    clear[1, :40, :40] = True
    cloud = np.rint(np.clip(6000 + 40 * (texture(31) - 1500) / 30, 1, 60_000)).astype(np.uint16)
    unmasked = cloud
    stack = [scene(surface, (3.0, 3.0)), np.where(clear[1], surface, 9000).astype(np.uint16), unmasked]
    shifts = registrations(stack, clear, scene(surface, (0, 0), 9))
    assert shifts[0].usable
    assert "too few clear pixels" in shifts[1].reason
    assert "no texture" in shifts[2].reason or "unlike" in shifts[2].reason
    for shift in registrations([water, scene(surface, (3.0, 3.0))], reference=water[:, ::-1]):
        assert "no texture" in shift.reason


def test_masked_pixels_have_no_influence() -> None:
    surface = texture(4)
    stack, clear = scene(surface, (4.0, -6.0), 1)[None], np.ones((1, SIDE, SIDE), dtype=bool)
    clear[0, 60:170, 20:140] = False
    junk = np.where(clear[:, None], stack, np.random.default_rng(0).integers(1, 9000, stack.shape).astype(np.uint16))
    base = scene(surface, (0, 0), 2)
    base[:, 200:, 200:] = 0  # nodata in the reference
    assert registrations(list(junk), clear, base) == registrations(list(stack), clear, base)
    assert metres(registrations(list(junk), clear, base))[0] == pytest.approx([4.0, -6.0], abs=0.3)


def test_fields_with_inverted_contrast_are_registered() -> None:
    surface = texture(6)
    inverted = surface.copy()
    squares = np.indices((SIDE // 32, SIDE // 32)).sum(axis=0) % 2 == 1
    where = np.kron(squares, np.ones((32, 32), dtype=bool))
    inverted[:, where] = 3000 - inverted[:, where]
    (shift,) = registrations([scene(inverted, (5.0, -4.0), 1, noise=10)], reference=scene(surface, (0, 0), 2, noise=10))
    assert np.hypot(shift.x_m - 5, shift.y_m + 4) < 1.0


def test_no_window_is_an_error() -> None:
    with pytest.raises(DataError, match=r"register\.windows"):
        register.register([], [], None, MAX_M)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 99))
def test_medians_of_others(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen, included = rng.random((count, 3, 4)) < 0.7, rng.random(count) < 0.8
    values = rng.integers(-4, 5, (count, 2, 3, 4)).astype(np.float32) * seen[:, None]
    scenes = [local_contrast.Contrast(each, where) for each, where in zip(values, seen)]
    for k, median in enumerate(local_contrast.medians_of_others(scenes, included)):
        for row, col in np.ndindex(3, 4):
            rest = [j for j in range(count) if j != k and included[j] and seen[j, row, col]]
            assert median.valid[row, col] == bool(rest)
            expected = np.median(values[rest, :, row, col], axis=0) if rest else np.zeros(2)
            assert median.values[:, row, col].tolist() == expected.tolist()


def test_contrast_is_shifted_and_independent_of_haze() -> None:
    image = texture(9).astype(np.uint16)
    clear = np.ones((SIDE, SIDE), dtype=bool)
    one = local_contrast.contrast(image, clear)
    moved = local_contrast.contrast(image, clear, np.array([2.0, -1.0]))
    inner = slice(40, -40)
    assert moved.values[:, inner, inner] == pytest.approx(one.values[:, 41:-39, 38:-42], abs=0.5)
    hazy = local_contrast.contrast(image + np.uint16(700), clear)
    assert hazy.values == pytest.approx(one.values, abs=0.5)
    assert not one.values[:, ~one.valid].any()


@pytest.fixture(scope="module")
def optics() -> dict[int, sensors.Sentinel2Optics]:
    """Optics of a square of the synthetic scene in two years."""
    valley = make_valley(2, 11)
    panel = panel_raster.Panel(2000, 0, 4000, 2000).grown(MARGIN_M)
    layers = render_static(valley, panel, panel_raster.make_textures(11))
    return {year: sensors.Sentinel2Optics(render_year(valley, layers, year)) for year in (2021, 2023)}


def simulate_date(
    optics: sensors.Sentinel2Optics, day: float, shift_m: tuple[float, float], rng: np.random.Generator, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (uint16 [bands, rows, columns], clear) of a date with a random gain within 5 %, and clouds."""
    surface = optics.observe(day, shift_m) * rng.uniform(0.95, 1.05, (4, 1, 1))
    shape = surface.shape[1:]
    opacity, shade = sensors.cloud_layers(rng, shape, share)
    seen = sensors.add_clouds(surface, opacity, shade, rng)
    stored = sensors.digital_numbers(seen, 0, np.ones(shape, dtype=bool), rng)[:3]
    return stored, ~maximum_filter((opacity > 0.06) | (shade > 0.12), 9)


@pytest.mark.parametrize("referenced", [True, False])
@pytest.mark.parametrize("seasonal", [True, False])
def test_registration_of_the_synthetic_scene(
    optics: dict[int, sensors.Sentinel2Optics], referenced: bool, seasonal: bool
) -> None:
    errors, usable, scenes = [], 0, 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        true = rng.uniform(-7, 7, (8, 2))
        days = np.sort(rng.uniform(96, 298, 8)) if seasonal else np.full(8, 200.0)
        dates = [
            simulate_date(optics[2021], day, (x, y), rng, share)
            for day, (x, y), share in zip(days, true, rng.choice([0.0, 0.15, 0.3], 8))
        ]
        base = [simulate_date(optics[2023], day, (0.0, 0.0), rng, 0.0)[0] for day in (120, 170, 210, 250, 280)]
        reference = np.median(base, axis=0).astype(np.uint16) if referenced else None
        shifts = registrations([stack for stack, _ in dates], np.stack([clear for _, clear in dates]), reference)
        good = np.array([shift.usable for shift in shifts])
        error = metres(shifts)[good] - true[good]
        errors += np.hypot(*(error if referenced else error - np.median(error, axis=0)).T).tolist()
        usable, scenes = usable + int(good.sum()), scenes + len(shifts)
    assert usable >= 0.7 * scenes
    assert np.quantile(errors, 0.95) < 1.0
    assert np.median(errors) < 0.5


def test_synthetic_outlier_and_overcast_scene_are_rejected(optics: dict[int, sensors.Sentinel2Optics]) -> None:
    rng = np.random.default_rng(4)
    dates = [simulate_date(optics[2021], 200 + k, (1.0 * k, 0.0), rng, 0.0) for k in range(3)]
    dates += [
        simulate_date(optics[2021], 210, (0.0, -80.0), rng, 0.0),
        simulate_date(optics[2021], 215, (0.0, 0.0), rng, 0.95),
    ]
    shifts = registrations([stack for stack, _ in dates], np.stack([clear for _, clear in dates]))
    assert [shift.usable for shift in shifts] == [True, True, True, False, False]
    assert "the shift is 80 m" in shifts[3].reason
    assert "too few clear pixels" in shifts[4].reason
