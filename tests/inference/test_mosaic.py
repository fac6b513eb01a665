"""The mosaic contains exactly the pixels of the city."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import Polygon, box

from jointseg.area.grid import own_zone_mask, parse_tile
from jointseg.inference.mosaic import mosaic
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError


def study_area(path: Path, cities: dict[str, Polygon], crs: str) -> Path:
    names = list(cities)
    frame = gpd.GeoDataFrame({"name": names, "reach": ["r"] * len(names)}, geometry=list(cities.values()), crs=crs)
    frame.to_crs(4326).to_file(path, layer="cities", driver="GPKG")
    return path


def isa_tile(folder: Path, tile_id: str, values: np.ndarray) -> Path:
    tile = parse_tile(tile_id, 1)
    path = folder / f"{tile_id}.tif"
    cog.write(path, values[None], crs=tile.crs, transform=tile.transform(1), nodata=255, descriptions=("isa",))
    return path


@pytest.fixture
def tiles(tmp_path: Path) -> tuple[list[Path], np.ndarray]:
    """Write two adjacent tiles of 0, 1 and 255; return their paths and pixels [1000, 2000]."""
    values = np.random.default_rng(2).choice(np.array([0, 1, 255], np.uint8), (1000, 2000))
    paths = [
        isa_tile(tmp_path, name, values[:, 1000 * i : 1000 * i + 1000])
        for i, name in enumerate(("50N_E0660_N3540", "50N_E0661_N3540"))
    ]
    return paths, values


def test_city_has_the_pixels_of_the_tiles_and_nodata_outside(
    tmp_path: Path, tiles: tuple[list[Path], np.ndarray]
) -> None:
    paths, values = tiles
    # Edges are a third of a metre off the pixel centres, and one corner is cut off.
    outline = Polygon(
        [
            (660_700.2, 3_540_200.2),
            (661_400.8, 3_540_200.2),
            (661_400.8, 3_540_600.8),
            (661_000.2, 3_540_600.8),
            (660_700.2, 3_540_300.9),
        ]
    )
    area = study_area(
        tmp_path / "area.gpkg", {"Xi'an": outline, "Else": box(660_000, 3_540_000, 660_100, 3_540_100)}, "EPSG:32650"
    )
    mosaic(isa=paths[::-1], study_area=area, mosaic=tmp_path / "out/city.tif", city="Xi'an", year="2021")
    array, transform, crs = raster_io.read(tmp_path / "out/city.tif")
    assert crs == "EPSG:32650" and (transform.a, transform.e) == (1, -1)
    left, top = int(transform.c) - 660_000, 3_541_000 - int(transform.f)
    rows, cols = array.shape[1:]
    x, y = np.meshgrid(660_000 + left + np.arange(cols) + 0.5, 3_541_000 - top - np.arange(rows) - 0.5)
    inside = (
        (x > 660_700.2)
        & (x < 661_400.8)
        & (y > 3_540_200.2)
        & (y < 3_540_600.8)
        & (y - 3_540_300.9 < (x - 660_700.2) * (299.9 / 300.0))
    )
    expected = np.where(inside, values[top : top + rows, left : left + cols], 255)
    # The oblique edge can pass within rounding of some centres; nothing else may differ.
    assert (array[0] != expected).sum() <= 3
    assert (expected != 255).sum() > 100_000
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["city.tif"]


def test_mosaic_is_deterministic_with_overviews(tmp_path: Path, tiles: tuple[list[Path], np.ndarray]) -> None:
    area = study_area(tmp_path / "area.gpkg", {"A": box(660_100, 3_540_100, 661_900, 3_540_900)}, "EPSG:32650")
    for name, order in (("a", 1), ("b", -1)):
        mosaic(isa=tiles[0][::order], study_area=area, mosaic=tmp_path / f"{name}.tif", city="A", year="2021")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    with rasterio.open(tmp_path / "a.tif") as made:
        assert made.overviews(1) and made.nodata == 255 and made.profile["blockxsize"] == 512


def test_two_zones_are_mosaicked_in_the_zone_of_most_tiles(tmp_path: Path) -> None:
    # Tiles cross 120 E, where zone 50 ends; each has only the pixels of its own zone.
    paths = []
    for name, value in (("50N_E0783_N3545", 1), ("50N_E0782_N3545", 1), ("51N_E0216_N3545", 0)):
        tile = parse_tile(name, 1)
        paths.append(
            isa_tile(
                tmp_path,
                name,
                np.where(own_zone_mask(tile.epsg, tile.transform(1), (1000, 1000)), value, 255).astype(np.uint8),
            )
        )
    area = study_area(tmp_path / "area.gpkg", {"A": box(782_600, 3_545_100, 783_700, 3_545_900)}, "EPSG:32650")
    facts = mosaic(isa=paths, study_area=area, mosaic=tmp_path / "a.tif", city="A", year="2021")
    assert facts["crs"] == "EPSG:32650"
    array, transform, _ = raster_io.read(tmp_path / "a.tif")
    own = own_zone_mask(32650, transform, array.shape[1:])
    # Resampling can differ only along the common edge of the zones.
    wrong = array[0] != np.where(own, 1, 0)
    inside = wrong[1:-1, 1:-1]  # the mosaic's border is outside the outline by rounding
    assert 0 < own.mean() < 1 and inside.sum() <= 2 * len(inside)


def test_unknown_city_raises(tmp_path: Path, tiles: tuple[list[Path], np.ndarray]) -> None:
    area = study_area(tmp_path / "area.gpkg", {"A": box(660_100, 3_540_100, 661_900, 3_540_900)}, "EPSG:32650")
    with pytest.raises(DataError, match="Nowhere"):
        mosaic(isa=tiles[0], study_area=area, mosaic=tmp_path / "a.tif", city="Nowhere", year="2021")
    with pytest.raises(DataError, match="no ISA tile"):
        mosaic(isa=[], study_area=area, mosaic=tmp_path / "a.tif", city="A", year="2021")


def test_truncated_tile_raises_and_leaves_no_file(tmp_path: Path, tiles: tuple[list[Path], np.ndarray]) -> None:
    paths, _ = tiles
    paths[1].write_bytes(paths[1].read_bytes()[:100])
    area = study_area(tmp_path / "area.gpkg", {"A": box(660_100, 3_540_100, 661_900, 3_540_900)}, "EPSG:32650")
    with pytest.raises(DataError, match="50N_E0661_N3540"):
        mosaic(isa=paths, study_area=area, mosaic=tmp_path / "out/a.tif", city="A", year="2021")
    assert not list((tmp_path / "out").iterdir())
