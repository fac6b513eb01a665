"""The index of deliveries, the choice of scenes, and how they are read."""

from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from pydantic import ValidationError
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.warp import Resampling, reproject

from jointseg.config.dataset import Dataset
from jointseg.config.dataset import Provider as ProviderSettings
from jointseg.dataset import providers, scene_windows, scenes
from jointseg.dataset.deliveries import deliveries
from jointseg.dataset.providers import Provider
from jointseg.runtime.errors import DataError

PSH = "JL1KF01B_PMSR4_20220623104620_200089965_101_0018_001_L3C_PSH"
GIVEN = Dataset(jilin1="", osm="", footprints="", corrections="")
ENTRIES = {name: entry.model_dump() for name, entry in GIVEN.providers.items()}
KNOWN = [Provider(name=name, **entry) for name, entry in ENTRIES.items()]
PLAIN = ProviderSettings(pattern=r"(?P<satellite>SV\d)_(?P<time>\d{8}T\d{4})", time_format="%Y%m%dT%H%M").model_dump()


def index(folder: Path, **changes: object) -> pd.DataFrame:
    """The index of a folder, by scene."""
    given = {"providers": ENTRIES, "metadata_elements": GIVEN.metadata_elements} | changes
    deliveries(jilin1=folder, deliveries=folder.parent / "deliveries.parquet", **given)
    return gpd.read_parquet(folder.parent / "deliveries.parquet").set_index("scene_id")


def write(path: Path, array: np.ndarray, transform: Affine, crs: str | None = "EPSG:32650", **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, rows, cols = array.shape
    profile = {"driver": "GTiff", "width": cols, "height": rows, "count": count, "dtype": array.dtype.name, "crs": crs}
    colours = more.pop("colours", None)
    with rasterio.open(path, "w", transform=transform, **profile, **more) as to:
        to.write(array)
        if colours:
            to.colorinterp = colours


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
def test_names_are_taken_apart(name: str, satellite: str, level: str, spectral: str) -> None:
    parts = providers.parse_name(name, KNOWN)
    assert parts is not None
    assert (parts.satellite, parts.level, parts.spectral) == (satellite, level, spectral)
    assert parts.provider.name == ("jilin1-bayer" if satellite.startswith("JL1GF03C") else "jilin1")


def test_the_time_of_a_name_is_beijing_time() -> None:
    early = PSH.replace("20220623104620", "20220101030000")
    assert providers.parse_name(PSH, KNOWN).time == datetime(2022, 6, 23, 2, 46, 20, tzinfo=UTC)
    assert providers.parse_name(early, KNOWN).time == datetime(2021, 12, 31, 19, tzinfo=UTC)


@pytest.mark.parametrize("name", ["GF1_PMS1_E118.1", PSH.replace("_001_", "_01_")])
def test_other_names_are_nobodys(name: str) -> None:
    assert providers.parse_name(name, KNOWN) is None


def test_a_time_off_the_calendar_is_named() -> None:
    with pytest.raises(DataError, match="20221323104620"):
        providers.parse_name(PSH.replace("20220623", "20221323"), KNOWN)


def test_the_index_keeps_every_delivery_and_why_it_cannot_be_paired(tmp_path: Path) -> None:
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
    one = table.loc[PSH]
    assert (one.path, one.provider, one.satellite, one.level, one.spectral) == (
        f"{PSH}/{PSH}.tif", "jilin1", "JL1KF01B", "L3C", "PSH"
    )  # fmt: skip
    assert (one.width, one.height, one.pixel_m, one.crs, one.outline) == (40, 40, 0.75, "EPSG:32650", "raster")
    assert (one.red, one.green, one.blue, one.reason) == (3, 2, 1, "")
    reasons = table["reason"]
    assert "level L1; orthorectify" in reasons[level1]
    assert table.loc[level1].time == "2022-05-16T01:58:11Z"
    assert "2 bands" in reasons[PSH.replace("0018", "0019")]
    assert "no raster" in reasons[PSH.replace("0018", "0020")]
    assert "no coordinate reference system" in reasons[PSH.replace("0018", "0021")]
    assert "20221323" in reasons[PSH.replace("20220623", "20221323")]
    assert "matches no pattern of" in reasons["notes"]


def test_plain_geotiffs_of_another_provider_are_indexed(tmp_path: Path) -> None:
    folder = tmp_path / "deliveries"
    image = np.stack([np.full((50, 60), value, dtype=np.uint16) for value in (30, 20, 10)])
    lonlat = Affine(1e-5, 0, 118.7, 0, -1e-5, 32.0)
    for place in ("SV1_20210703T0256.tif", "July/SV2_20210704T0256.tif"):
        write(folder / place, image, lonlat, crs="EPSG:4326", photometric="minisblack")
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
def test_patterns_without_time_or_with_other_groups_are_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match=r"regular expression|time is needed"):
        ProviderSettings(pattern=pattern)


