"""Reading, writing and mosaics of rasters; atomic writes."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.raster.mosaic import Mosaic
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write, remove_partial_files

CRS = "EPSG:32650"


def lattice(x: float = 0, y: float = 0, res: float = 10) -> Affine:
    return Affine(res, 0, x, 0, -res, y)


def test_written_raster_reads_back(tmp_path):
    array = np.arange(2 * 5 * 7, dtype=np.uint16).reshape(2, 5, 7)
    path = tmp_path / "a.tif"
    cog.write(path, array, crs=CRS, transform=lattice(100, 200), nodata=0, descriptions=("B04", "B03"), tags={"K": "v"})
    pixels, transform, crs = raster_io.read(path)
    assert (pixels == array).all() and crs == CRS and transform == lattice(100, 200)
    with rasterio.open(path) as source:
        assert source.descriptions == ("B04", "B03") and source.tags()["K"] == "v"
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_raster_written_by_windows_has_the_same_pixels_and_overviews(tmp_path):
    array = np.random.default_rng(1).integers(0, 3, (1, 700, 600), dtype=np.uint8)
    grid = {"crs": CRS, "transform": lattice(res=1), "nodata": 255, "overviews": "nearest"}
    cog.write(tmp_path / "array.tif", array, **grid)
    with cog.open_writer(tmp_path / "windows.tif", shape=(700, 600), count=1, dtype="uint8", **grid) as target:
        for row in range(0, 700, 90):
            target.write(array[:, row : row + 90], row)
    assert (raster_io.read(tmp_path / "windows.tif")[0] == array).all()
    with rasterio.open(tmp_path / "windows.tif") as source:
        assert source.overviews(1) == [2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["array.tif", "windows.tif"]


def test_failed_write_leaves_no_file(tmp_path):
    with (
        pytest.raises(RuntimeError),
        cog.open_writer(
            tmp_path / "a.tif", shape=(4, 4), count=1, dtype="uint8", crs=CRS, transform=lattice()
        ) as target,
    ):
        target.write(np.zeros((1, 2, 4), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_replaces_a_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    with atomic_write(folder) as part:
        part.mkdir()
        (part / "new").touch()
    assert [p.name for p in folder.iterdir()] == ["new"] and list(tmp_path.iterdir()) == [folder]


def test_partial_files_of_killed_jobs_are_removed(tmp_path):
    for name in (".part-77-a.tif", ".part-77-a.tif.strips.tif", ".part-9-old-a.tif"):
        (tmp_path / name).touch()
    others = {".part-77-b.tif", ".part-77-not-a.tif", "a.tif"}
    for name in others:
        (tmp_path / name).touch()
    remove_partial_files(tmp_path / "a.tif")
    assert {p.name for p in tmp_path.iterdir()} == others


def test_pixels_outside_the_raster_are_nodata(tmp_path):
    cog.write(tmp_path / "a.tif", np.ones((1, 2, 2), np.uint8), crs=CRS, transform=lattice(0, 20), nodata=255)
    array, transform, _ = raster_io.read(tmp_path / "a.tif", bounds=(-10, 0, 10, 20))
    assert array.tolist() == [[[255, 1], [255, 1]]] and transform.c == -10


def test_bounds_that_are_not_on_the_lattice_are_an_error():
    with pytest.raises(DataError, match="lattice"):
        raster_io.window_from_bounds(lattice(), (5, 0, 15, 10))


def test_mosaic_reads_adjacent_rasters_and_fills_gaps(tmp_path):
    for name, x, value in (("a", 0, 1), ("b", 20, 2)):
        array = np.full((1, 2, 2), value, np.uint16)
        cog.write(tmp_path / f"{name}.tif", array, crs=CRS, transform=lattice(x, 20), nodata=0, descriptions=("B04",))
    mosaic = Mosaic([tmp_path / "a.tif", tmp_path / "b.tif"])
    assert mosaic.read((10, 0, 50, 20)).tolist() == [[[1, 2, 2, 0], [1, 2, 2, 0]]]
    assert mosaic.bounds == (0, 0, 40, 20)


def test_mosaic_of_two_crs_is_an_error(tmp_path):
    cog.write(tmp_path / "a.tif", np.ones((1, 2, 2), np.uint8), crs=CRS, transform=lattice())
    cog.write(tmp_path / "b.tif", np.ones((1, 2, 2), np.uint8), crs="EPSG:32651", transform=lattice())
    with pytest.raises(DataError, match="32651"):
        Mosaic([tmp_path / "a.tif", tmp_path / "b.tif"])


def test_error_names_a_truncated_file(tmp_path):
    path = tmp_path / "half.tif"
    noise = np.random.default_rng(1).integers(0, 9999, (1, 600, 600), dtype=np.uint16)
    cog.write(path, noise, crs=CRS, transform=lattice())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"half\.tif"):
        raster_io.read(path)
