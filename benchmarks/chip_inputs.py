"""Synthetic inputs of the benchmark `chips.py`: a scene, a composite, samples, pairs and label polygons."""

import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine

from jointseg.config.dataset import Dataset
from jointseg.dataset.deliveries import deliveries

EPSG, WEST, NORTH, PIXEL_M = 32650, 660_000, 3_555_000, 0.75
CHIP_M = 640
BANDS = ["B04", "B03", "B02"]
SHIFT_M = (2.37, -1.81)
GAIN = (1.1e-4, 1.2e-4, 1.3e-4)
NAME = "JL1KF01B_PMSR4_20210623104620_200089965_101_0018_001_L3C_PSH"


def write_inputs(folder: Path, side: int, max_chips: int) -> int:
    """Write the inputs of both methods and return the number of chips.

    Args:
        side: of the scene, px.
    """
    rng = np.random.default_rng(0)
    _write_scene(folder, side, rng)
    corners = _corners(side * PIXEL_M, max_chips)
    _write_composite(folder, math.ceil(side * PIXEL_M / 10), rng)
    _write_tables(folder, corners, rng)
    entries = Dataset(jilin1="", osm="", footprints="", corrections="").providers
    deliveries(
        jilin1=folder / "jilin1",
        deliveries=folder / "deliveries.parquet",
        providers={name: entry.model_dump() for name, entry in entries.items()},
        metadata_elements={},
    )
    return len(corners)


def _write_scene(folder: Path, side: int, rng: np.random.Generator) -> None:
    path = folder / "jilin1" / NAME / f"{NAME}.tif"
    path.parent.mkdir(parents=True)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint16", "nodata": 0}
    profile |= {"compress": "deflate", "zlevel": 1, "predictor": 2, "interleave": "pixel"}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512}
    transform = Affine(PIXEL_M, 0, WEST, 0, -PIXEL_M, NORTH)
    tile = np.kron(rng.integers(400, 2400, (3, 64, 64)), np.ones((1, 32, 32))).astype(np.float32)
    with rasterio.open(path, "w", crs=f"EPSG:{EPSG}", transform=transform, **profile) as to:
        for top in range(0, side, 2048):
            for left in range(0, side, 2048):
                rows, cols = min(2048, side - top), min(2048, side - left)
                image = tile[:, :rows, :cols] * rng.uniform(0.7, 1.3) + rng.normal(0, 12, (3, rows, cols))
                values = np.clip(np.rint(image), 1, 4095).astype(np.uint16)
                to.write(values, window=((top, top + rows), (left, left + cols)))


def _corners(extent_m: float, max_chips: int) -> list[tuple[float, float]]:
    per_side = min(math.isqrt(max_chips - 1) + 1, int((extent_m - 200) // (CHIP_M + 40)))
    step = (extent_m - 100 - CHIP_M - 60) / max(per_side - 1, 1)
    return [
        (WEST + 60 + round(i * step / 10) * 10, NORTH - extent_m + 60 + round(j * step / 10) * 10)
        for i in range(per_side)
        for j in range(per_side)
    ][:max_chips]


def _write_composite(folder: Path, side: int, rng: np.random.Generator) -> None:
    values = rng.integers(500, 2500, (4, side, side)).astype(np.uint16)
    values[3] = 5
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 4, "dtype": "uint16"}
    profile |= {"crs": f"EPSG:{EPSG}", "transform": Affine(10, 0, WEST, 0, -10, NORTH)}
    with rasterio.open(folder / "composite.tif", "w", tiled=True, compress="deflate", **profile) as to:
        to.write(values)
        to.descriptions = (*BANDS, "clear")


def _write_tables(folder: Path, corners: list[tuple[float, float]], rng: np.random.Generator) -> None:
    ids = [f"up-{number:04d}" for number in range(1, len(corners) + 1)]
    samples = gpd.GeoDataFrame(
        {
            "sample_id": ids,
            "reach": "up",
            "stratum": "up",
            "rank": np.arange(1, len(ids) + 1),
            "replacement": False,
            "epsg": EPSG,
            "minx": [float(x) for x, _ in corners],
            "miny": [float(y) for _, y in corners],
        },
        geometry=gpd.points_from_xy(*np.array(corners).T + CHIP_M / 2, crs=EPSG).to_crs(4326),
    )
    samples.to_parquet(folder / "samples.parquet")
    pairs = pd.DataFrame({"sample_id": ids, "status": "ok", "scene_id": NAME, "path": f"{NAME}/{NAME}.tif"})
    pairs[["date", "rejected", "shift_x_m", "shift_y_m"]] = ["2021-06-23T02:46:20Z", "", *SHIFT_M]
    pairs[[f"gain_{band}" for band in BANDS]] = GAIN
    pairs.to_parquet(folder / "pairs.parquet")
    names, squares = [], []
    for sample_id, (x, y) in zip(ids, corners):
        for a, b in rng.uniform(0, CHIP_M - 40, (60, 2)):
            names.append(sample_id)
            squares.append(shapely.box(x + a, y + b, x + a + 12 + a % 20, y + b + 9 + b % 15))
    labels = gpd.GeoDataFrame({"sample_id": names, "action": "add", "kind": "building"}, geometry=squares, crs=EPSG)
    labels.to_crs(4326).to_parquet(folder / "labels.parquet")
