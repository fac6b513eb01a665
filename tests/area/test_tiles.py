"""Steps `grid` and `reach_grid`: tiles of the study area, also across UTM zone edges."""

import json
import time

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod
from rasterio.features import rasterize
from scipy.ndimage import binary_dilation

from jointseg.area.grid import Tile, area_scale, own_zone_mask, parse_tile, transformer
from jointseg.area.tiles import grid, reach_grid
from jointseg.runtime.errors import DataError


def write_study_area(path, reaches, cities=None):
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
    """Return a UTM rectangle in longitude and latitude."""
    project = transformer(f"EPSG:{epsg}", "EPSG:4326")
    ring = shapely.segmentize(shapely.box(*bounds), 500)
    return shapely.transform(ring, lambda xy: np.stack(project.transform(*xy.T), axis=1))


def read_tiles(path):
    return {
        feature["properties"]["tile"]: feature["properties"] for feature in json.loads(path.read_text())["features"]
    }


def test_reach_grid_has_the_tiles_of_the_reaches_only(tmp_path):
    west = utm_box(32650, 660_100, 3_540_100, 679_900, 3_549_900)
    outside = utm_box(32650, 700_100, 3_540_100, 701_000, 3_541_000)
    path = write_study_area(tmp_path / "s.gpkg", {"up": west}, {"X": outside, "Y": west})
    grid(study_area=path, tiles=tmp_path / "all.geojson", tile_km=10)
    reach_grid(outlines=path, tiles=tmp_path / "reaches.geojson", tile_km=10)
    tiles, reach_tiles = read_tiles(tmp_path / "all.geojson"), read_tiles(tmp_path / "reaches.geojson")
    assert set(reach_tiles) == {name for name, entry in tiles.items() if entry["reaches"]} < set(tiles)
    assert all(
        entry["cities"] == [] and entry["reaches"] == tiles[name]["reaches"] for name, entry in reach_tiles.items()
    )


def test_tiles_of_two_reaches(tmp_path):
    west = utm_box(32650, 660_010, 3_540_010, 664_000, 3_543_990)
    east = utm_box(32650, 664_000, 3_540_010, 667_990, 3_543_990)
    city = utm_box(32650, 665_000, 3_541_000, 666_000, 3_542_000)
    facts = grid(
        study_area=write_study_area(tmp_path / "s.gpkg", {"up": west, "down": east}, {"X": city}),
        tiles=tmp_path / "tiles.geojson",
        tile_km=4,
    )
    # The common edge of the reaches is a tile edge: a tile that only touches a reach is not listed for it.
    assert read_tiles(tmp_path / "tiles.geojson") == {
        "50N_E0660_N3540": {"tile": "50N_E0660_N3540", "epsg": 32650, "reaches": ["up"], "cities": []},
        "50N_E0664_N3540": {"tile": "50N_E0664_N3540", "epsg": 32650, "reaches": ["down"], "cities": ["X"]},
    }
    assert facts == {"tiles": 2, "epsg": [32650]}


def test_every_point_is_covered_by_a_tile_of_its_own_zone(tmp_path):
    """Around the zone edge at 114 E, up to the edge of the study area."""
    shape = shapely.Point(114.0, 30.0).buffer(0.8)
    grid(study_area=write_study_area(tmp_path / "s.gpkg", {"mid": shape}), tiles=tmp_path / "t.geojson", tile_km=10)
    tiles = read_tiles(tmp_path / "t.geojson")
    assert {p["epsg"] for p in tiles.values()} == {32649, 32650}
    rng = np.random.default_rng(0)
    for lon, lat in rng.uniform([113.2, 29.2], [114.8, 30.8], size=(2000, 2)):
        if not shapely.contains_xy(shape, lon, lat):
            continue
        zone = 49 if lon < 114 else 50
        x, y = transformer("EPSG:4326", f"EPSG:{32600 + zone}").transform(lon, lat)
        assert f"{zone}N_E{int(x // 10_000) * 10:04d}_N{int(y // 10_000) * 10:04d}" in tiles
    # No tile is outside the study area.
    for name in tiles:
        tile = parse_tile(name, 10)
        assert utm_box(tile.epsg, *tile.bounds).intersects(shape.intersection(shapely.box(113, 29, 115, 31)))


