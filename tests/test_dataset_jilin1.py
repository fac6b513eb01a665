from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.enums import ColorInterp

from jointseg.dataset import jilin1
from jointseg.errors import DataError

PSH = "JL1KF01B_PMSR4_20220623104620_200089965_101_0018_001_L3C_PSH"


def deliver(folder: Path, name: str = PSH, count: int = 3, xml: str | None = None, colours: tuple = ()) -> Path:
    delivery = folder / name
    delivery.mkdir(parents=True)
    stem = name if name.endswith("_PSH") else f"{name}_PSH"
    profile = {"driver": "GTiff", "width": 40, "height": 40, "count": count, "dtype": "uint16", "crs": "EPSG:32650"}
    transform = Affine(0.75, 0, 660_000, 0, -0.75, 3_540_030)
    with rasterio.open(delivery / f"{stem}.tif", "w", transform=transform, nodata=0, **profile) as to:
        to.write(np.arange(1, count + 1, dtype=np.uint16)[:, None, None] * np.ones((1, 40, 40), dtype=np.uint16))
        if colours:
            to.colorinterp = colours
    if xml is not None:
        (delivery / f"{stem}_meta.xml").write_text(xml)
    return delivery


@pytest.mark.parametrize(
    ("name", "satellite", "level", "spectral"),
    [
        ("JL1GF03B02_PMS_20220516095811_200084559_101_0008_001_L1", "JL1GF03B02", "L1", None),
        ("JL1GF03B02_PMS_20220516095811_200084559_101_0008_001_L1_MSS", "JL1GF03B02", "L1", "MSS"),
        (PSH, "JL1KF01B", "L3C", "PSH"),
        ("JL101A_PMSL2_20190101000000_123456789_0101_0008_001_L3A_PAN", "JL101A", "L3A", "PAN"),
        ("JL107B_PMS06_20190101000000_123456789_101_0008_001_L1A", "JL107B", "L1A", None),
        ("JL1GF03C01_MMS_20190101000000_123456789_101_0008_001_L3D", "JL1GF03C01", "L3D", None),
    ],
)
def test_names_are_taken_apart(name: str, satellite: str, level: str, spectral: str | None) -> None:
    parts = jilin1.parse_name(name)
    assert (parts.satellite, parts.level, parts.spectral) == (satellite, level, spectral)


def test_the_time_of_a_name_is_beijing_time() -> None:
    assert jilin1.parse_name(PSH).time == datetime(2022, 6, 23, 2, 46, 20, tzinfo=UTC)
    early = PSH.replace("20220623104620", "20220101030000")
    assert jilin1.parse_name(early).time == datetime(2021, 12, 31, 19, tzinfo=UTC)


@pytest.mark.parametrize("name", ["GF1_PMS1_E118.1", PSH.replace("_001_", "_01_"), PSH.replace("20220623", "20221323")])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"time|not the name"):
        jilin1.parse_name(name)


