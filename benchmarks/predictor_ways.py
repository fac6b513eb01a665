"""Ways to map a scene with two networks, for `predictors.py`."""

import dataclasses
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from predictor_networks import SCALE, Chain, Image, IsaByBrightness, NearestUpsampling, published
from rasterio.windows import Window

from jointseg.area import grid
from jointseg.inference import benchmark
from jointseg.inference import predict as ours
from jointseg.inference.composite_reader import CompositeReader
from jointseg.inference.predictor import REFLECTANCE_PER_DN, Predictor
from jointseg.models.prog_esrgan import segmenter_input
from jointseg.raster import io as raster_io
from jointseg.raster.bands import RGB

TILE_PX, OVERLAP_PX = 48, 4  # of the plain sliding window, in 10 m pixels: those of the engine's windows
CHUNK_PX, CHUNK_OVERLAP_PX, OPENSR_OVERLAP_PX = 128, 32, 8  # defaults of the public projects

Images = Callable[[int, int], np.ndarray]


class Task(NamedTuple):
    """Work of one process."""

    work: benchmark.BenchmarkJob  # tile and networks
    out: Path  # folder for its files
    interpolate: bool  # replace the networks by interpolation, to measure memory


def _measure(task: Task, run: Callable[[Predictor], Any]) -> tuple[dict[str, float], Any]:
    """Return seconds and megabytes of `run`, and its result."""
    torch.set_num_threads(task.work.threads)
    load = Predictor.load

    def load_replaced(*arguments: Any) -> Predictor:
        predictor = load(*arguments)
        if task.interpolate:
            predictor.generator, predictor.segmenter, predictor.channels = (
                NearestUpsampling(),
                IsaByBrightness(),
                len(RGB),
            )
        return predictor

    Predictor.load = load_replaced  # type: ignore[method-assign, assignment]
    predictor = Predictor.load("superres", task.work.segmentation, task.work.superres)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    result = run(predictor)
    seconds = time.perf_counter() - started
    return {"s": seconds, "mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}, result


def _engine(task: Task, precision: str) -> dict[str, float]:
    """The engine of this package; the seams are measured in a second pass that also writes the probability."""
    work = dataclasses.replace(task.work, precision=precision)  # type: ignore[arg-type]
    metrics, _ = _measure(task, lambda _: work.run(task.out / "isa.tif"))
    if task.interpolate:
        return metrics
    arguments = {name: getattr(work, name) for name in work.__annotations__}
    ours.predict(**arguments, method="superres", isa=task.out / "isa.tif", probability=task.out / "p.tif")
    stored = raster_io.read(task.out / "p.tif")[0][0]
    minx, _, _, maxy = grid.parse_tile(work.tile, work.tile_km).bounds
    edges = [
        (axis, [index for index in range(1, stored.shape[0]) if _is_window_edge(first + sign * index, work)])
        for axis, first, sign in ((0, maxy, -1), (1, minx, 1))
    ]
    return metrics | {"seams": seams(np.where(stored == 255, np.nan, stored / 250), dict(edges))}


def _is_window_edge(metres: int, work: benchmark.BenchmarkJob) -> bool:
    """Return whether a window starts or ends at this coordinate."""
    return metres % work.stride_m in (0, work.window_m % work.stride_m)


def sliding_window(task: Task, step: int) -> dict[str, float]:
    """Write super-resolved tiles, read and segment them, and average in float arrays. `step` is in 10 m pixels."""

    def run(predictor: Predictor) -> np.ndarray:
        dn, valid = _read_composite(task, predictor)
        corners = _corners(dn.shape[1], step)
        for row, col in corners:
            low = np.s_[row : row + TILE_PX, col : col + TILE_PX]
            _write(task.out / f"{row}_{col}.tif", predictor.reflectance(dn[:, *low], valid[low]).numpy())

        def image(row: int, col: int) -> np.ndarray:
            with rasterio.open(task.out / f"{row}_{col}.tif") as file:
                return file.read()

        return _segment(task, predictor, dn, image, step)

    metrics, probability = _measure(task, run)
    return metrics | {"seams": _seams_of_tiles(probability, step)}


def _read_composite(task: Task, predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    tile = grid.parse_tile(task.work.tile, task.work.tile_km)
    return CompositeReader(task.work.composites[:1], predictor.bands).read(tile.bounds)


def _segment(task: Task, predictor: Predictor, dn: np.ndarray, image: Images, step: int) -> np.ndarray:
    """Segment the 1 m image by tiles, average overlaps, write the map, and return the probability."""
    forward = predictor.segmenter if task.interpolate else published(predictor.segmenter)  # type: ignore[arg-type]
    side = dn.shape[1] * SCALE
    total, weight = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    for row, col in _corners(dn.shape[1], step):
        low = dn[:, row : row + TILE_PX, col : col + TILE_PX].astype(np.float32) * REFLECTANCE_PER_DN
        x = ((torch.from_numpy(low) - predictor.mean) / predictor.std)[None]
        rgb = (torch.from_numpy(image(row, col)) - predictor.mean[: len(RGB)]) / predictor.std[: len(RGB)]
        with torch.inference_mode():
            tile = forward(segmenter_input(rgb[None], x, predictor.channels))[0, 0].numpy()  # type: ignore[misc]
        rows, cols = (slice(n * SCALE, (n + TILE_PX) * SCALE) for n in (row, col))
        total[rows, cols] += tile
        weight[rows, cols] += 1
    probability = total / weight
    _write(task.out / "isa.tif", (probability >= predictor.threshold).astype(np.uint8)[None])
    return probability


def _corners(side: int, step: int) -> list[tuple[int, int]]:
    origins = starts(side, TILE_PX, step)
    return [(row, col) for row in origins for col in origins]


def starts(side: int, window: int, step: int) -> list[int]:
    """Return the first pixels of windows that cover a side; the last window ends at the edge."""
    return sorted({min(n, side - window) for n in range(0, side, step)})


def sen2sr(task: Task, chain: bool) -> dict[str, float]:
    """Run SEN2SR's predict_large for the image, or with both networks as one module."""
    from sen2sr.utils import predict_large

    def run(predictor: Predictor) -> np.ndarray:
        dn, _ = _read_composite(task, predictor)
        x = torch.from_numpy(dn.astype(np.float32)) * REFLECTANCE_PER_DN
        result = predict_large(x, (Chain if chain else Image)(predictor), overlap=CHUNK_OVERLAP_PX).numpy()
        if chain:
            _write(task.out / "isa.tif", (result >= predictor.threshold).astype(np.uint8))
            return result[0]
        _write(task.out / "image.tif", result)
        return _segment(task, predictor, dn, _reader(task.out / "image.tif", 1), TILE_PX - OVERLAP_PX)

    metrics, probability = _measure(task, run)
    origins = starts(probability.shape[0] // SCALE, CHUNK_PX, CHUNK_PX - CHUNK_OVERLAP_PX)
    lines = [(n + CHUNK_OVERLAP_PX // 2) * SCALE for n in origins if n]
    return metrics | {"seams": seams(probability, {0: lines, 1: lines}) if chain else _seams_of_tiles(probability)}


def opensr(task: Task, chain: bool) -> dict[str, float]:
    """Run opensr-utils' large_file_processing, which writes reflectance, or probability, x 10000 as uint16."""
    from opensr_utils import large_file_processing

    source = task.out / "in.tif"
    with rasterio.open(task.work.composites[0]) as file:
        profile = {**file.profile, "driver": "GTiff", "count": file.count - 1, "nodata": None}
        array = file.read(list(range(1, file.count)))
    with rasterio.open(source, "w", **profile) as to:
        to.write(array)

    def run(predictor: Predictor) -> np.ndarray:
        output = task.out / "out.tif"
        job = large_file_processing(
            str(source), model=(Chain if chain else Image)(predictor), window_size=(CHUNK_PX, CHUNK_PX), factor=SCALE,
            overlap=OPENSR_OVERLAP_PX, device="cpu", batch_size=1, output_path=str(output), output_units="normalized",
        )  # fmt: skip
        job.run()
        if not chain:
            dn, _ = _read_composite(task, predictor)
            return _segment(task, predictor, dn, _reader(output, REFLECTANCE_PER_DN), TILE_PX - OVERLAP_PX)
        with rasterio.open(output) as file:
            probability = file.read(1) * np.float32(REFLECTANCE_PER_DN)
        _write(task.out / "isa.tif", (probability >= predictor.threshold).astype(np.uint8)[None])
        return probability

    metrics, probability = _measure(task, run)
    origins = starts(probability.shape[0] // SCALE, CHUNK_PX, CHUNK_PX - OPENSR_OVERLAP_PX)
    lines = sorted({n * SCALE for n in origins if n} | {(n + CHUNK_PX) * SCALE for n in origins[:-1]})
    return metrics | {"seams": seams(probability, {0: lines, 1: lines}) if chain else _seams_of_tiles(probability)}


def _reader(path: Path, scale: float) -> Images:
    """Return the reader of tiles of a raster of the scene."""
    side = TILE_PX * SCALE

    def image(row: int, col: int) -> np.ndarray:
        with rasterio.open(path) as file:
            return file.read(window=Window(col * SCALE, row * SCALE, side, side)).astype(np.float32) * np.float32(scale)

    return image


def _seams_of_tiles(probability: np.ndarray, step: int = TILE_PX - OVERLAP_PX) -> float:
    origins = [n * SCALE for n in starts(len(probability) // SCALE, TILE_PX, step)]
    lines = sorted({*origins, *(n + TILE_PX * SCALE for n in origins)} - {0, len(probability)})
    return seams(probability, {0: lines, 1: lines})


def seams(probability: np.ndarray, lines: dict[int, list[int]]) -> float:
    """Return the mean absolute difference of neighbouring probabilities across the lines, divided by that elsewhere.

    Args:
        probability: [h, w], NaN at nodata.
        lines: by axis, the pixels before which a line is.
    """
    across, elsewhere = [], []
    for axis, indices in lines.items():
        steps = np.abs(np.diff(probability, axis=axis))
        marked = np.zeros(steps.shape[axis], bool)
        marked[[index - 1 for index in indices if 0 < index <= len(marked)]] = True
        across.append(np.compress(marked, steps, axis=axis).ravel())
        elsewhere.append(np.compress(~marked, steps, axis=axis).ravel())
    return float(np.nanmean(np.concatenate(across)) / np.nanmean(np.concatenate(elsewhere)))


def _write(path: Path, image: np.ndarray) -> None:
    count, height, width = image.shape
    with rasterio.open(path, "w", driver="GTiff", width=width, height=height, count=count, dtype=image.dtype, tiled=True, compress="deflate", BIGTIFF="IF_SAFER") as file:  # fmt: skip
        file.write(image)


ENGINE = "`jointseg` engine"
PUBLIC = {
    "SEN2SR `predict_large`, then tiles segmented": lambda task: sen2sr(task, chain=False),
    "opensr-utils, then tiles segmented": lambda task: opensr(task, chain=False),
    "SEN2SR `predict_large`, both networks as one": lambda task: sen2sr(task, chain=True),
    "opensr-utils, both networks as one": lambda task: opensr(task, chain=True),
}
WAYS: dict[str, Callable[[Task], dict[str, float]]] = {
    ENGINE: lambda task: _engine(task, "fp32"),
    "`jointseg` engine, bf16": lambda task: _engine(task, "bf16"),
    "sliding window, the engine's overlap": lambda task: sliding_window(task, TILE_PX - OVERLAP_PX),
    "sliding window, overlap of half a window": lambda task: sliding_window(task, TILE_PX // 2),
    **PUBLIC,
}
