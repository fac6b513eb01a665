"""A full disk during a raster write: a clear error, no partial file, no lost file."""

import subprocess

import numpy as np
import pytest
from affine import Affine

from jointseg.raster import cog
from jointseg.runtime.errors import DataError

GRID = {"crs": "EPSG:32650", "transform": Affine(1, 0, 0, 0, -1, 0)}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def noise(side):
    return np.random.default_rng(1).integers(0, 255, (1, side, side), dtype=np.uint8)


@pytest.mark.parametrize("windowed", [False, True])
def test_full_disk_is_an_error_and_keeps_existing_files(small_disk, windowed):
    existing = small_disk / "kept.tif"
    cog.write(existing, noise(256), **GRID)
    before = existing.read_bytes()
    with pytest.raises(DataError, match=r"no space left on the disk of .* to write big\.tif"):
        if windowed:
            with cog.open_writer(small_disk / "big.tif", shape=(1200, 1200), count=1, dtype="uint8", **GRID) as target:
                for row in range(0, 1200, 100):
                    target.write(noise(1200)[:, row : row + 100], row)
        else:
            cog.write(small_disk / "big.tif", noise(1200), **GRID)
    assert [path.name for path in small_disk.iterdir()] == ["kept.tif"]
    assert existing.read_bytes() == before