def test_missing_and_empty_folders_and_twice_the_same_scene_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        index(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no delivery"):
        index(tmp_path / "empty")
    for place in ("a", "b"):
        write(tmp_path / "two" / place / "SV1_20210703T0256.tif", np.ones((3, 9, 9), np.uint8), Affine.scale(1))
    with pytest.raises(DataError, match="two scenes named SV1_20210703T0256"):
        index(tmp_path / "two", providers={"sv": PLAIN})


def test_metadata_come_from_any_depth_and_fall_back_to_the_name(tmp_path: Path) -> None:
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
def test_band_order_follows_the_raster_then_the_provider(
    tmp_path: Path, name: str, count: int, colours: tuple, bands: tuple[int, int, int]
) -> None:
    # Drivers label three-band files red, green, blue unless told otherwise.
    plain = (ColorInterp.gray,) + (ColorInterp.undefined,) * (count - 1)
    deliver(tmp_path / "d", name, count, colours=colours or plain)
    assert index(tmp_path / "d").iloc[0][["red", "green", "blue"]].tolist() == list(bands)


def scene(name: str, cloud: float, day: str, square: tuple = (0, 0, 5000, 5000), angle: float = 0.0) -> scenes.Scene:
    """A scene over a square, m from a corner of zone 50 N."""
    to = Transformer.from_crs(32650, 4326, always_xy=True)
    x, y = shapely.box(*square).exterior.xy
    footprint = shapely.Polygon(np.column_stack(to.transform(np.array(x) + 660_000, np.array(y) + 3_540_000)))
    time = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return scenes.Scene(name, f"{name}.tif", time, cloud, angle, np.nan, (1, 2, 3), np.nan, footprint)


def best(*some: scenes.Scene) -> list[str]:
    chip = (661_000, 3_541_000, 661_320, 3_541_320)
    return [
        one.id for one in scenes.candidate_scenes(some, 32650, chip, 2021, scenes.mid_season_day(("04-01", "10-31")))
    ]


def test_the_best_scene_holds_the_chip_and_has_little_cloud_a_near_date_and_a_steep_view() -> None:
    assert best(scene("cloudy", 9, "2021-07-01"), scene("clear", 1, "2021-07-01")) == ["clear", "cloudy"]
    assert best(scene("b", 0, "2023-07-01"), scene("a", 0, "2022-07-01")) == ["a", "b"]
    assert best(scene("winter", 0, "2021-01-05"), scene("autumn", 0, "2021-10-05")) == ["autumn", "winter"]
    assert best(scene("slant", 0, "2021-07-01", angle=-25), scene("steep", 0, "2021-07-01", angle=5))[0] == "steep"
    # Ten percent of cloud weigh as much as two years; what is not told is as bad as the worst that is.
    assert best(scene("old", 0, "2018-07-01"), scene("cloudy", 14, "2021-07-01")) == ["cloudy", "old"]
    assert best(scene("a-untold", np.nan, "2021-07-01"), scene("told", 5, "2021-07-01"))[0] == "a-untold"
    assert best(scene("a-untold", np.nan, "2021-09-01"), scene("told", 5, "2021-07-01"))[0] == "told"
    assert best(scene("part", 0, "2021-07-01", (0, 0, 1200, 5000)), scene("late", 2, "2022-11-01")) == ["late"]


@pytest.mark.parametrize(
    ("season", "day"), [(("01-01", "12-31"), 183), (("04-01", "10-31"), 197), (("11-01", "02-28"), 364)]
)
def test_the_middle_of_a_season_may_lie_beyond_the_new_year(season: tuple[str, str], day: int) -> None:
    assert scenes.mid_season_day(season) == day


def read(
    path: Path, nodata: float, *wanted: scene_windows.WindowRequest
) -> tuple[list[scene_windows.SceneWindow], scene_windows.SceneReader]:
    """Windows of a raster, in the order they were wanted."""
    one = scenes.Scene("s", path.name, datetime(2021, 7, 1, tzinfo=UTC), 0, 0, 0, (1, 2, 3), nodata, shapely.Point())
    whole = scene_windows.SceneReader(path.parent, one)
    found = dict(whole.windows(wanted))
    return [found[number] for number in range(len(wanted))], whole


def test_reading_moves_a_scene_by_its_shift_and_marks_what_it_lacks(tmp_path: Path) -> None:
    step = np.zeros((3, 200, 200), dtype=np.uint16)
    step[:, :, :100] = 100
    step[:, :, 100:] = 1100  # an edge 75 m from the western border, 660075
    step[:, :40, :] = 0  # 30 m without data in the north
    write(tmp_path / "s.tif", step, Affine(0.75, 0, 660_000, 0, -0.75, 3_540_150), nodata=0)
    one = scene_windows.WindowRequest(32650, (660_020, 3_540_020, 660_130, 3_540_145), (6.0, -3.0))
    values, known = scene_windows.resample_to_1m(read(tmp_path / "s.tif", 0, one)[0][0], one)
    assert values.shape == (3, 125, 110)
    crossing = np.interp(600, values[0, -1], np.arange(110) + 0.5)
    assert crossing == pytest.approx(75 + 6 - 20, abs=0.02)
    # Data begin at 3540120 - 3 m: the 145 - 117 upper rows have none.
    assert abs(int((~known[:, 50]).sum()) - 28) <= 1
    assert values[:, ~known].max() == 0
    # Beyond the western border there is nothing either.
    beyond = scene_windows.WindowRequest(32650, (659_970, 3_540_020, 660_040, 3_540_100), (6.0, -3.0))
    _, known = scene_windows.resample_to_1m(read(tmp_path / "s.tif", 0, beyond)[0][0], beyond)
    assert (~known).all(axis=0).sum() == 36
    far = scene_windows.WindowRequest(32650, (650_000, 3_540_020, 650_100, 3_540_100))
    raw = read(tmp_path / "s.tif", 0, far)[0][0]
    assert not scene_windows.resample_to_1m(raw, far)[1].any() and scene_windows.resample_to_10m(raw, far).shape == (
        3,
        8,
        10,
    )


@pytest.mark.parametrize("pixel", [0.5, 0.75])
def test_resampling_passes_what_1_m_can_hold_and_stops_what_would_alias(tmp_path: Path, pixel: float) -> None:
    """Amplitude that waves of one frequency keep, cycles a metre: 0.5 is the Nyquist frequency of 1 m."""
    side = round(300 / pixel)
    x = (np.arange(side) + 0.5) * pixel
    one = scene_windows.WindowRequest(32650, (660_050, 3_540_050, 660_250, 3_540_250), (0.31, -0.17))

    def kept(frequency: float) -> float:
        wave = np.broadcast_to(1000 * np.sin(2 * np.pi * frequency * x), (3, side, side)).astype(np.float32)
        write(tmp_path / "w.tif", wave, Affine(pixel, 0, 660_000, 0, -pixel, 3_540_300))
        values, known = scene_windows.resample_to_1m(read(tmp_path / "w.tif", np.nan, one)[0][0], one)
        assert known.all()
        return float(values[0].std() * np.sqrt(2) / 1000)

    assert kept(0.05) > 0.99
    assert kept(0.2) > 0.9
    assert 0.55 < kept(0.45) < 0.65
    if pixel == 0.75:
        assert kept(0.65) < 0.25
    else:
        assert max(kept(frequency) for frequency in (0.75, 0.85, 0.95)) < 0.12


def test_one_resampling_in_all_is_gdals_cubic_in_the_same_crs_and_near_it_in_another(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 4000, (3, 400, 420)).astype(np.uint16)
    image[:, 100:130, 200:240] = 0
    transform = Affine(0.75, 0, 660_000.3, 0, -0.75, 3_540_300.1)
    write(tmp_path / "s.tif", image, transform, nodata=0)
    one = scene_windows.WindowRequest(32650, (660_040, 3_540_040, 660_240, 3_540_240), (1.37, -0.81))
    values, known = scene_windows.resample_to_1m(read(tmp_path / "s.tif", 0, one)[0][0], one)
    inner = known & np.isfinite(warped(image, transform, one)).all(axis=0)
    inner[100:160, 120:220] = False  # where each handles what is unknown in its own way
    assert inner.mean() > 0.8
    assert np.abs(values - warped(image, transform, one))[:, inner].max() < 0.01
    # Through another zone and back: what is read is the same ground.
    other = gpd.GeoSeries([shapely.box(660_000, 3_540_000, 660_300, 3_540_300)], crs=32650).to_crs(32651).iloc[0].bounds
    smooth = scene_windows.registration.blur(image.astype(np.float32), np.ones(image.shape[1:], bool)).astype(
        np.float32
    )
    west, north = np.floor(other[0]), np.ceil(other[3])
    moved = np.full((3, 700, 700), np.nan, dtype=np.float32)
    lattice = Affine(0.6, 0, west, 0, -0.6, north)
    reproject(
        smooth, moved, src_transform=transform, src_crs="EPSG:32650", dst_transform=lattice, dst_crs="EPSG:32651",
        src_nodata=np.nan, dst_nodata=np.nan, resampling=Resampling.cubic, tolerance=0,
    )  # fmt: skip
    write(tmp_path / "o.tif", np.nan_to_num(moved), lattice, crs="EPSG:32651", nodata=0)
    write(tmp_path / "a.tif", smooth, transform, nodata=0)
    direct, round_about = (read(tmp_path / name, 0, one)[0][0] for name in ("a.tif", "o.tif"))
    (here, _), (there, known) = (
        scene_windows.resample_to_1m(direct, one),
        scene_windows.resample_to_1m(round_about, one),
    )
    assert known.all()
    assert np.abs(here - there).max() < 0.04 * here.std()
    # The outer pixels lack surroundings here.
    assert (
        np.abs(scene_windows.resample_to_10m(direct, one) - scene_windows.resample_to_10m(round_about, one))[
            :, 2:-2, 2:-2
        ].max()
        < 2
    )


def test_the_view_of_the_composites_sensor_is_that_of_a_blurred_1_m_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 4000, (3, 400, 400)).astype(np.uint16)
    image[:, 150:170, 300:] = 0
    write(tmp_path / "s.tif", image, Affine(0.75, 0, 660_000, 0, -0.75, 3_540_300), nodata=0)
    inner, wide = ((660_000 + m, 3_540_000 + m, 660_300 - m, 3_540_300 - m) for m in (50, 20))
    (raw, _), _ = read(
        tmp_path / "s.tif", 0, *(scene_windows.WindowRequest(32650, b, (1.3, 0.6)) for b in (wide, inner))
    )
    values, known = scene_windows.resample_to_1m(raw, scene_windows.WindowRequest(32650, wide, (1.3, 0.6)))
    smooth = scene_windows.registration.blur(values, known)
    slow = scene_windows.registration.sample_at_10m(smooth, (20, 20), 30)
    fast = scene_windows.resample_to_10m(raw, scene_windows.WindowRequest(32650, inner, (1.3, 0.6)))
    assert np.abs(fast - slow)[:, :, :15].max() < 0.02 * 1155  # of the noise's standard deviation
    assert np.corrcoef(fast[:, :, :15].ravel(), slow[:, :, :15].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("blocks", [{"tiled": True, "blockxsize": 64, "blockysize": 32}, {"blockysize": 7}])
def test_every_block_is_decoded_once_and_no_window_depends_on_the_others(tmp_path: Path, blocks: dict) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(1, 4000, (3, 1300, 1100)).astype(np.uint16)
    write(tmp_path / "s.tif", image, Affine(1, 0, 660_000, 0, -1, 3_541_300), interleave="pixel", **blocks)
    corners = [(float(x), float(y)) for x, y in rng.uniform((660_000, 3_540_000), (661_000, 3_541_200), (60, 2))]
    wanted = [scene_windows.WindowRequest(32650, (x, y, x + 90, y + 90)) for x, y in corners]
    together, whole = read(tmp_path / "s.tif", np.nan, *wanted)
    assert whole.decoded_px <= whole.size_px == 1300 * 1100
    for number in (0, 17, 59):
        (alone,), part = read(tmp_path / "s.tif", np.nan, wanted[number])
        assert np.array_equal(alone.values, together[number].values)
        assert alone.transform == together[number].transform
        assert part.decoded_px < 0.65 * part.size_px
        row, col = round(3_541_300 - alone.transform.f), round(alone.transform.c - 660_000)
        height, width = alone.values.shape[1:]
        assert np.array_equal(alone.values, image[:, row : row + height, col : col + width])


def warped(image: np.ndarray, transform: Affine, one: scene_windows.WindowRequest) -> np.ndarray:
    """GDAL's cubic warp of an image at 1 m, moved by the shift."""
    west, south, east, north = one.bounds
    out = np.full((3, round(north - south), round(east - west)), np.nan, dtype=np.float32)
    values = np.where(image.any(axis=0), image, np.nan).astype(np.float32)
    to = Affine(1, 0, west - one.shift_m[0], 0, -1, north - one.shift_m[1])
    options = {"src_nodata": np.nan, "dst_nodata": np.nan, "resampling": Resampling.cubic}
    reproject(
        values, out, src_transform=transform, src_crs="EPSG:32650", dst_transform=to, dst_crs="EPSG:32650", **options
    )
    return out
