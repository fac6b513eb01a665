"""Selection of scenes, and reading and resampling of their windows."""

from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.warp import Resampling, reproject
from support.geotiff import write

from jointseg.dataset import registration, scenes
from jointseg.dataset.scene_windows import SceneReader, SceneWindow, WindowRequest, resample_to_1m, resample_to_10m


def scene(name: str, cloud: float, day: str, square: tuple = (0, 0, 5000, 5000), angle: float = 0.0) -> scenes.Scene:
    """Return a scene over a square, in metres from a point of zone 50 N."""
    to = Transformer.from_crs(32650, 4326, always_xy=True)
    x, y = shapely.box(*square).exterior.xy
    footprint = shapely.Polygon(np.column_stack(to.transform(np.array(x) + 660_000, np.array(y) + 3_540_000)))
    time = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return scenes.Scene(name, f"{name}.tif", time, cloud, angle, np.nan, (1, 2, 3), np.nan, footprint)


def ranked(*candidates: scenes.Scene) -> list[str]:
    chip = (661_000, 3_541_000, 661_320, 3_541_320)
    return [
        scene.id
        for scene in scenes.candidate_scenes(candidates, 32650, chip, 2021, scenes.mid_season_day(("04-01", "10-31")))
    ]


def test_ranking_prefers_little_cloud_close_dates_and_steep_views() -> None:
    assert ranked(scene("cloudy", 9, "2021-07-01"), scene("clear", 1, "2021-07-01")) == ["clear", "cloudy"]
    assert ranked(scene("b", 0, "2023-07-01"), scene("a", 0, "2022-07-01")) == ["a", "b"]
    assert ranked(scene("winter", 0, "2021-01-05"), scene("autumn", 0, "2021-10-05")) == ["autumn", "winter"]
    assert ranked(scene("slant", 0, "2021-07-01", angle=-25), scene("steep", 0, "2021-07-01", angle=5))[0] == "steep"
    # Ten percent of cloud have the penalty of two years; a missing value counts as the worst of the others.
    assert ranked(scene("old", 0, "2018-07-01"), scene("cloudy", 14, "2021-07-01")) == ["cloudy", "old"]
    assert ranked(scene("a-missing", np.nan, "2021-07-01"), scene("known", 5, "2021-07-01"))[0] == "a-missing"
    assert ranked(scene("a-missing", np.nan, "2021-09-01"), scene("known", 5, "2021-07-01"))[0] == "known"
    assert ranked(scene("part", 0, "2021-07-01", (0, 0, 1200, 5000)), scene("late", 2, "2022-11-01")) == ["late"]


@pytest.mark.parametrize(
    ("season", "day"), [(("01-01", "12-31"), 183), (("04-01", "10-31"), 197), (("11-01", "02-28"), 364)]
)
def test_middle_of_a_season_across_the_new_year(season: tuple[str, str], day: int) -> None:
    assert scenes.mid_season_day(season) == day


def read(path: Path, nodata: float, *requests: WindowRequest) -> tuple[list[SceneWindow], SceneReader]:
    """Return the windows of a raster in the order of the requests, and the reader."""
    scene = scenes.Scene("s", path.name, datetime(2021, 7, 1, tzinfo=UTC), 0, 0, 0, (1, 2, 3), nodata, shapely.Point())
    reader = SceneReader(path.parent, scene)
    windows = dict(reader.windows(requests))
    return [windows[number] for number in range(len(requests))], reader


