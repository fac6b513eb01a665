"""Synthetic composites and small networks for inference tests."""

from pathlib import Path

import numpy as np
import torch
from support import tiny_networks
from support.tiny_networks import GENERATOR

from jointseg.area.grid import neighbours, parse_tile
from jointseg.inference import predict
from jointseg.inference.predictor import Predictor
from jointseg.models import checkpoint
from jointseg.raster import cog
from jointseg.raster import io as raster_io

NORMALISATION = {"mean": [0.1, 0.1, 0.08], "std": [0.05, 0.04, 0.03]}
SEGMENTER = {**tiny_networks.SEGMENTER, "window": 5, "patch": 8}
LATTICE = {"window_m": 480, "stride_m": 420}


def save(path: Path, name: str, kwargs: dict, *, extra: dict | None = None, **normalisation: list[float]) -> Path:
    torch.manual_seed(3)
    checkpoint.save(
        path,
        checkpoint.build(name, **kwargs),
        architecture={"name": name, "kwargs": kwargs},
        normalisation={**NORMALISATION, **normalisation},
        extra=extra or {},
    )
    return path


def networks(folder: Path) -> dict[str, Path]:
    """Write checkpoints of small random networks; the threshold is their median score, so that both classes occur."""
    superres = save(folder / "superres.safetensors", "prog_esrgan", GENERATOR)
    segmentation = save(folder / "segmentation.safetensors", "mask2former", SEGMENTER)
    rng = np.random.default_rng(0)
    dn = rng.integers(300, 3000, (3, 48, 48)).astype(np.uint16)
    predictor = Predictor.load("superres", segmentation, superres)
    middle = float(predictor.probability(dn, np.ones((48, 48), bool)).median())
    segmentation = save(folder / "segmentation.safetensors", "mask2former", SEGMENTER, extra={"threshold": middle})
    return {"superres": superres, "segmentation": segmentation}


def scene() -> np.ndarray:
    """Return uint16 [4, 400, 400]: three bands and `clear`, north up; the same for every test."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(400, 2500, (3, 50, 50)).repeat(8, axis=1).repeat(8, axis=2)
    image = (coarse + rng.integers(0, 400, (3, 400, 400))).astype(np.uint16)
    clear = np.full((1, 400, 400), 5, np.uint16)
    clear[0, 120:150, 130:290] = 0
    clear[0, 200:280, 200:201] = 0
    image[:, clear[0] == 0] = 0
    return np.concatenate([image, clear])


def composites(folder: Path, size_km: int) -> dict[str, Path]:
    """Write the scene as tiles of 1, 2 or 4 km; return their paths by tile."""
    paths = {}
    image = scene()
    for east in range(0, 4, size_km):
        for north in range(0, 4, size_km):
            tile = parse_tile(f"50N_E{660 + east:04d}_N{3540 + north:04d}", size_km)
            bottom = 400 - 100 * north
            part = image[:, bottom - 100 * size_km : bottom, 100 * east : 100 * (east + size_km)]
            paths[tile.id] = folder / f"{tile.id}.tif"
            cog.write(
                paths[tile.id],
                part,
                crs=tile.crs,
                transform=tile.transform(10),
                nodata=0,
                descriptions=("B04", "B03", "B02", "clear"),
            )
    return paths


def with_neighbours(paths: dict[str, Path], tile: str, size_km: int) -> list[Path]:
    adjacent = [paths.get(each.id) for each in neighbours(parse_tile(tile, size_km))]
    return [paths[tile], *(path for path in adjacent if path)]


def predict_tile(
    folder: Path, paths: list[Path], tile: str, size_km: int, weights: dict[str, Path], **overrides: object
) -> np.ndarray:
    out = folder / f"{tile}.tif"
    arguments = {"batch": 2, "threads": 1, "method": "superres", **LATTICE, **weights, **overrides}
    if arguments["method"] == "bilinear":
        arguments.pop("superres")
    predict.predict(composites=paths, isa=out, year="2021", tile=tile, tile_km=size_km, **arguments)  # type: ignore[arg-type]
    return raster_io.read(out)[0][0]
