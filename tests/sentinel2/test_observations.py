"""What counts as a clear look: edges, passes, widened seasons, shifts; the same however the ground is cut."""

import json

import numpy as np
import pytest
from support.tiny_sentinel2 import SIDE, TILE, TILE_KM, catalogue, compositing, item, listing, plain, rgb, scl

from jointseg.area.grid import parse_tile
from jointseg.raster.io import read
from jointseg.sentinel2 import scene as scene_list
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.observations import MaskSettings, ObservationReader, select_observations
from jointseg.sentinel2.reducers import IN_SEASON, PADDED
from jointseg.sentinel2.scene_windows import FileReader
from jointseg.sentinel2.scenes import days_outside_season, scenes

BANDS = ["B04", "B03", "B02"]
BOUNDS = parse_tile(TILE, TILE_KM).bounds


def listed(root, **changes):
    scenes(scenes=root.parent / "scenes.json", archive=root, **listing(**changes))
    return scene_list.load_scenes(root.parent / "scenes.json")


def observer(root, shifts=None, clearness=None, **changes):
    found = listed(root, **changes)
    return ObservationReader(
        FileReader(root, 32650), found, BANDS, clearness or MaskSettings([0, 3, 8, 9, 10], 0), BOUNDS, shifts
    )


def half(value, west):
    """Bands with data in the western or the eastern 60 columns of 100."""
    bands = rgb(value)
    for band in bands.values():
        band[:, 60:] = 0 if west else band[:, 60:]
        band[:, :40] = band[:, :40] if west else 0
    return bands


def test_granules_of_one_pass_count_once(tmp_path):
    same = {"when": "2021-07-01T02:50:00Z", "sat:relative_orbit": 32}
    item(tmp_path / "a", "s1", half(800, west=True) | {"SCL": scl()}, **same)
    item(tmp_path / "a", "s2", half(900, west=False) | {"SCL": scl()}, **same)
    item(tmp_path / "a", "s3", rgb(700) | {"SCL": scl()}, when="2021-07-04T02:50:00Z", **{"sat:relative_orbit": 132})
    stack, clear = observer(catalogue(tmp_path / "a")).read(BOUNDS)
    assert (clear.sum(axis=0) == 2).all()
    assert clear[0, :, :60].all() and not clear[1, :, :60].any() and clear[1, :, 60:].all()
    assert (stack[1, 0, :, 40:] == 900).all()


def test_scenes_of_unknown_orbit_are_no_pass(tmp_path):
    for name in ("s1", "s2"):
        item(tmp_path / "a", name, rgb(800) | {"SCL": scl()}, **{"s2:mgrs_tile": f"50R{name}"})
    assert (observer(catalogue(tmp_path / "a")).read(BOUNDS)[1].sum(axis=0) == 2).all()


def test_edges_of_the_data_do_not_count_however_the_ground_is_cut(tmp_path):
    item(tmp_path / "a", "s1", half(800, west=True) | {"SCL": scl()})
    look = observer(catalogue(tmp_path / "a"), clearness=MaskSettings([0, 3, 8, 9, 10], 0, swath_edge_buffer_m=30))
    clear = look.read(BOUNDS)[1][0]
    # The scene ends 40 columns before the tile does; and around it, where the tile ends, too.
    assert clear[3:-3, 3:57].all() and not clear[:, 57:].any()
    west, south, east, north = BOUNDS
    parts = [look.read((x, south, x + 200, north))[1][0] for x in range(west, east, 200)]
    assert (np.concatenate(parts, axis=1) == clear).all()


@pytest.mark.parametrize(
    ("moment", "season", "days"),
    [
        ("2021-05-01", ["04-01", "10-31"], 0),
        ("2021-04-01", ["04-01", "10-31"], 0),
        ("2021-03-30", ["04-01", "10-31"], 2),
        ("2021-11-30", ["04-01", "10-31"], 30),
        ("2021-01-10", ["11-01", "02-28"], 0),
        ("2021-03-09", ["11-01", "02-28"], 10),
        ("2021-10-31", ["11-01", "02-28"], 1),
    ],
)
def test_days_off_the_season(moment, season, days):
    assert days_outside_season(f"{moment}T02:50:00Z", season) == days