def test_scene_is_moved_by_its_shift_and_nodata_is_masked(tmp_path: Path) -> None:
    step = np.zeros((3, 200, 200), dtype=np.uint16)
    step[:, :, :100] = 100
    step[:, :, 100:] = 1100  # an edge 75 m from the western border, 660075
    step[:, :40, :] = 0  # 30 m of nodata in the north
    write(tmp_path / "s.tif", step, Affine(0.75, 0, 660_000, 0, -0.75, 3_540_150), nodata=0)
    request = WindowRequest(32650, (660_020, 3_540_020, 660_130, 3_540_145), (6.0, -3.0))
    values, valid = resample_to_1m(read(tmp_path / "s.tif", 0, request)[0][0], request)
    assert values.shape == (3, 125, 110)
    crossing = np.interp(600, values[0, -1], np.arange(110) + 0.5)
    assert crossing == pytest.approx(75 + 6 - 20, abs=0.02)
    # Valid pixels start at 3540120 - 3 m: the upper 145 - 117 rows are nodata.
    assert abs(int((~valid[:, 50]).sum()) - 28) <= 1
    assert values[:, ~valid].max() == 0
    # Pixels beyond the western border are nodata.
    beyond = WindowRequest(32650, (659_970, 3_540_020, 660_040, 3_540_100), (6.0, -3.0))
    _, valid = resample_to_1m(read(tmp_path / "s.tif", 0, beyond)[0][0], beyond)
    assert (~valid).all(axis=0).sum() == 36
    far = WindowRequest(32650, (650_000, 3_540_020, 650_100, 3_540_100))
    raw = read(tmp_path / "s.tif", 0, far)[0][0]
    assert not resample_to_1m(raw, far)[1].any() and resample_to_10m(raw, far).shape == (
        3,
        8,
        10,
    )


@pytest.mark.parametrize("pixel", [0.5, 0.75])
def test_resampling_preserves_low_frequencies_and_suppresses_aliasing(tmp_path: Path, pixel: float) -> None:
    """Compare wave amplitudes after and before, by frequency in cycles per metre; 0.5 is the Nyquist frequency at 1 m."""
    side = round(300 / pixel)
    x = (np.arange(side) + 0.5) * pixel
    request = WindowRequest(32650, (660_050, 3_540_050, 660_250, 3_540_250), (0.31, -0.17))

    def amplitude(frequency: float) -> float:
        wave = np.broadcast_to(1000 * np.sin(2 * np.pi * frequency * x), (3, side, side)).astype(np.float32)
        write(tmp_path / "w.tif", wave, Affine(pixel, 0, 660_000, 0, -pixel, 3_540_300))
        values, valid = resample_to_1m(read(tmp_path / "w.tif", np.nan, request)[0][0], request)
        assert valid.all()
        return float(values[0].std() * np.sqrt(2) / 1000)

    assert amplitude(0.05) > 0.99
    assert amplitude(0.2) > 0.9
    assert 0.55 < amplitude(0.45) < 0.65
    if pixel == 0.75:
        assert amplitude(0.65) < 0.25
    else:
        assert max(amplitude(frequency) for frequency in (0.75, 0.85, 0.95)) < 0.12


def test_resampling_equals_gdals_cubic_in_one_crs_and_is_close_in_another(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 4000, (3, 400, 420)).astype(np.uint16)
    image[:, 100:130, 200:240] = 0
    transform = Affine(0.75, 0, 660_000.3, 0, -0.75, 3_540_300.1)
    write(tmp_path / "s.tif", image, transform, nodata=0)
    request = WindowRequest(32650, (660_040, 3_540_040, 660_240, 3_540_240), (1.37, -0.81))
    values, valid = resample_to_1m(read(tmp_path / "s.tif", 0, request)[0][0], request)
    inner = valid & np.isfinite(warped(image, transform, request)).all(axis=0)
    inner[100:160, 120:220] = False  # where the two handle nodata differently
    assert inner.mean() > 0.8
    assert np.abs(values - warped(image, transform, request))[:, inner].max() < 0.01
    # A scene in another zone shows the same area.
    bounds = (
        gpd.GeoSeries([shapely.box(660_000, 3_540_000, 660_300, 3_540_300)], crs=32650).to_crs(32651).iloc[0].bounds
    )
    smooth = registration.blur(image.astype(np.float32), np.ones(image.shape[1:], bool)).astype(np.float32)
    west, north = np.floor(bounds[0]), np.ceil(bounds[3])
    moved = np.full((3, 700, 700), np.nan, dtype=np.float32)
    lattice = Affine(0.6, 0, west, 0, -0.6, north)
    reproject(
        smooth, moved, src_transform=transform, src_crs="EPSG:32650", dst_transform=lattice, dst_crs="EPSG:32651",
        src_nodata=np.nan, dst_nodata=np.nan, resampling=Resampling.cubic, tolerance=0,
    )  # fmt: skip
    write(tmp_path / "o.tif", np.nan_to_num(moved), lattice, crs="EPSG:32651", nodata=0)
    write(tmp_path / "a.tif", smooth, transform, nodata=0)
    direct, reprojected = (read(tmp_path / name, 0, request)[0][0] for name in ("a.tif", "o.tif"))
    (values, _), (other, valid) = (
        resample_to_1m(direct, request),
        resample_to_1m(reprojected, request),
    )
    assert valid.all()
    assert np.abs(values - other).max() < 0.04 * values.std()
    # The outer pixels lack a margin.
    assert np.abs(resample_to_10m(direct, request) - resample_to_10m(reprojected, request))[:, 2:-2, 2:-2].max() < 2


