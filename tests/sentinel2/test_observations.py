"""Clear observations: swath edges, passes, season padding, shifts; independent of the windows."""

import json

import numpy as np
import pytest
from support.tiny_sentinel2 import SIDE, TILE, TILE_KM, catalogue, compositing, item, listing, plain, rgb, scl

from jointseg.area.grid import parse_tile
from jointseg.raster.io import read
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.observations import MaskSettings, ObservationReader, select_observations
from jointseg.sentinel2.reducers import IN_SEASON, PADDED
from jointseg.sentinel2.scene import load_scenes
from jointseg.sentinel2.scene_windows import FileReader
from jointseg.sentinel2.scenes import days_outside_season, scenes

BANDS = ["B04", "B03", "B02"]
BOUNDS = parse_tile(TILE, TILE_KM).bounds


def write_scene_list(root, **changes):
    scenes(scenes=root.parent / "scenes.json", archive=root, **listing(**changes))
    return load_scenes(root.parent / "scenes.json")


def observation_reader(root, shifts=None, masking=None, **changes):
    scene_list = write_scene_list(root, **changes)
    return ObservationReader(
        FileReader(root, 32650), scene_list, BANDS, masking or MaskSettings([0, 3, 8, 9, 10], 0), BOUNDS, shifts
    )


def half(value, west):
    """Return bands that are valid in the western or the eastern 60 columns of 100."""
    bands = rgb(value)
    for band in bands.values():
        band[:, 60:] = 0 if west else band[:, 60:]
        band[:, :40] = band[:, :40] if west else 0
    return bands


def test_granules_of_one_pass_are_one_observation(tmp_path):
    same = {"when": "2021-07-01T02:50:00Z", "sat:relative_orbit": 32}
    item(tmp_path / "a", "s1", half(800, west=True) | {"SCL": scl()}, **same)
    item(tmp_path / "a", "s2", half(900, west=False) | {"SCL": scl()}, **same)
    item(tmp_path / "a", "s3", rgb(700) | {"SCL": scl()}, when="2021-07-04T02:50:00Z", **{"sat:relative_orbit": 132})
    stack, clear = observation_reader(catalogue(tmp_path / "a")).read(BOUNDS)
    assert (clear.sum(axis=0) == 2).all()
    assert clear[0, :, :60].all() and not clear[1, :, :60].any() and clear[1, :, 60:].all()
    assert (stack[1, 0, :, 40:] == 900).all()


def test_scenes_without_orbit_are_separate_passes(tmp_path):
    for name in ("s1", "s2"):
        item(tmp_path / "a", name, rgb(800) | {"SCL": scl()}, **{"s2:mgrs_tile": f"50R{name}"})
    assert (observation_reader(catalogue(tmp_path / "a")).read(BOUNDS)[1].sum(axis=0) == 2).all()


def test_swath_edges_are_masked_independent_of_windows(tmp_path):
    item(tmp_path / "a", "s1", half(800, west=True) | {"SCL": scl()})
    observations = observation_reader(
        catalogue(tmp_path / "a"), masking=MaskSettings([0, 3, 8, 9, 10], 0, swath_edge_buffer_m=30)
    )
    clear = observations.read(BOUNDS)[1][0]
    # The scene ends 40 columns before the tile, and at the other edges of the tile.
    assert clear[3:-3, 3:57].all() and not clear[:, 57:].any()
    west, south, east, north = BOUNDS
    parts = [observations.read((x, south, x + 200, north))[1][0] for x in range(west, east, 200)]
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
def test_days_outside_the_season(moment, season, days):
    assert days_outside_season(f"{moment}T02:50:00Z", season) == days


def test_padding_scenes_are_used_where_the_season_has_too_few_observations(tmp_path):
    cloudy = scl()[0].copy()
    cloudy[:, :25] = 9
    root = tmp_path / "a"
    item(root, "s1", rgb(800) | {"SCL": (cloudy, {"res_m": 20})}, when="2021-04-02T02:50:00Z")
    item(root, "s2", rgb(1000) | {"SCL": scl()}, when="2021-11-20T02:50:00Z")
    item(root, "s3", rgb(3000) | {"SCL": scl()}, when="2021-12-25T02:50:00Z")
    catalogue(root)
    scene_list = write_scene_list(root, season_padding_days=30)
    assert [(scene.id, scene.in_padding) for scene in scene_list] == [("s1", False), ("s2", True)]
    facts = composite(
        scenes=tmp_path / "scenes.json", composite=tmp_path / "c.tif", archive=root, **compositing(method="medoid")
    )
    image, _, _ = read(tmp_path / "c.tif")
    red, clear, selected, season = image[0], image[3], image[4], image[5]
    assert (red[:, 50:] == 800).all() and (red[:, :50] == 1000).all()
    assert (season[:, 50:] == IN_SEASON).all() and (season[:, :50] == PADDED).all()
    assert (clear == 1).all() and (selected[:, :50] == 2).all()
    assert facts["padded_fraction"] == 0.5


def test_padding_scenes_are_not_used_where_the_season_suffices(tmp_path):
    item(tmp_path / "a", "s1", rgb(800) | {"SCL": scl()}, when="2021-05-01T02:50:00Z")
    item(tmp_path / "a", "s2", rgb(1000) | {"SCL": scl()}, when="2021-11-20T02:50:00Z")
    observations = observation_reader(catalogue(tmp_path / "a"), season_padding_days=30)
    _, clear = observations.read(BOUNDS)
    used, padded = select_observations(clear, observations.scenes, 1)
    assert used[0].all() and not used[1].any() and not padded.any()
    used, padded = select_observations(clear, observations.scenes, 2)
    assert used.all() and padded.all()


def test_shift_moves_the_scene_and_its_mask(tmp_path):
    bands, classes = rgb(800), scl()[0].copy()
    for band in bands.values():
        band[50, 50] += 1000
    classes[10, 10] = 9
    item(tmp_path / "a", "s1", bands | {"SCL": (classes, {"res_m": 20})})
    root = catalogue(tmp_path / "a")
    unshifted, _ = observation_reader(root).read(BOUNDS)
    stack, clear = observation_reader(root, [(20.0, -30.0)]).read(BOUNDS)
    # 20 m east and 30 m south: two columns and three rows, whole pixels, which the kernel does not change.
    assert (stack[0, :, 53, 52] == unshifted[0, :, 50, 50]).all() and stack[0, 0].max() == 1800
    assert not clear[0, 23:25, 22:24].any() and clear[0, 20:22, 20:22].all()
    assert not clear[0, :3].any() and not clear[0, :, :2].any()  # outside the scene


def test_shifted_pixels_do_not_depend_on_windows(tmp_path):
    rng = np.random.default_rng(3)
    bands = {key: (1800 + rng.integers(0, 900, (SIDE, SIDE))).astype(np.uint16) for key in BANDS}
    item(tmp_path / "a", "s1", bands | {"SCL": scl()})
    observations = observation_reader(catalogue(tmp_path / "a"), [(3.7, -4.1)])
    whole, _ = observations.read(BOUNDS)
    west, south, east, north = BOUNDS
    parts = [observations.read((west, y, east, y + 100))[0] for y in range(south, north, 100)][::-1]
    assert (np.concatenate(parts, axis=2) == whole).all()
    assert json.dumps(observations.reader.warped) == "{}"  # shifted, not reprojected
    assert plain(0).shape == whole.shape[2:]
