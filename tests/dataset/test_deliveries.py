"""Index of the deliveries: names, metadata, rasters and reasons."""

from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from pydantic import ValidationError
from rasterio.enums import ColorInterp
from support.geotiff import write

from jointseg.config.dataset import Dataset
from jointseg.config.dataset import Provider as ProviderSettings
from jointseg.dataset import providers
from jointseg.dataset.deliveries import deliveries
from jointseg.dataset.providers import Provider
from jointseg.runtime.errors import DataError

PSH = "JL1KF01B_PMSR4_20220623104620_200089965_101_0018_001_L3C_PSH"
CONFIG = Dataset(jilin1="", osm="", footprints="", corrections="")
ENTRIES = {name: entry.model_dump() for name, entry in CONFIG.providers.items()}
PROVIDERS = [Provider(name=name, **entry) for name, entry in ENTRIES.items()]
PLAIN = ProviderSettings(pattern=r"(?P<satellite>SV\d)_(?P<time>\d{8}T\d{4})", time_format="%Y%m%dT%H%M").model_dump()


def index(folder: Path, **changes: object) -> pd.DataFrame:
    """Return the index of a folder, by scene."""
    arguments = {"providers": ENTRIES, "metadata_elements": CONFIG.metadata_elements} | changes
    deliveries(jilin1=folder, deliveries=folder.parent / "deliveries.parquet", **arguments)
    return gpd.read_parquet(folder.parent / "deliveries.parquet").set_index("scene_id")


def deliver(folder: Path, name: str = PSH, count: int = 3, xml: str | None = None, colours: tuple = ()) -> Path:
    delivery = folder / name
    stem = name if name.endswith("_PSH") else f"{name}_PSH"
    image = np.arange(1, count + 1, dtype=np.uint16)[:, None, None] * np.ones((1, 40, 40), dtype=np.uint16)
    write(delivery / f"{stem}.tif", image, Affine(0.75, 0, 660_000, 0, -0.75, 3_540_030), nodata=0, colours=colours)
    if xml is not None:
        (delivery / f"{stem}_meta.xml").write_text(xml)
    return delivery


@pytest.mark.parametrize(
    ("name", "satellite", "level", "spectral"),
    [
        ("JL1GF03B02_PMS_20220516095811_200084559_101_0008_001_L1", "JL1GF03B02", "L1", ""),
        ("JL1GF03B02_PMS_20220516095811_200084559_101_0008_001_L1_MSS", "JL1GF03B02", "L1", "MSS"),
        (PSH, "JL1KF01B", "L3C", "PSH"),
        ("JL101A_PMSL2_20190101000000_123456789_0101_0008_001_L3A_PAN", "JL101A", "L3A", "PAN"),
        ("JL107B_PMS06_20190101000000_123456789_101_0008_001_L1A", "JL107B", "L1A", ""),
        ("JL1GF03C01_MMS_20190101000000_123456789_101_0008_001_L3D", "JL1GF03C01", "L3D", ""),
    ],
)
def test_names_are_parsed(name: str, satellite: str, level: str, spectral: str) -> None:
    parts = providers.parse_name(name, PROVIDERS)
    assert parts is not None
    assert (parts.satellite, parts.level, parts.spectral) == (satellite, level, spectral)
    assert parts.provider.name == ("jilin1-bayer" if satellite.startswith("JL1GF03C") else "jilin1")


def test_times_in_names_are_beijing_time() -> None:
    early = PSH.replace("20220623104620", "20220101030000")
    assert providers.parse_name(PSH, PROVIDERS).time == datetime(2022, 6, 23, 2, 46, 20, tzinfo=UTC)
    assert providers.parse_name(early, PROVIDERS).time == datetime(2021, 12, 31, 19, tzinfo=UTC)


@pytest.mark.parametrize("name", ["GF1_PMS1_E118.1", PSH.replace("_001_", "_01_")])
def test_other_names_match_no_provider(name: str) -> None:
    assert providers.parse_name(name, PROVIDERS) is None


def test_error_for_an_invalid_time() -> None:
    with pytest.raises(DataError, match="20221323104620"):
        providers.parse_name(PSH.replace("20220623", "20221323"), PROVIDERS)


def test_index_lists_every_delivery_with_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "deliveries"
    level1 = "JL1GF03B02_PMS_20220516095811_200084559_101_0008_001_L1"
    deliver(folder)
    deliver(folder, level1)
    deliver(folder, PSH.replace("0018", "0019"), count=2)
    write(folder / PSH.replace("0018", "0021") / f"{PSH}.tif", np.ones((3, 9, 9), np.uint16), Affine.scale(1), crs=None)
    (folder / PSH.replace("0018", "0020")).mkdir()
    (folder / PSH.replace("20220623", "20221323")).mkdir()
    (folder / "notes").mkdir()
    table = index(folder)
    assert table.index[table["usable"]].tolist() == [PSH]
    row = table.loc[PSH]
    assert (row.path, row.provider, row.satellite, row.level, row.spectral) == (
        f"{PSH}/{PSH}.tif", "jilin1", "JL1KF01B", "L3C", "PSH"
    )  # fmt: skip
    assert (row.width, row.height, row.pixel_m, row.crs, row.outline) == (40, 40, 0.75, "EPSG:32650", "raster")
    assert (row.red, row.green, row.blue, row.reason) == (3, 2, 1, "")
    reasons = table["reason"]
    assert "level L1; orthorectify" in reasons[level1]
    assert table.loc[level1].time == "2022-05-16T01:58:11Z"
    assert "2 bands" in reasons[PSH.replace("0018", "0019")]
    assert "no raster" in reasons[PSH.replace("0018", "0020")]
    assert "no coordinate reference system" in reasons[PSH.replace("0018", "0021")]
    assert "20221323" in reasons[PSH.replace("20220623", "20221323")]
    assert "matches no pattern of" in reasons["notes"]


