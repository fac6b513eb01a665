"""Map of the tile grid: title, content, and same bytes for the same input."""

import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image

from jointseg.area import tile_map
from jointseg.area.study_area import study_area
from jointseg.area.tiles import grid
from jointseg.runtime.errors import DataError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Study area and tiles of three reaches across the zone edge at 114 E, with two cities."""
    folder = tmp_path_factory.mktemp("belt")
    names = ["up", "mid", "down"]
    shapes = [shapely.box(113 + part, 30, 114 + part, 30.7) for part in range(3)]
    gpd.GeoDataFrame({"name": names}, geometry=shapes, crs="EPSG:4326").to_file(folder / "regions.geojson")
    study_area(
        regions=folder / "regions.geojson",
        study_area=folder / "study_area.gpkg",
        reaches={f"{name}stream": [name] for name in names},
        city_reach={"Wuhan": "midstream", "Yueyang": "upstream"},
        region_field="name",
        city_field="name",
        city_boxes={"Wuhan": [114.2, 30.3, 114.5, 30.5], "Yueyang": [113.2, 30.1, 113.4, 30.2]},
    )
    grid(study_area=folder / "study_area.gpkg", tiles=folder / "tiles.geojson", tile_km=10)
    return folder


def test_map_shows_every_reach_and_the_zone_edge(folder):
    tile_map.draw(folder / "study_area.gpkg", folder / "tiles.geojson", folder / "grid.png")
    image = np.asarray(Image.open(folder / "grid.png").convert("RGB")).astype(int)
    for colour in tile_map.REACHES:
        rgb = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
        fraction = (np.abs(image - rgb).max(axis=2) <= 6).mean()
        assert 0.08 < fraction < 0.35, colour
    zone_edge = (np.abs(image - [0x7A, 0x1F, 0x3D]).max(axis=2) <= 24).sum(axis=0)
    assert zone_edge.max() > 0.2 * image.shape[0]  # a dashed line from top to bottom
    tile_map.draw(folder / "study_area.gpkg", folder / "tiles.geojson", folder / "again.png")
    assert (folder / "again.png").read_bytes() == (folder / "grid.png").read_bytes()


def test_title_counts_tiles_by_zone(folder):
    frame = gpd.read_file(folder / "tiles.geojson")
    counts = {epsg: int((frame["epsg"] == epsg).sum()) for epsg in (32649, 32650)}
    touching = int(sum(len(names) > 0 for names in frame["cities"]))
    assert 0 < touching < len(frame) == sum(counts.values())
    assert tile_map._title(frame) == (
        f"{len(frame):,} tiles of 10 km (49N {counts[32649]}, 50N {counts[32650]}), of which {touching} touch a city"
    )


def test_study_area_without_tiles_is_an_error(folder, tmp_path):
    (tmp_path / "tiles.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(DataError, match="has no tiles"):
        tile_map.draw(folder / "study_area.gpkg", tmp_path / "tiles.geojson", tmp_path / "grid.png")


def test_config_is_drawn_without_a_run(tmp_path):
    command = [sys.executable, "-m", "jointseg.area.tile_map", "examples/eastern_shore/config.yaml"]
    subprocess.run([*command, tmp_path / "grid.png"], cwd=ROOT, check=True)
    assert Image.open(tmp_path / "grid.png").size[0] == 1320
    invalid = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert invalid.returncode == 1 and "usage" in invalid.stderr
