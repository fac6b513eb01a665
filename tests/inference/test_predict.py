"""The map does not depend on tiles, batches or the order of neighbours; nodata stays nodata."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely.geometry import box
from support.inference_scene import (
    LATTICE,
    composites,
    networks,
    predict_tile,
    scene,
    with_neighbours,
)

from jointseg.area.grid import parse_tile
from jointseg.inference import map_chips, predict, predict_chips
from jointseg.inference.lattice import Window
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.raster.bands import RGB
from jointseg.runtime.errors import DataError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return networks(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def two_km(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Path]) -> np.ndarray:
    """The map of the 2 km tile in the north-east of the scene."""
    folder = tmp_path_factory.mktemp("two")
    made = composites(folder, 2)
    return predict_tile(folder / "isa", with_neighbours(made, "50N_E0662_N3542", 2), "50N_E0662_N3542", 2, weights)


def test_four_small_tiles_equal_the_large_tile(tmp_path: Path, weights: dict[str, Path], two_km: np.ndarray) -> None:
    made = composites(tmp_path, 1)
    parts = {
        tile: predict_tile(tmp_path / "isa", with_neighbours(made, tile, 1)[::-1], tile, 1, weights)
        for tile in ("50N_E0662_N3542", "50N_E0663_N3542", "50N_E0662_N3543", "50N_E0663_N3543")
    }
    north = np.hstack([parts["50N_E0662_N3543"], parts["50N_E0663_N3543"]])
    south = np.hstack([parts["50N_E0662_N3542"], parts["50N_E0663_N3542"]])
    assert np.array_equal(np.vstack([north, south]), two_km)
    assert {0, 1, 255} == set(np.unique(two_km)), "the comparison needs every class"


def test_batch_and_threads_do_not_change_pixels(tmp_path: Path, weights: dict[str, Path], two_km: np.ndarray) -> None:
    made = composites(tmp_path, 2)
    paths = with_neighbours(made, "50N_E0662_N3542", 2)
    for batch, threads in ((1, 1), (8, 3)):
        options = {"batch": batch, "threads": threads}
        assert np.array_equal(predict_tile(tmp_path / "isa", paths, "50N_E0662_N3542", 2, weights, **options), two_km)


def test_output_is_deterministic(tmp_path: Path, weights: dict[str, Path]) -> None:
    made = composites(tmp_path, 1)
    for folder in ("a", "b"):
        predict_tile(tmp_path / folder, [made["50N_E0661_N3542"]], "50N_E0661_N3542", 1, weights)
    assert (tmp_path / "a/50N_E0661_N3542.tif").read_bytes() == (tmp_path / "b/50N_E0661_N3542.tif").read_bytes()


def test_nodata_is_where_there_is_no_clear_observation(two_km: np.ndarray) -> None:
    clear = scene()[3, :200, 200:]
    assert np.array_equal(two_km == 255, clear.repeat(10, axis=0).repeat(10, axis=1) == 0)


def test_pixels_without_observation_do_not_influence_others(tmp_path: Path, weights: dict[str, Path]) -> None:
    tile = "50N_E0661_N3542"
    made = composites(tmp_path, 1)
    before = predict_tile(tmp_path / "isa", [made[tile]], tile, 1, weights)
    array, transform, crs = raster_io.read(made[tile])
    assert (array[3] == 0).any()
    array[:3, array[3] == 0] = 9999
    cog.write(made[tile], array, crs=crs, transform=transform, nodata=0, descriptions=("B04", "B03", "B02", "clear"))
    assert np.array_equal(predict_tile(tmp_path / "isa", [made[tile]], tile, 1, weights), before)


def test_missing_neighbour_changes_only_pixels_of_its_windows(
    tmp_path: Path, weights: dict[str, Path], two_km: np.ndarray
) -> None:
    made = composites(tmp_path, 2)
    single = predict_tile(tmp_path / "isa", [made["50N_E0662_N3542"]], "50N_E0662_N3542", 2, weights)
    assert np.array_equal(single == 255, two_km == 255)
    assert not np.array_equal(single, two_km)
    inside = slice(None, 2000 - LATTICE["window_m"]), slice(LATTICE["window_m"], None)
    assert np.array_equal(single[inside], two_km[inside])


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(1, 60), st.integers(1, 60)), max_size=5))
def test_nodata_equals_the_gaps_of_the_composite(
    weights: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, holes: list[tuple[int, int, int, int]]
) -> None:
    folder, tile = tmp_path_factory.mktemp("holes"), parse_tile("50N_E0661_N3542", 1)
    image = scene()[:, 100:200, 100:200].copy()
    image[:3] = np.maximum(image[:3], 1)
    image[3] = 5
    for row, col, rows, cols in holes:
        image[:, row : row + rows, col : col + cols] = 0
    path = folder / f"{tile.id}.tif"
    cog.write(path, image, crs=tile.crs, transform=tile.transform(10), nodata=0, descriptions=(*RGB, "clear"))
    made = predict_tile(folder / "isa", [path], tile.id, 1, weights)
    assert np.array_equal(made == 255, (image[3] == 0).repeat(10, 0).repeat(10, 1))


def test_tile_without_observations_is_nodata(tmp_path: Path, weights: dict[str, Path]) -> None:
    tile = parse_tile("50N_E0660_N3540", 1)
    path = tmp_path / f"{tile.id}.tif"
    empty = np.zeros((4, 100, 100), np.uint16)
    cog.write(
        path,
        empty,
        crs=tile.crs,
        transform=tile.transform(10),
        nodata=0,
        descriptions=("B04", "B03", "B02", "clear"),
    )
    assert (predict_tile(tmp_path / "isa", [path], tile.id, 1, weights) == 255).all()


def test_pixels_of_another_zone_are_nodata(tmp_path: Path, weights: dict[str, Path]) -> None:
    # 120 E, the edge of zone 50, crosses this tile at 32 N.
    tile = parse_tile("50N_E0783_N3545", 1)
    path = tmp_path / f"{tile.id}.tif"
    bands = ("B04", "B03", "B02", "clear")
    image = np.full((4, 100, 100), 1000, np.uint16)
    cog.write(path, image, crs=tile.crs, transform=tile.transform(10), nodata=0, descriptions=bands)
    owned = predict.grid.own_zone_mask(tile.epsg, tile.transform(1), tile.shape(1))
    assert 0 < owned.mean() < 1
    assert np.array_equal(predict_tile(tmp_path / "isa", [path], tile.id, 1, weights) == 255, ~owned)


@pytest.mark.parametrize("method", ["superres", "bilinear"])
def test_chips_equal_the_map(tmp_path: Path, weights: dict[str, Path], method: str) -> None:
    made = composites(tmp_path, 2)
    tile = "50N_E0662_N3542"
    full = predict_tile(tmp_path / "isa", with_neighbours(made, tile, 2), tile, 2, weights, method=method)
    corners = {
        "a": (662_100, 3_542_330),
        "b": (663_680, 3_543_680),
        "c": (662_420, 3_542_330),
        "d": (663_000, 3_543_000),
    }
    outlines = [box(x, y, x + 320, y + 320) for x, y in corners.values()]
    rows = gpd.GeoDataFrame(
        {
            "sample_id": list(corners),
            "split": ["test", "test", "test", "train"],
            "epsg": 32650,
            "minx": [x for x, _ in corners.values()],
            "miny": [y for _, y in corners.values()],
        },
        geometry=outlines,
        crs="EPSG:32650",
    )
    rows.to_crs(4326).to_parquet(tmp_path / "index.parquet")
    checkpoints = dict(weights) if method == "superres" else {"segmentation": weights["segmentation"]}
    facts = predict_chips.predict_chips(
        index=tmp_path / "index.parquet",
        composites=list(made.values()),
        predictions=tmp_path / "chips",
        method=method,
        batch=3,
        threads=1,
        **checkpoints,
        **LATTICE,
    )
    assert sorted(path.stem for path in (tmp_path / "chips").iterdir()) == ["a", "b", "c"]
    assert facts["chips"] == 3
    for name in "abc":
        x, y = corners[name]
        array, transform, crs = raster_io.read(tmp_path / "chips" / f"{name}.tif")
        assert (transform, crs) == (Affine(1, 0, x, 0, -1, y + 320), "EPSG:32650")
        top, left = 3_544_000 - y - 320, x - 662_000
        assert np.array_equal(array[0], full[top : top + 320, left : left + 320])

    extent = predict.grid.parse_tile(tile, 2)
    cog.write(
        tmp_path / f"{tile}.tif",
        full[None],
        crs=extent.crs,
        transform=extent.transform(1),
        nodata=255,
        descriptions=["isa"],
    )
    cut = {"index": tmp_path / "index.parquet", "isa": [tmp_path / f"{tile}.tif"], "predictions": tmp_path / "cut"}
    assert map_chips.map_chips(**cut, method=method) == {"chips": 3}
    for name in "abc":
        assert (tmp_path / f"cut/{name}.tif").read_bytes() == (tmp_path / f"chips/{name}.tif").read_bytes()


def test_cached_windows_are_bounded() -> None:
    cache = predict_chips.RecentResults(2)
    for row in range(5):
        cache[Window(row, 0, (0, 0, 1, 1))] = None
    assert [window.row for window in cache] == [3, 4]


def test_truncated_composite_raises(tmp_path: Path, weights: dict[str, Path]) -> None:
    made = composites(tmp_path, 1)
    tile = "50N_E0661_N3541"
    bad = made["50N_E0662_N3541"]
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    with pytest.raises(DataError, match=bad.name):
        predict_tile(tmp_path / "isa", with_neighbours(made, tile, 1), tile, 1, weights)
    assert not list((tmp_path / "isa").glob("*")), "no partial file may remain"


def test_composite_without_a_band_raises(tmp_path: Path, weights: dict[str, Path]) -> None:
    tile = parse_tile("50N_E0660_N3540", 1)
    path = tmp_path / f"{tile.id}.tif"
    image = np.ones((3, 100, 100), np.uint16)
    cog.write(path, image, crs=tile.crs, transform=tile.transform(10), nodata=0, descriptions=("B04", "B03", "clear"))
    with pytest.raises(DataError, match="B02"):
        predict_tile(tmp_path, [path], tile.id, 1, weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_m": 1120}, "1120"),
        ({"method": "nearest"}, "nearest"),
        ({"tile": "50N_E0700_N3540"}, "50N_E0700_N3540"),
        ({"superres": None}, "superres"),
    ],
)
def test_invalid_settings_raise(tmp_path: Path, weights: dict[str, Path], options: dict, message: str) -> None:
    made = composites(tmp_path, 1)
    with pytest.raises(DataError, match=message):
        predict_tile(
            tmp_path / "isa", [made["50N_E0660_N3540"]], options.pop("tile", "50N_E0660_N3540"), 1, weights, **options
        )


def test_map_is_a_cog_on_the_tile_grid(tmp_path: Path, weights: dict[str, Path]) -> None:
    made = composites(tmp_path, 1)
    tile = parse_tile("50N_E0663_N3540", 1)
    predict_tile(tmp_path / "isa", [made[tile.id]], tile.id, 1, weights)
    with rasterio.open(tmp_path / "isa" / f"{tile.id}.tif") as made_map:
        assert made_map.profile["dtype"] == "uint8" and made_map.nodata == 255
        assert (made_map.shape, made_map.transform) == (tile.shape(1), tile.transform(1))
        assert made_map.descriptions == ("isa",)