def test_geotiffs_of_another_provider_are_indexed(tmp_path: Path) -> None:
    folder = tmp_path / "deliveries"
    image = np.stack([np.full((50, 60), value, dtype=np.uint16) for value in (30, 20, 10)])
    lonlat = Affine(1e-5, 0, 118.7, 0, -1e-5, 32.0)
    for name in ("SV1_20210703T0256.tif", "July/SV2_20210704T0256.tif"):
        write(folder / name, image, lonlat, crs="EPSG:4326", photometric="minisblack")
    outline = gpd.GeoSeries([shapely.Point(118.7003, 31.9998).buffer(1e-4)], crs=4326)
    outline.to_file(folder / "SV1_20210703T0256.geojson")
    (folder / "SV1_20210703T0256.xml").write_text("<a><cc>7 %</cc><angle>-12.5</angle></a>")
    elements = {"time": [], "cloud_percent": ["CC"], "view_angle": ["Angle"], "sun_elevation": []}
    table = index(folder, providers={"sv": PLAIN} | ENTRIES, metadata_elements=elements)
    assert table["usable"].all()
    assert table["path"].tolist() == ["SV1_20210703T0256.tif", "July/SV2_20210704T0256.tif"]
    first, second = table.iloc[0], table.iloc[1]
    assert (first.time, first.cloud_percent, first.view_angle) == ("2021-07-03T02:56:00Z", 7, -12.5)
    assert np.isnan(second.cloud_percent) and np.isnan(first.sun_elevation)
    assert (first.red, first.green, first.blue, first.nodata) == (1, 2, 3, 0)
    assert first.pixel_m == pytest.approx(1.11, abs=0.01)
    assert (first.outline, second.outline) == ("vector", "raster")
    assert first.geometry.area == pytest.approx(np.pi * 1e-8, rel=0.01)
    assert second.geometry.bounds == pytest.approx((118.7, 31.9995, 118.7006, 32.0))


@pytest.mark.parametrize("pattern", ["(", "SV.*", "(?P<time>.*)_(?P<colour>.*)"])
def test_error_for_patterns_without_time_or_with_other_groups(pattern: str) -> None:
    with pytest.raises(ValidationError, match=r"regular expression|time is required"):
        ProviderSettings(pattern=pattern)


def test_error_for_missing_or_empty_folders_and_duplicate_scenes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        index(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no delivery"):
        index(tmp_path / "empty")
    for name in ("a", "b"):
        write(tmp_path / "two" / name / "SV1_20210703T0256.tif", np.ones((3, 9, 9), np.uint8), Affine.scale(1))
    with pytest.raises(DataError, match="two scenes named SV1_20210703T0256"):
        index(tmp_path / "two", providers={"sv": PLAIN})


def test_metadata_at_any_depth_override_the_name(tmp_path: Path) -> None:
    xml = """<?xml version="1.0"?><p:Product xmlns:p="urn:x"><p:A><p:cloudpercent> 12.5% </p:cloudpercent></p:A>
    <p:StartTime>2022-06-23 10:46:18</p:StartTime><SunElevation>61.5</SunElevation></p:Product>"""
    deliver(tmp_path / "d", xml=xml)
    deliver(tmp_path / "d", PSH.replace("0018", "0019"), xml="<broken>")
    table = index(tmp_path / "d")
    assert table["cloud_percent"].tolist() == pytest.approx([12.5, np.nan], nan_ok=True)
    assert table["sun_elevation"].tolist() == pytest.approx([61.5, np.nan], nan_ok=True)
    assert table["time"].tolist() == ["2022-06-23T02:46:18Z", "2022-06-23T02:46:20Z"]


@pytest.mark.parametrize(
    ("name", "count", "colours", "bands"),
    [
        (PSH, 3, (), (3, 2, 1)),
        (PSH, 4, (), (3, 2, 1)),
        (PSH.replace("JL1KF01B", "JL1GF03C01"), 3, (), (1, 2, 3)),
        (PSH, 3, (ColorInterp.red, ColorInterp.green, ColorInterp.blue), (1, 2, 3)),
        (PSH, 4, (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined), (3, 2, 1)),
    ],
)
def test_band_order_is_that_of_the_raster_else_of_the_provider(
    tmp_path: Path, name: str, count: int, colours: tuple, bands: tuple[int, int, int]
) -> None:
    # By default, GDAL labels three-band files red, green, blue.
    plain = (ColorInterp.gray,) + (ColorInterp.undefined,) * (count - 1)
    deliver(tmp_path / "d", name, count, colours=colours or plain)
    assert index(tmp_path / "d").iloc[0][["red", "green", "blue"]].tolist() == list(bands)
