"""The made-up valley: growth, births, looks, radiometry."""

import itertools

import numpy as np
import pytest

from jointseg.synthetic import acquisitions, materials, render, sensors, sentinel2_archive, vectors
from jointseg.synthetic.city import GROWTH
from jointseg.synthetic.terrain import REACHES, Frame
from jointseg.synthetic.valley import World, make_world

YEARS = (2017, 2019, 2021, 2022, 2023)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(1, 11)


@pytest.fixture(scope="module")
def land(world: World) -> render.Ground:
    return render.ground(world, _whole(world), render.textures(11))


def _whole(world: World) -> render.Panel:
    return render.Panel(0, 0, world.frame.width_m, world.frame.reach_m)


def _isa(world: World, land: render.Ground, year: int) -> np.ndarray:
    return np.array([False] + [thing.isa for thing in world.things])[render.top_of(world, land, year)]


def test_what_is_impervious_stays_so(world: World, land: render.Ground) -> None:
    years = [_isa(world, land, year) for year in range(2015, 2025)]
    for before, after in itertools.pairwise(years):
        assert not (before & ~after).any()
    assert years[-1].sum() > years[0].sum()


def test_every_impervious_object_has_a_year_of_birth(world: World) -> None:
    assert all(1900 < thing.birth < 2030 for thing in world.things if thing.isa)


def test_share_of_impervious_ground(world: World, land: render.Ground) -> None:
    assert 0.08 < _isa(world, land, 2021).mean() < 0.30


def test_cities_grow_fast_moderately_and_not_much_more() -> None:
    share = {reach: dict(points) for reach, points in GROWTH.items()}
    gain = [share[reach][2023] / share[reach][2017] - 1 for reach in REACHES]
    assert gain[0] > 2 * gain[1] > 2 * gain[2] > 0
    saturating = share["downstream"]
    assert saturating[2019] - saturating[2017] > 2 * (saturating[2021] - saturating[2019]) > 0


def test_same_seed_same_valley_other_seed_another(world: World) -> None:
    again, other = make_world(1, 11), make_world(1, 12)
    assert [thing.shape.wkb for thing in again.things] == [thing.shape.wkb for thing in world.things]
    np.testing.assert_array_equal(again.spectra, world.spectra)
    assert len(other.things) != len(world.things)


def test_a_panel_is_the_same_ground_wherever_it_is_cut(world: World, land: render.Ground) -> None:
    small = render.Panel(400, 200, 700, 600)
    part = render.picture(world, render.ground(world, small, render.textures(11)), 2021)
    whole = render.picture(world, land, 2021)
    rows, cols = slice(1000 - 600, 1000 - 200), slice(400, 700)
    np.testing.assert_array_equal(part.top, whole.top[rows, cols])
    assert np.mean(np.abs(part.static - whole.static[:, rows, cols]) > 1e-4) < 1e-3


@pytest.mark.parametrize("year", [2017, 2019, 2021, 2023])
@pytest.mark.parametrize("dates", [3, 5])
def test_every_pixel_has_two_clear_looks_but_no_year_is_clear(year: int, dates: int) -> None:
    frame = Frame(1000, 11)
    wanted = acquisitions.looks(frame, year, dates)
    made = sentinel2_archive.skies(frame, year, wanted)
    assert len(wanted) == dates + 1
    assert sensors.clear_looks([(sky.opacity, sky.shade, sky.seen) for sky in made]).min() >= 2
    assert max(sky.opacity.mean() for sky in made) > 0.5


def test_names_baselines_and_offsets() -> None:
    for year in (2017, 2019, 2021, 2023):
        for look in acquisitions.looks(Frame(1000, 11), year, 5):
            assert look.id.startswith(f"{look.platform}_MSI{look.level}_{year}")
            assert look.level == ("L1C" if year == 2017 else "L2A")
            assert look.offset_dn == (1000 if float(look.baseline) >= 4 else 0)
            assert np.hypot(*look.shift_m) <= 3.0
    assert {look.baseline for look in acquisitions.looks(Frame(1000, 11), 2023, 5)} == {"05.09"}


def test_blur_has_the_stated_mtf() -> None:
    x = np.arange(2000)
    wave = (0.5 + 0.4 * np.cos(2 * np.pi * (x + 0.5) / 20))[None].repeat(1000, axis=0).astype(np.float32)
    none = np.full(wave.shape, render.NO_PHASE, np.uint8)
    view = render.Picture(np.stack([wave] * 4), np.zeros_like(wave), none, np.zeros(wave.shape, np.int32))
    optics = sensors.Optics(view)
    seen = np.concatenate([optics.look(200, (shift, 0.0))[0, 20] for shift in np.arange(0, 20, 0.5)])
    # The 2 m block means damp by another 0.984, the linear sampling between them by 0.95 at worst.
    assert 0.92 * sensors.MTF_NYQUIST < np.ptp(seen) / 0.8 < sensors.MTF_NYQUIST


def test_a_shift_moves_the_picture_the_stated_way() -> None:
    ramp = (0.1 + 1e-4 * np.arange(1000, dtype=np.float32))[None].repeat(1000, axis=0)
    none = np.full(ramp.shape, render.NO_PHASE, np.uint8)
    view = render.Picture(np.stack([ramp] * 4), np.zeros_like(ramp), none, np.zeros(ramp.shape, np.int32))
    optics = sensors.Optics(view)
    moved = optics.look(200, (3.0, 0.0))[0] - optics.look(200, (0.0, 0.0))[0]
    np.testing.assert_allclose(moved, 3e-4, atol=2e-5)


def test_stored_numbers_carry_the_offset_and_zero_means_not_seen() -> None:
    reflectance = np.full((4, 50, 50), 0.2, np.float32)
    seen = np.ones((50, 50), bool)
    seen[:, :10] = False
    stored = sensors.digital_numbers(reflectance, 1000, seen, np.random.default_rng(1))
    assert not stored[:, :, :10].any()
    assert stored[:, :, 10:].mean() == pytest.approx(3000, rel=0.03)


def test_seasons_are_fractions() -> None:
    days = np.array([materials.green_fraction(day) for day in range(1, 367)])
    assert days.min() >= 0 and days.max() <= 1
    summer, winter = materials.green_fraction(205), materials.green_fraction(10)
    rice = materials.PHASE["rice"]
    assert summer[rice] > 0.8
    assert winter[rice] < 0.2


def test_sources_have_gaps(world: World) -> None:
    held = vectors.mapped(world, 2022)
    roads = np.array([thing.line is not None and thing.isa for thing in world.things])
    houses = np.array([thing.kind == "building" and not thing.city for thing in world.things])
    alive = np.array([thing.birth <= 2022 for thing in world.things])
    assert 0.6 < held[roads & alive].mean() < 0.97
    assert held[houses & alive].mean() < 0.25
    assert not held[~alive].any()
