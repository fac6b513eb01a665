"""A disk that fills up while a raster is written: one clear sentence, nothing half-made, nothing lost."""

import subprocess

import numpy as np
import pytest
from affine import Affine

from jointseg.raster import cog
from jointseg.runtime.errors import DataError

WHERE = {"crs": "EPSG:32650", "transform": Affine(1, 0, 0, 0, -1, 0)}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def noise(side):
    return np.random.default_rng(1).integers(0, 255, (1, side, side), dtype=np.uint8)


@pytest.mark.parametrize("streamed", [False, True])
def test_full_disk_is_told_and_loses_nothing(small_disk, streamed):
    kept = small_disk / "kept.tif"
    cog.write(kept, noise(256), **WHERE)
    before = kept.read_bytes()
    with pytest.raises(DataError, match=r"no space left on the disk of .* to write big\.tif"):
        if streamed:
            with cog.Writer(small_disk / "big.tif", shape=(1200, 1200), count=1, dtype="uint8", **WHERE) as to:
                for row in range(0, 1200, 100):
                    to.write(noise(1200)[:, row : row + 100], row)
        else:
            cog.write(small_disk / "big.tif", noise(1200), **WHERE)
    assert [path.name for path in small_disk.iterdir()] == ["kept.tif"]
    assert kept.read_bytes() == before
