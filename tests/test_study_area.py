import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from jointseg.errors import DataError
from jointseg.study_area import gcj02_to_wgs84, study_area, wgs84_to_gcj02


def square(west: float, south: float, side: float = 1.0) -> shapely.Polygon:
    return shapely.box(west, south, west + side, south + side)


@pytest.fixture
def vectors(tmp_path):
    """Two files: regions A, B (two parts), C as a GeoPackage of several layers, and a city X as GeoJSON."""
    regions = gpd.GeoDataFrame(
        {"province": ["A", "B", "B", "C"]},
        geometry=[square(100, 30), square(101, 30), square(103, 30), square(105, 30)],
        crs="EPSG:4326",
    )
    path = tmp_path / "world.gpkg"
    regions.to_file(path, layer="regions")
    regions.to_file(path, layer="other")
    cities = gpd.GeoDataFrame({"town": ["X"]}, geometry=[square(100.2, 30.2, 0.1)], crs="EPSG:4326")
    cities.to_file(tmp_path / "cities.geojson")
    return path, tmp_path / "cities.geojson"


def run(vectors, out, **changes):
    arguments = {
        "regions": vectors[0],
        "cities": vectors[1],
        "study_area": out,
        "reaches": {"up": ["A"], "down": ["B", "C"]},
        "city_reach": {"X": "up"},
        "region_field": "province",
        "city_field": "town",
        "datum": "wgs84",
    }
    return study_area(**(arguments | changes))


def test_reaches_unite_their_regions(vectors, tmp_path):
    out = tmp_path / "study_area.gpkg"
    facts = run(vectors, out)
    reaches = gpd.read_file(out, layer="reaches").set_index("name")
    assert list(reaches.index) == ["up", "down"]
    assert reaches.crs.to_epsg() == 4326
    assert shapely.area(reaches.geometry["up"]) == pytest.approx(1)
    assert shapely.area(reaches.geometry["down"]) == pytest.approx(3)
    cities = gpd.read_file(out, layer="cities")
    assert cities[["name", "reach"]].to_numpy().tolist() == [["X", "up"]]
    # One degree square at 30-31 N measures 10,660 km2.
    assert facts["area_km2"]["up"] == pytest.approx(10_660, rel=0.01)


def test_same_input_gives_the_same_bytes(vectors, tmp_path):
    run(vectors, tmp_path / "a.gpkg")
    run(vectors, tmp_path / "b.gpkg")
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()


def test_regions_in_another_crs_are_projected(vectors, tmp_path):
    gpd.read_file(vectors[0], layer="regions").to_crs("EPSG:3857").to_file(tmp_path / "mercator.gpkg")
    run((tmp_path / "mercator.gpkg", vectors[1]), tmp_path / "out.gpkg")
    reaches = gpd.read_file(tmp_path / "out.gpkg", layer="reaches")
    assert reaches.total_bounds == pytest.approx([100, 30, 106, 31], abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reaches": {"up": ["Z"]}}, "no province 'Z'; the names there are: A, B, C"),
        ({"region_field": "name"}, "no field 'name'.*province"),
        ({"reaches": {"up": ["A"], "down": ["A"]}}, "region 'A' is in the reaches 'up' and 'down'"),
        ({"city_reach": {"X": "middle"}}, "city 'X' is in reach 'middle'.*up, down"),
        ({"city_reach": {"Y": "up"}}, "no town 'Y'; the names there are: X"),
        ({"datum": "bd09"}, "datum 'bd09'"),
        ({"reaches": {"up": []}}, "'up' has no regions"),
    ],
)
def test_bad_names_are_told(vectors, tmp_path, changes, words):
    out = tmp_path / "out.gpkg"
    with pytest.raises(DataError, match=words):
        run(vectors, out, **changes)
    assert not out.exists()


def test_missing_and_foreign_files_are_told(vectors, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.gpkg"):
        run((tmp_path / "nowhere.gpkg", vectors[1]), tmp_path / "out.gpkg")
    (tmp_path / "text.gpkg").write_text("not a GeoPackage")
    with pytest.raises(DataError, match=r"text\.gpkg cannot be read as a vector file"):
        run((tmp_path / "text.gpkg", vectors[1]), tmp_path / "out.gpkg")
    points = gpd.GeoDataFrame({"town": ["X"]}, geometry=[shapely.Point(100, 30)], crs="EPSG:4326")
    points.to_file(tmp_path / "points.geojson")
    with pytest.raises(DataError, match=r"'X' .* is not a polygon"):
        run((vectors[0], tmp_path / "points.geojson"), tmp_path / "out.gpkg")


def test_gcj02_shift_has_the_published_size():
    # Beijing's Tian'anmen: WGS 84 116.391331, 39.907357 is drawn about 555 m to the east-north-east on GCJ-02 maps.
    shifted = wgs84_to_gcj02(np.array([[116.391331, 39.907357]]))[0]
    east_m = (shifted[0] - 116.391331) * 111_320 * np.cos(np.radians(39.9))
    north_m = (shifted[1] - 39.907357) * 110_950
    assert np.hypot(east_m, north_m) == pytest.approx(555, abs=15)


@given(st.floats(75, 134), st.floats(18, 53))
def test_gcj02_inverse_is_exact(lon, lat):
    point = np.array([[lon, lat]])
    assert gcj02_to_wgs84(wgs84_to_gcj02(point)) == pytest.approx(point, abs=2e-10)


def test_gcj02_outlines_are_moved_back(vectors, tmp_path):
    run(vectors, tmp_path / "a.gpkg")
    shifted = []
    for path, layer in zip(vectors, ("regions", "cities")):
        frame = gpd.read_file(path, layer=layer)
        frame["geometry"] = shapely.transform(frame.geometry.to_numpy(), wgs84_to_gcj02)
        frame.to_file(tmp_path / f"{layer}_gcj.gpkg", layer=layer)
        shifted.append(tmp_path / f"{layer}_gcj.gpkg")
    run(shifted, tmp_path / "b.gpkg", datum="gcj02")
    plain, moved = (gpd.read_file(tmp_path / f"{name}.gpkg", layer="cities") for name in "ab")
    assert moved.total_bounds == pytest.approx(plain.total_bounds, abs=1e-9)
