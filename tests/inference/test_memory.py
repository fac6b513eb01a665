"""The memory of inference does not grow with the tile."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from support.inference_scene import networks

from jointseg.area.grid import parse_tile

# The networks are replaced by upsampling, so that only the memory of the engine is measured.
CHILD = """
import resource, sys
from pathlib import Path
import torch
from jointseg.inference import predict
def predict_window(self, dn, valid, image=False):
    low = torch.from_numpy(dn[:1].astype("float32")) * 1e-4
    return low.repeat_interleave(10, 1).repeat_interleave(10, 2), None
predict.Predictor.predict_window = predict_window
composite, superres, segmentation, isa, km = sys.argv[1:]
path = Path(composite)
predict.predict(composites=[path], superres=Path(superres), segmentation=Path(segmentation), isa=Path(isa), year="2021",
           tile=path.stem, tile_km=int(km), method="superres", window_m=480, stride_m=440, batch=4, threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def composite(folder: Path, km: int) -> Path:
    """Write a composite strip by strip."""
    tile = parse_tile("50N_E0600_N3500", km)
    path = folder / str(km) / f"{tile.id}.tif"
    path.parent.mkdir()
    side = km * 100
    profile = {
        "driver": "GTiff",
        "width": side,
        "height": side,
        "count": 4,
        "dtype": "uint16",
        "nodata": 0,
        "tiled": True,
    }
    profile |= {"blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    rng = np.random.default_rng(km)
    with rasterio.open(
        path, "w", crs=tile.crs, transform=Affine(10, 0, 600_000, 0, -10, 3_500_000 + 1000 * km), **profile
    ) as to:
        to.descriptions = ("B04", "B03", "B02", "clear")
        for row in range(0, side, 512):
            rows = min(512, side - row)
            coarse = rng.integers(300, 6000, (4, -(-rows // 8), -(-side // 8))).astype(np.uint16)
            band = coarse.repeat(8, 1).repeat(8, 2)[:, :rows, :side]
            to.write(band, window=rasterio.windows.Window(0, row, side, rows))
    return path


def peak_mb(folder: Path, km: int) -> float:
    weights = networks(folder)
    isa = folder / f"isa-{km}.tif"
    arguments = [composite(folder, km), weights["superres"], weights["segmentation"], isa, km]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    with rasterio.open(isa) as file:
        assert file.shape == (km * 1000, km * 1000)
    return float(done.stdout)


@pytest.mark.slow
def test_fifty_kilometres_need_the_memory_of_five(tmp_path: Path) -> None:
    small, large = peak_mb(tmp_path, 5), peak_mb(tmp_path, 50)
    assert large < 1.1 * small, f"{small:.0f} MB and {large:.0f} MB"
