import threading
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from jointseg.accuracy import block_counts
from jointseg.area import grid
from jointseg.raster import cog
from jointseg.runtime.errors import DataError

AT = Affine(1, 0, 660_000, 0, -1, 3_544_000)


def write(path: Path, values: np.ndarray, transform: Affine = AT) -> Path:
    cog.write(path, values[None], crs="EPSG:32650", transform=transform, nodata=255)
    return path


def classes(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 1, 255], np.uint8), shape, p=[0.7, 0.25, 0.05])


@pytest.mark.parametrize("size", [0, 1, 1000, block_counts.CHUNK_PX, 3 * block_counts.CHUNK_PX + 7])
def test_class_pairs_agree_with_direct_counts(size: int) -> None:
    first, second = classes(1, (1, size)).ravel(), classes(2, (1, size)).ravel()
    table = [[np.count_nonzero((first == a) & (second == b)) for b in (0, 1, 255)] for a in (0, 1, 255)]
    assert block_counts.class_pair_counts(first, second).tolist() == table


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_cover_the_grid_once(tmp_path: Path, threads: int) -> None:
    first, second = classes(3, (2600, 5130)), classes(4, (2600, 5130))
    paths = [write(tmp_path / "a.tif", first), write(tmp_path / "b.tif", second)]
    made = block_counts.confusion(*paths, threads=threads)
    assert made.tolist() == block_counts.class_pair_counts(first.ravel(), second.ravel()).tolist()
    assert made.sum() == first.size
    used = set()

    def locate(block: block_counts.Block) -> tuple[int, int, float]:
        used.add(threading.get_ident())
        assert np.array_equal(block.values[1], second[block.row : block.row + 2560, block.col : block.col + 2560])
        return block.row, block.col, block.pixel_km2

    located = list(block_counts.map_blocks(paths, locate, threads, "test"))
    assert [block[:2] for block in located] == [(row, col) for row in (0, 2560) for col in (0, 2560, 5120)]
    assert len(used) <= threads
    x, y = AT @ (1280, 1280)
    assert located[0][2] == pytest.approx(1e-6 / float(grid.area_scale(32650, x, y)))


def test_different_grids_and_invalid_classes_raise(tmp_path: Path) -> None:
    a = write(tmp_path / "a.tif", classes(1, (30, 30)))
    moved = write(tmp_path / "b.tif", classes(1, (30, 30)), AT @ Affine.translation(1, 0))
    with pytest.raises(DataError, match=r"a.tif and .*b.tif have different grids"):
        block_counts.confusion(a, moved, threads=1)
    odd = classes(1, (30, 30))
    odd[20, 5] = 7
    with pytest.raises(DataError, match=r"c.tif, block at row 0, column 0 contains the value 7"):
        block_counts.confusion(a, write(tmp_path / "c.tif", odd), threads=1)