def test_the_index_keeps_what_can_be_paired_and_names_the_rest(tmp_path: Path) -> None:
    deliver(tmp_path)
    deliver(tmp_path, "JL1GF03B02_PMS_20220516095811_200084559_101_0008_001_L1")
    deliver(tmp_path, PSH.replace("0018", "0019"), count=2)
    (tmp_path / PSH.replace("0018", "0020")).mkdir()
    (tmp_path / "notes").mkdir()
    scenes, skipped = jilin1.index(tmp_path)
    assert [scene.id for scene in scenes] == [PSH]
    assert scenes[0].path == f"{PSH}/{PSH}.tif"
    assert "level L1" in skipped["JL1GF03B02_PMS_20220516095811_200084559_101_0008_001_L1"]
    assert "2 bands" in skipped[PSH.replace("0018", "0019")]
    assert "no raster" in skipped[PSH.replace("0018", "0020")]
    assert "not the name" in skipped["notes"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        jilin1.index(tmp_path / "nowhere")


def test_metadata_come_from_any_depth_and_fall_back_to_the_name(tmp_path: Path) -> None:
    xml = """<?xml version="1.0"?><p:Product xmlns:p="urn:x"><p:A><p:cloudpercent> 12.5% </p:cloudpercent></p:A>
    <p:StartTime>2022-06-23 10:46:18</p:StartTime></p:Product>"""
    deliver(tmp_path, xml=xml)
    deliver(tmp_path, PSH.replace("0018", "0019"), xml="<broken>")
    told, untold = jilin1.index(tmp_path)[0]
    assert told.cloud_percent == 12.5
    assert told.time == datetime(2022, 6, 23, 2, 46, 18, tzinfo=UTC)
    assert untold.cloud_percent is None
    assert untold.time == datetime(2022, 6, 23, 2, 46, 20, tzinfo=UTC)


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
def test_band_order_follows_the_raster_then_the_camera(
    tmp_path: Path, name: str, count: int, colours: tuple, bands: tuple[int, int, int]
) -> None:
    # Drivers label three-band files red, green, blue unless told otherwise.
    plain = (ColorInterp.gray,) + (ColorInterp.undefined,) * (count - 1)
    deliver(tmp_path, name, count, colours=colours or plain)
    assert jilin1.index(tmp_path)[0][0].bands == bands


def scene(name: str, cloud: float | None, day: str, square: tuple[float, float, float, float]) -> jilin1.Scene:
    time = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return jilin1.Scene(name, name, "JL1", time, cloud, (3, 2, 1), "EPSG:32650", 0.75, shapely.box(*square))


def test_the_best_scene_holds_the_chip_has_least_cloud_then_the_nearest_date() -> None:
    all_of_it, part = (0, 0, 5000, 5000), (0, 0, 1200, 5000)
    scenes = [
        scene("cloudy", 9, "2021-09-01", all_of_it),
        scene("late", 2, "2022-11-01", all_of_it),
        scene("summer", 2, "2022-06-01", all_of_it),
        scene("part", 0, "2021-07-01", part),
        scene("untold", None, "2021-07-01", all_of_it),
    ]
    found = jilin1.candidates(scenes, 32650, (1000, 1000, 1320, 1320), 2021)
    assert [one.id for one in found] == ["summer", "late", "untold", "cloudy"]


def test_reading_moves_a_scene_by_its_shift_and_marks_what_it_lacks(tmp_path: Path) -> None:
    delivery = tmp_path / PSH
    delivery.mkdir()
    step = np.zeros((3, 200, 200), dtype=np.uint16)
    step[:, :, :100] = 100
    step[:, :, 100:] = 1100  # an edge 75 m from the western border, 660075
    step[:, :40, :] = 0  # 30 m without data in the north
    profile = {"driver": "GTiff", "width": 200, "height": 200, "count": 3, "dtype": "uint16", "crs": "EPSG:32650"}
    transform = Affine(0.75, 0, 660_000, 0, -0.75, 3_540_150)
    with rasterio.open(delivery / f"{PSH}.tif", "w", transform=transform, nodata=0, **profile) as to:
        to.write(step)
    one = jilin1.scene(tmp_path, delivery)
    values, known = jilin1.read(tmp_path, one, 32650, (660_020, 3_540_020, 660_130, 3_540_145), (6.0, -3.0))
    assert values.shape == (3, 125, 110)
    row = values[0, -1]
    crossing = np.interp(600, row, np.arange(110) + 0.5)
    assert crossing == pytest.approx(75 + 6 - 20, abs=0.05)
    # Data begin at 3540120 - 3 m: the 145 - 117 upper rows have none.
    assert abs(int((~known[:, 50]).sum()) - 28) <= 1


def test_resampling_keeps_the_mean_and_does_not_alias(tmp_path: Path) -> None:
    delivery = tmp_path / PSH
    delivery.mkdir()
    stripes = np.where(np.arange(400) % 2, 100, 1100).astype(np.uint16)  # 1.5 m a period, unseen at 1 m
    profile = {"driver": "GTiff", "width": 400, "height": 400, "count": 3, "dtype": "uint16", "crs": "EPSG:32650"}
    transform = Affine(0.75, 0, 660_000, 0, -0.75, 3_540_300)
    with rasterio.open(delivery / f"{PSH}.tif", "w", transform=transform, **profile) as to:
        to.write(np.broadcast_to(stripes, (3, 400, 400)))
    one = jilin1.scene(tmp_path, delivery)
    values, known = jilin1.read(tmp_path, one, 32650, (660_050, 3_540_050, 660_250, 3_540_250), (0.0, 0.0))
    assert known.all()
    assert values.mean() == pytest.approx(600, abs=1)
    assert values.std() < 0.4 * 500