def test_a_widened_season_is_used_where_it_is_needed_and_told(tmp_path):
    cloudy = scl()[0].copy()
    cloudy[:, :25] = 9
    root = tmp_path / "a"
    item(root, "s1", rgb(800) | {"SCL": (cloudy, {"res_m": 20})}, when="2021-04-02T02:50:00Z")
    item(root, "s2", rgb(1000) | {"SCL": scl()}, when="2021-11-20T02:50:00Z")
    item(root, "s3", rgb(3000) | {"SCL": scl()}, when="2021-12-25T02:50:00Z")
    catalogue(root)
    found = listed(root, season_padding_days=30)
    assert [(scene.id, scene.wider) for scene in found] == [("s1", False), ("s2", True)]
    facts = composite(
        scenes=tmp_path / "scenes.json", composite=tmp_path / "c.tif", archive=root, **compositing(method="medoid")
    )
    made, _, _ = read(tmp_path / "c.tif")
    red, clear, taken, season = made[0], made[3], made[4], made[5]
    assert (red[:, 50:] == 800).all() and (red[:, :50] == 1000).all()
    assert (season[:, 50:] == IN_SEASON).all() and (season[:, :50] == PADDED).all()
    assert (clear == 1).all() and (taken[:, :50] == 2).all()
    assert facts["padded_fraction"] == 0.5


def test_a_season_that_is_enough_is_not_widened(tmp_path):
    item(tmp_path / "a", "s1", rgb(800) | {"SCL": scl()}, when="2021-05-01T02:50:00Z")
    item(tmp_path / "a", "s2", rgb(1000) | {"SCL": scl()}, when="2021-11-20T02:50:00Z")
    look = observer(catalogue(tmp_path / "a"), season_padding_days=30)
    _, clear = look.read(BOUNDS)
    used, widened = select_observations(clear, look.scenes, 1)
    assert used[0].all() and not used[1].any() and not widened.any()
    used, widened = select_observations(clear, look.scenes, 2)
    assert used.all() and widened.all()


def test_a_shift_moves_the_scene_and_its_mask(tmp_path):
    bands, classes = rgb(800), scl()[0].copy()
    for band in bands.values():
        band[50, 50] += 1000
    classes[10, 10] = 9
    item(tmp_path / "a", "s1", bands | {"SCL": (classes, {"res_m": 20})})
    root = catalogue(tmp_path / "a")
    still, _ = observer(root).read(BOUNDS)
    stack, clear = observer(root, [(20.0, -30.0)]).read(BOUNDS)
    # 20 m east and 30 m south: two columns on and three rows down, by whole pixels so that the kernel changes nothing.
    assert (stack[0, :, 53, 52] == still[0, :, 50, 50]).all() and stack[0, 0].max() == 1800
    assert not clear[0, 23:25, 22:24].any() and clear[0, 20:22, 20:22].all()
    assert not clear[0, :3].any() and not clear[0, :, :2].any()  # there the scene is not


def test_a_shift_is_the_same_however_the_ground_is_cut(tmp_path):
    rng = np.random.default_rng(3)
    bands = {key: (1800 + rng.integers(0, 900, (SIDE, SIDE))).astype(np.uint16) for key in BANDS}
    item(tmp_path / "a", "s1", bands | {"SCL": scl()})
    look = observer(catalogue(tmp_path / "a"), [(3.7, -4.1)])
    whole, _ = look.read(BOUNDS)
    west, south, east, north = BOUNDS
    parts = [look.read((west, y, east, y + 100))[0] for y in range(south, north, 100)][::-1]
    assert (np.concatenate(parts, axis=2) == whole).all()
    assert json.dumps(look.reader.warped) == "{}"  # moved, not warped
    assert plain(0).shape == whole.shape[2:]
