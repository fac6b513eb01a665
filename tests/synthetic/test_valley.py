"""Features, growth, acquisitions and radiometry of the synthetic valley."""

import itertools

import numpy as np
import pytest

from jointseg.synthetic import acquisitions, materials, sensors, sentinel2_archive, vectors
from jointseg.synthetic.city import GROWTH, GROWTH_YEARS
from jointseg.synthetic.landscape import NO_VEGETATION, StaticLayers, render_static
from jointseg.synthetic.panel_raster import Panel, make_textures
from jointseg.synthetic.render import YearlyView, render_year, top_features
from jointseg.synthetic.terrain import REACHES, Frame
from jointseg.synthetic.valley import Valley, make_valley


@pytest.fixture(scope="module")
def valley() -> Valley:
    return make_valley(1, 11)


@pytest.fixture(scope="module")
def layers(valley: Valley) -> StaticLayers:
    return render_static(valley, Panel(0, 0, valley.frame.width_m, valley.frame.reach_m), make_textures(11))


def impervious(valley: Valley, layers: StaticLayers, year: int) -> np.ndarray:
    of_feature = np.array([False] + [feature.impervious for feature in valley.features])
    return of_feature[top_features(valley, layers, year)]


def uniform_view(band: np.ndarray) -> YearlyView:
    """Return a view without vegetation whose four bands are equal."""
    no_vegetation = np.full(band.shape, NO_VEGETATION, np.uint8)
    return YearlyView(np.stack([band] * 4), np.zeros_like(band), no_vegetation, np.zeros(band.shape, np.int32))


def test_impervious_surface_never_disappears(valley: Valley, layers: StaticLayers) -> None:
    years = [impervious(valley, layers, year) for year in range(2015, 2025)]
    for before, after in itertools.pairwise(years):
        assert not (before & ~after).any()
    assert years[-1].sum() > years[0].sum()


def test_impervious_features_have_a_construction_year(valley: Valley) -> None:
    assert all(1900 < feature.year_built < 2030 for feature in valley.features if feature.impervious)


def test_isa_fraction_of_the_valley(valley: Valley, layers: StaticLayers) -> None:
    assert 0.08 < impervious(valley, layers, 2021).mean() < 0.30


def test_upstream_grows_fastest_and_downstream_saturates() -> None:
    fraction = {reach: dict(zip(GROWTH_YEARS, GROWTH[reach])) for reach in REACHES}
    gain = [fraction[reach][2023] / fraction[reach][2017] - 1 for reach in REACHES]
    assert gain[0] > 2 * gain[1] > 2 * gain[2] > 0
    saturating = fraction["downstream"]
    assert saturating[2019] - saturating[2017] > 2 * (saturating[2021] - saturating[2019]) > 0


def test_valley_depends_on_the_seed_only(valley: Valley) -> None:
    same, different = make_valley(1, 11), make_valley(1, 12)
    assert [feature.shape.wkb for feature in same.features] == [feature.shape.wkb for feature in valley.features]
    np.testing.assert_array_equal(same.spectra, valley.spectra)
    assert len(different.features) != len(valley.features)


def test_rendering_does_not_depend_on_the_panel(valley: Valley, layers: StaticLayers) -> None:
    small = Panel(400, 200, 700, 600)
    part = render_year(valley, render_static(valley, small, make_textures(11)), 2021)
    full = render_year(valley, layers, 2021)
    rows, cols = slice(1000 - 600, 1000 - 200), slice(400, 700)
    np.testing.assert_array_equal(part.top, full.top[rows, cols])
    assert np.mean(np.abs(part.static - full.static[:, rows, cols]) > 1e-4) < 1e-3


@pytest.mark.parametrize("year", [2017, 2019, 2021, 2023])
@pytest.mark.parametrize("dates", [3, 5])
def test_pixels_have_two_clear_observations_and_one_date_is_overcast(year: int, dates: int) -> None:
    frame = Frame(1000, 11)
    planned = acquisitions.sentinel2_acquisitions(frame, year, dates)
    simulated = sentinel2_archive.visibilities(frame, year, planned)
    assert len(planned) == dates + 1
    covers = [(each.opacity, each.shadow, each.in_swath) for each in simulated]
    assert sensors.count_clear_observations(covers).min() >= 2
    assert max(each.opacity.mean() for each in simulated) > 0.5


def test_product_names_baselines_and_offsets() -> None:
    for year in (2017, 2019, 2021, 2023):
        for each in acquisitions.sentinel2_acquisitions(Frame(1000, 11), year, 5):
            assert each.id.startswith(f"{each.platform}_MSI{each.level}_{year}")
            assert each.level == ("L1C" if year == 2017 else "L2A")
            assert each.offset_dn == (1000 if float(each.baseline) >= 4 else 0)
            assert np.hypot(*each.shift_m) <= 3.0
    of_2023 = acquisitions.sentinel2_acquisitions(Frame(1000, 11), 2023, 5)
    assert {each.baseline for each in of_2023} == {"05.09"}


def test_blur_has_the_specified_mtf() -> None:
    x = np.arange(2000)
    wave = (0.5 + 0.4 * np.cos(2 * np.pi * (x + 0.5) / 20))[None].repeat(1000, axis=0).astype(np.float32)
    optics = sensors.Sentinel2Optics(uniform_view(wave))
    blurred = np.concatenate([optics.observe(200, (shift, 0.0))[0, 20] for shift in np.arange(0, 20, 0.5)])
    # The 2 m block means attenuate by another 0.984, linear interpolation between them by 0.95 at worst.
    assert 0.92 * sensors.MTF_NYQUIST < np.ptp(blurred) / 0.8 < sensors.MTF_NYQUIST


def test_shift_is_from_image_coordinates_to_the_true_location() -> None:
    ramp = (0.1 + 1e-4 * np.arange(1000, dtype=np.float32))[None].repeat(1000, axis=0)
    optics = sensors.Sentinel2Optics(uniform_view(ramp))
    moved = optics.observe(200, (3.0, 0.0))[0] - optics.observe(200, (0.0, 0.0))[0]
    np.testing.assert_allclose(moved, 3e-4, atol=2e-5)


def test_digital_numbers_include_the_offset_and_zero_is_nodata() -> None:
    reflectance = np.full((4, 50, 50), 0.2, np.float32)
    valid = np.ones((50, 50), bool)
    valid[:, :10] = False
    stored = sensors.digital_numbers(reflectance, 1000, valid, np.random.default_rng(1))
    assert not stored[:, :, :10].any()
    assert stored[:, :, 10:].mean() == pytest.approx(3000, rel=0.03)


def test_green_fractions_follow_the_seasons() -> None:
    days = np.array([materials.green_fraction(day) for day in range(1, 367)])
    assert days.min() >= 0 and days.max() <= 1
    summer, winter = materials.green_fraction(205), materials.green_fraction(10)
    rice = materials.VEGETATION_CODE["rice"]
    assert summer[rice] > 0.8
    assert winter[rice] < 0.2


def test_openstreetmap_is_incomplete(valley: Valley) -> None:
    in_osm = vectors.osm_coverage(valley, 2022)
    roads = np.array([feature.line is not None and feature.impervious for feature in valley.features])
    houses = np.array([feature.kind == "building" and not feature.city for feature in valley.features])
    exists = np.array([feature.year_built <= 2022 for feature in valley.features])
    assert 0.6 < in_osm[roads & exists].mean() < 0.97
    assert in_osm[houses & exists].mean() < 0.25
    assert not in_osm[~exists].any()
