import json
import time

import geopandas as gpd
import numpy as np
import pytest
import shapely

from jointseg.errors import DataError
from jointseg.grid import parse_tile, transformer
from jointseg.tiling import grid


def area(path, reaches, cities=None):
    gpd.GeoDataFrame({"name": list(reaches)}, geometry=list(reaches.values()), crs="EPSG:4326").to_file(
        path, layer="reaches"
    )
    cities = cities or {}
    gpd.GeoDataFrame(
        {"name": list(cities), "reach": [next(iter(reaches))] * len(cities)},
        geometry=list(cities.values()),
        crs="EPSG:4326",
    ).to_file(path, layer="cities")
    return path


def utm_box(epsg, *bounds):
    """A rectangle of UTM metres in longitude and latitude."""
    project = transformer(f"EPSG:{epsg}", "EPSG:4326")
    ring = shapely.segmentize(shapely.box(*bounds), 500)
    return shapely.transform(ring, lambda xy: np.stack(project.transform(*xy.T), axis=1))


def listed(path):
    return {
        feature["properties"]["tile"]: feature["properties"] for feature in json.loads(path.read_text())["features"]
    }


def test_tiles_of_two_reaches(tmp_path):
    west = utm_box(32650, 660_010, 3_540_010, 664_000, 3_543_990)
    east = utm_box(32650, 664_000, 3_540_010, 667_990, 3_543_990)
    city = utm_box(32650, 665_000, 3_541_000, 666_000, 3_542_000)
    facts = grid(
        study_area=area(tmp_path / "s.gpkg", {"up": west, "down": east}, {"X": city}),
        tiles=tmp_path / "tiles.geojson",
        tile_km=4,
    )
    # The common edge is the edge of a tile: each reach touches the other's tile, and touching does not count.
    assert listed(tmp_path / "tiles.geojson") == {
        "50N_E0660_N3540": {"tile": "50N_E0660_N3540", "epsg": 32650, "reaches": ["up"], "cities": []},
        "50N_E0664_N3540": {"tile": "50N_E0664_N3540", "epsg": 32650, "reaches": ["down"], "cities": ["X"]},
    }
    assert facts == {"tiles": 2, "epsg": [32650]}


def test_every_point_is_covered_by_the_tile_of_its_own_zone(tmp_path):
    """Across the zone edge at 114 E and the edge of the belt."""
    shape = shapely.Point(114.0, 30.0).buffer(0.8)
    grid(study_area=area(tmp_path / "s.gpkg", {"mid": shape}), tiles=tmp_path / "t.geojson", tile_km=10)
    tiles = listed(tmp_path / "t.geojson")
    assert {p["epsg"] for p in tiles.values()} == {32649, 32650}
    rng = np.random.default_rng(0)
    for lon, lat in rng.uniform([113.2, 29.2], [114.8, 30.8], size=(2000, 2)):
        if not shapely.contains_xy(shape, lon, lat):
            continue
        zone = 49 if lon < 114 else 50
        x, y = transformer("EPSG:4326", f"EPSG:{32600 + zone}").transform(lon, lat)
        assert f"{zone}N_E{int(x // 10_000) * 10:04d}_N{int(y // 10_000) * 10:04d}" in tiles
    # And no tile lies away from the area.
    for name in tiles:
        tile = parse_tile(name, 10)
        assert utm_box(tile.epsg, *tile.bounds).intersects(shape.intersection(shapely.box(113, 29, 115, 31)))


def test_southern_hemisphere(tmp_path):
    shape = shapely.box(-58.3, -34.7, -58.2, -34.6)
    grid(study_area=area(tmp_path / "s.gpkg", {"plata": shape}), tiles=tmp_path / "t.geojson", tile_km=20)
    assert {p["epsg"] for p in listed(tmp_path / "t.geojson").values()} == {32721}


def test_geometry_is_the_tile(tmp_path):
    grid(
        study_area=area(tmp_path / "s.gpkg", {"r": utm_box(32650, 660_010, 3_540_010, 661_000, 3_541_000)}),
        tiles=tmp_path / "t.geojson",
        tile_km=4,
    )
    frame = gpd.read_file(tmp_path / "t.geojson")
    assert frame.crs.to_epsg() == 4326
    assert frame.to_crs("EPSG:32650").total_bounds == pytest.approx([660_000, 3_540_000, 664_000, 3_544_000], abs=0.1)


def test_a_belt_of_two_million_km2_is_fast_and_reproducible(tmp_path):
    shape = shapely.box(97.5, 24.5, 123.0, 32.5)
    ragged = shapely.segmentize(shape, 0.001)  # 67,000 vertices, as real boundaries have
    path = area(tmp_path / "s.gpkg", {"belt": ragged})
    start = time.perf_counter()
    facts = grid(study_area=path, tiles=tmp_path / "a.geojson", tile_km=30)
    assert time.perf_counter() - start < 10
    assert facts["epsg"] == [32647, 32648, 32649, 32650, 32651]
    grid(study_area=path, tiles=tmp_path / "b.geojson", tile_km=30)
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    km2 = gpd.GeoSeries([shape], crs="EPSG:4326").to_crs("ESRI:102025").area[0] / 1e6
    assert 1.0 < facts["tiles"] * 900 / km2 < 1.12


@pytest.mark.parametrize("tile_km", [0, -3, 2.5])
def test_bad_tile_size(tmp_path, tile_km):
    path = area(tmp_path / "s.gpkg", {"r": shapely.box(100, 30, 100.1, 30.1)})
    with pytest.raises(DataError, match="tile_km"):
        grid(study_area=path, tiles=tmp_path / "t.geojson", tile_km=tile_km)