def test_resampling_to_10_m_equals_sampling_of_the_blurred_1_m_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 4000, (3, 400, 400)).astype(np.uint16)
    image[:, 150:170, 300:] = 0
    write(tmp_path / "s.tif", image, Affine(0.75, 0, 660_000, 0, -0.75, 3_540_300), nodata=0)
    inner, wide = ((660_000 + m, 3_540_000 + m, 660_300 - m, 3_540_300 - m) for m in (50, 20))
    (raw, _), _ = read(tmp_path / "s.tif", 0, *(WindowRequest(32650, b, (1.3, 0.6)) for b in (wide, inner)))
    values, valid = resample_to_1m(raw, WindowRequest(32650, wide, (1.3, 0.6)))
    smooth = registration.blur(values, valid)
    slow = registration.sample_at_10m(smooth, (20, 20), 30)
    fast = resample_to_10m(raw, WindowRequest(32650, inner, (1.3, 0.6)))
    assert np.abs(fast - slow)[:, :, :15].max() < 0.02 * 1155  # of the noise's standard deviation
    assert np.corrcoef(fast[:, :, :15].ravel(), slow[:, :, :15].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("blocks", [{"tiled": True, "blockxsize": 64, "blockysize": 32}, {"blockysize": 7}])
def test_blocks_are_decoded_once_and_windows_are_independent(tmp_path: Path, blocks: dict) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(1, 4000, (3, 1300, 1100)).astype(np.uint16)
    write(tmp_path / "s.tif", image, Affine(1, 0, 660_000, 0, -1, 3_541_300), interleave="pixel", **blocks)
    corners = [(float(x), float(y)) for x, y in rng.uniform((660_000, 3_540_000), (661_000, 3_541_200), (60, 2))]
    requests = [WindowRequest(32650, (x, y, x + 90, y + 90)) for x, y in corners]
    windows, reader = read(tmp_path / "s.tif", np.nan, *requests)
    assert reader.decoded_px <= reader.size_px == 1300 * 1100
    for number in (0, 17, 59):
        (single,), part = read(tmp_path / "s.tif", np.nan, requests[number])
        assert np.array_equal(single.values, windows[number].values)
        assert single.transform == windows[number].transform
        assert part.decoded_px < 0.65 * part.size_px
        row, col = round(3_541_300 - single.transform.f), round(single.transform.c - 660_000)
        height, width = single.values.shape[1:]
        assert np.array_equal(single.values, image[:, row : row + height, col : col + width])


def warped(image: np.ndarray, transform: Affine, request: WindowRequest) -> np.ndarray:
    """Return GDAL's cubic warp of an image to 1 m, moved by the shift."""
    west, south, east, north = request.bounds
    out = np.full((3, round(north - south), round(east - west)), np.nan, dtype=np.float32)
    values = np.where(image.any(axis=0), image, np.nan).astype(np.float32)
    to = Affine(1, 0, west - request.shift_m[0], 0, -1, north - request.shift_m[1])
    options = {"src_nodata": np.nan, "dst_nodata": np.nan, "resampling": Resampling.cubic}
    reproject(
        values, out, src_transform=transform, src_crs="EPSG:32650", dst_transform=to, dst_crs="EPSG:32650", **options
    )
    return out