def test_southern_hemisphere(tmp_path):
    shape = shapely.box(-58.3, -34.7, -58.2, -34.6)
    grid(study_area=write_study_area(tmp_path / "s.gpkg", {"plata": shape}), tiles=tmp_path / "t.geojson", tile_km=20)
    assert {p["epsg"] for p in read_tiles(tmp_path / "t.geojson").values()} == {32721}


def test_geometry_is_the_outline_of_the_tile(tmp_path):
    grid(
        study_area=write_study_area(tmp_path / "s.gpkg", {"r": utm_box(32650, 660_010, 3_540_010, 661_000, 3_541_000)}),
        tiles=tmp_path / "t.geojson",
        tile_km=4,
    )
    frame = gpd.read_file(tmp_path / "t.geojson")
    assert frame.crs.to_epsg() == 4326
    assert frame.to_crs("EPSG:32650").total_bounds == pytest.approx([660_000, 3_540_000, 664_000, 3_544_000], abs=0.1)


def test_grid_of_two_million_km2_is_fast_and_reproducible(tmp_path):
    shape = shapely.box(97.5, 24.5, 123.0, 32.5)
    detailed = shapely.segmentize(shape, 0.001)  # 67,000 vertices, as in real boundaries
    path = write_study_area(tmp_path / "s.gpkg", {"belt": detailed})
    start = time.perf_counter()
    facts = grid(study_area=path, tiles=tmp_path / "a.geojson", tile_km=30)
    assert time.perf_counter() - start < 10
    assert facts["epsg"] == [32647, 32648, 32649, 32650, 32651]
    grid(study_area=path, tiles=tmp_path / "b.geojson", tile_km=30)
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    km2 = gpd.GeoSeries([shape], crs="EPSG:4326").to_crs("ESRI:102025").area[0] / 1e6
    assert 1.0 < facts["tiles"] * 900 / km2 < 1.12


@pytest.mark.parametrize("tile_km", [0, -3, 2.5])
def test_invalid_tile_size_is_an_error(tmp_path, tile_km):
    path = write_study_area(tmp_path / "s.gpkg", {"r": shapely.box(100, 30, 100.1, 30.1)})
    with pytest.raises(DataError, match="tile_km"):
        grid(study_area=path, tiles=tmp_path / "t.geojson", tile_km=tile_km)


def star(lon, lat):
    """Return a star with twelve spikes of up to 5 km around a hole: a long outline on both sides of the zone edge."""
    angle = np.linspace(0, 2 * np.pi, 25)[:-1] + 0.1
    radius = np.where(np.arange(24) % 2, 0.02, 0.05)
    spikes = shapely.Polygon(np.stack([lon + radius * np.cos(angle), lat + radius * np.sin(angle)], axis=1))
    return spikes - shapely.Point(lon + 0.002, lat).buffer(0.008)


def wedge(lon, lat):
    """Return a long triangle that crosses the zone edge at a small angle."""
    return shapely.Polygon([(lon - 0.004, lat - 0.06), (lon + 0.004, lat + 0.06), (lon - 0.03, lat + 0.05)])


def block(lon, lat):
    return shapely.box(lon - 0.03, lat - 0.02, lon + 0.045, lat + 0.03)


def patches(lon, lat):
    """Return three separate parts: one on each side of the zone edge, and one across it."""
    return shapely.MultiPolygon([shapely.box(lon + e, lat, lon + e + 0.02, lat + 0.02) for e in (-0.09, -0.01, 0.07)])


def geodesic_area_m2(shape):
    """Return the geodesic area (Karney 2013) of a polygon with straight edges in longitude and latitude."""
    return abs(Geod(ellps="WGS84").geometry_area_perimeter(shapely.segmentize(shape, 0.001))[0])


def covered_fraction(shape: shapely.Geometry, tile: Tile, res_m: int) -> np.ndarray:
    """Return the exact fraction of each pixel of a tile that a polygon (EPSG:4326) covers, float64 [rows, columns]."""
    project = transformer("EPSG:4326", tile.crs)
    local = shapely.segmentize(shape, 0.001)
    local = shapely.transform(local, lambda lonlat: np.stack(project.transform(*lonlat.T), axis=1))
    raster = {"out_shape": tile.shape(res_m), "transform": tile.transform(res_m), "dtype": np.uint8}
    fraction = rasterize([(local, 1)], **raster).astype(float)
    border = rasterize([(shapely.boundary(local), 1)], all_touched=True, **raster)
    rows, cols = np.nonzero(binary_dilation(border > 0, np.ones((3, 3))))
    west, _, _, north = tile.bounds
    x, y = west + cols * res_m, north - rows * res_m
    pixels = shapely.box(x, y - res_m, x + res_m, y)
    fraction[rows, cols] = shapely.area(shapely.intersection(pixels, local)) / res_m**2
    return fraction


def mapped_m2(tile: Tile, res_m: int, covered: np.ndarray) -> float:
    """Return the covered area of the pixels in the tile's own zone, corrected for the UTM scale."""
    rows, cols = np.nonzero(own_zone_mask(tile.epsg, tile.transform(res_m), tile.shape(res_m)) & (covered > 0))
    if not len(rows):
        return 0.0
    x, y = tile.transform(res_m) @ (cols + 0.5, rows + 0.5)
    return float((covered[rows, cols] / area_scale(tile.epsg, x, y)).sum() * res_m**2)


@pytest.mark.parametrize(
    ("shape", "res_m", "tile_km"),
    [
        (star(102, 25.4), 10, 4),
        (block(102, 29), 10, 7),
        (wedge(108, 27.3), 10, 4),
        (patches(108, 33), 10, 3),
        (block(114, 25), 10, 3),
        (star(114, 30.6), 10, 5),
        (wedge(114, 34.9), 10, 4),
        (star(120, 31.2), 10, 4),
        (patches(120, 28), 10, 4),
        (shapely.box(119.994, 31.2, 120.005, 31.209), 1, 1),
    ],
)
def test_area_at_a_zone_edge_is_counted_once(tmp_path, shape, res_m, tile_km):
    """The masked pixel areas of both zones add up to the geodesic area of the polygon."""
    path = write_study_area(tmp_path / "s.gpkg", {"r": shape})
    facts = grid(study_area=path, tiles=tmp_path / "t.geojson", tile_km=tile_km)
    assert len(facts["epsg"]) == 2
    by_zone = dict.fromkeys(facts["epsg"], 0.0)
    unmasked = 0.0
    for name in read_tiles(tmp_path / "t.geojson"):
        tile = parse_tile(name, tile_km)
        covered = covered_fraction(shape, tile, res_m)
        by_zone[tile.epsg] += mapped_m2(tile, res_m, covered)
        unmasked += float(covered.sum()) * res_m**2
    truth = geodesic_area_m2(shape)
    assert sum(by_zone.values()) == pytest.approx(truth, rel=1e-4)
    # Each zone has the area on its own side; without mask and scale the sum is too large.
    west, south, _, north = shape.bounds
    side = geodesic_area_m2(shape & shapely.box(west, south, round(shape.centroid.x / 6) * 6, north))
    assert min(by_zone) == facts["epsg"][0] and by_zone[facts["epsg"][0]] == pytest.approx(side, rel=5e-4)
    assert unmasked / truth > 1.02
