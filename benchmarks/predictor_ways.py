"""Ways to map a scene with two networks, of `predictors.py`."""

import dataclasses
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch import Tensor, nn
from torch.nn import functional as F

from jointseg.area import grid
from jointseg.inference import benchmark
from jointseg.inference import predict as ours
from jointseg.inference.composite_reader import CompositeReader
from jointseg.inference.predictor import REFLECTANCE_PER_DN, Predictor
from jointseg.models.mask2former import CLASSES
from jointseg.models.mask2former_parts import REPLACEMENTS
from jointseg.models.prog_esrgan import segmenter_input
from jointseg.raster import io as raster_io
from jointseg.raster.bands import RGB

SCALE = 10
TILE_PX, OVERLAP_PX = 48, 4  # of the straightforward way, 10 m pixels: as the engine's windows
CHUNK_PX, CHUNK_OVERLAP_PX, OPENSR_OVERLAP_PX = 128, 32, 8  # the public projects' own

Images = Callable[[int, int], np.ndarray]


class Task(NamedTuple):
    """What one process does.

    Attributes:
        work: tile and networks.
        out: folder for its files.
        repeats: whether networks that repeat pixels stand in for the real ones.
    """

    work: benchmark.BenchmarkJob
    out: Path
    repeats: bool


class Image(nn.Module):
    """Both stages as one module: reflectance [n, bands, h, w] -> reflectance [n, 3, 10h, 10w]."""

    factor = SCALE

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.generator = predictor.generator
        self.mean, self.std = (nn.Parameter(value, requires_grad=False) for value in (predictor.mean, predictor.std))

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.sharpened(self.normalised(x)) * self.std[: len(RGB)] + self.mean[: len(RGB)]

    def normalised(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def sharpened(self, x: Tensor) -> Tensor:
        return self.generator(x)[1]  # type: ignore[misc]


class Chain(Image):
    """Both networks as one module: reflectance [n, bands, h, w] -> probability [n, 1, 10h, 10w]."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor)
        self.segmenter = predictor.segmenter

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        x = self.normalised(x)
        seen = segmenter_input(self.sharpened(x), x, self.segmenter.channels)  # type: ignore[union-attr, arg-type]
        return self.segmenter(seen.contiguous(memory_format=torch.channels_last))  # type: ignore[misc]


class Repeat(nn.Module):
    """Stands in for a generator: a picture of the right size."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        image = F.interpolate(x[:, : len(RGB)], scale_factor=SCALE, mode="nearest")
        return image, image


class Brightness(nn.Module):
    """Stands in for a segmenter."""

    channels = len(RGB)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1].sigmoid()


def _measured(task: Task, run: Callable[[Predictor], Any]) -> tuple[dict[str, float], Any]:
    """Seconds and megabytes of `run`, and what it gives."""
    torch.set_num_threads(task.work.threads)
    load = Predictor.load

    def stood_in(*arguments: Any) -> Predictor:
        predictor = load(*arguments)
        if task.repeats:
            predictor.generator, predictor.segmenter, predictor.channels = Repeat(), Brightness(), len(RGB)
        return predictor

    Predictor.load = stood_in  # type: ignore[method-assign, assignment]
    predictor = Predictor.load("superres", task.work.segmentation, task.work.superres)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    made = run(predictor)
    seconds = time.perf_counter() - started
    return {"s": seconds, "mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}, made


def _engine(task: Task, precision: str) -> dict[str, float]:
    """Ours; the seams are those of a second pass that also keeps the probability."""
    work = dataclasses.replace(task.work, precision=precision)  # type: ignore[arg-type]
    told, _ = _measured(task, lambda _: work.run(task.out / "isa.tif"))
    if task.repeats:
        return told
    arguments = {name: getattr(work, name) for name in work.__annotations__}
    ours.predict(**arguments, method="superres", isa=task.out / "isa.tif", probability=task.out / "p.tif")
    stored = raster_io.read(task.out / "p.tif")[0][0]
    minx, _, _, maxy = grid.parse_tile(work.tile, work.tile_km).bounds
    edges = [
        (side, [place for place in range(1, stored.shape[0]) if _ends(first + sign * place, work)])
        for side, first, sign in ((0, maxy, -1), (1, minx, 1))
    ]
    return told | {"seams": seams(np.where(stored == 255, np.nan, stored / 250), dict(edges))}


def _ends(metres: int, work: benchmark.BenchmarkJob) -> bool:
    """Whether a window begins or ends there."""
    return metres % work.stride_m in (0, work.window_m % work.stride_m)


def plain(task: Task, step: int) -> dict[str, float]:
    """Writes super-resolved tiles, reads them, segments each, averages in float arrays. `step` in 10 m pixels."""

    def run(predictor: Predictor) -> np.ndarray:
        dn, known = _ground(task, predictor)
        corners = _corners(dn.shape[1], step)
        for row, col in corners:
            low = np.s_[row : row + TILE_PX, col : col + TILE_PX]
            _write(task.out / f"{row}_{col}.tif", predictor.reflectance(dn[:, *low], known[low]).numpy())

        def image(row: int, col: int) -> np.ndarray:
            with rasterio.open(task.out / f"{row}_{col}.tif") as file:
                return file.read()

        return _segment(task, predictor, dn, image, step)

    told, probability = _measured(task, run)
    return told | {"seams": _seams_of_tiles(probability, step)}


def _ground(task: Task, predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    place = grid.parse_tile(task.work.tile, task.work.tile_km)
    return CompositeReader(task.work.composites[:1], predictor.bands).read(place.bounds)


def _segment(task: Task, predictor: Predictor, dn: np.ndarray, image: Images, step: int) -> np.ndarray:
    """Segments the 1 m image tile by tile, averages what overlaps, writes the map; gives the probability."""
    forward = predictor.segmenter if task.repeats else published(predictor.segmenter)  # type: ignore[arg-type]
    side = dn.shape[1] * SCALE
    total, weight = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    for row, col in _corners(dn.shape[1], step):
        low = dn[:, row : row + TILE_PX, col : col + TILE_PX].astype(np.float32) * REFLECTANCE_PER_DN
        x = ((torch.from_numpy(low) - predictor.mean) / predictor.std)[None]
        seen = (torch.from_numpy(image(row, col)) - predictor.mean[: len(RGB)]) / predictor.std[: len(RGB)]
        with torch.inference_mode():
            found = forward(segmenter_input(seen[None], x, predictor.channels))[0, 0].numpy()  # type: ignore[misc]
        rows, cols = (slice(n * SCALE, (n + TILE_PX) * SCALE) for n in (row, col))
        total[rows, cols] += found
        weight[rows, cols] += 1
    probability = total / weight
    _write(task.out / "isa.tif", (probability >= predictor.threshold).astype(np.uint8)[None])
    return probability


def published(segmenter: nn.Module) -> Callable[[Tensor], Tensor]:
    """transformers' own forward, and its post-processing: masks of all queries at full size, summed over queries."""
    origin = {own: theirs for theirs, own in REPLACEMENTS.items()}
    for module in segmenter.modules():
        module.__class__ = origin.get(type(module), type(module))

    def probability(seen: Tensor) -> Tensor:
        padded = segmenter.pad(seen)  # type: ignore[operator]
        found = segmenter.network(pixel_values=padded)  # type: ignore[operator]
        masks = F.interpolate(found.masks_queries_logits, padded.shape[2:], mode="bilinear", align_corners=False)
        classes = found.class_queries_logits.softmax(2)[..., :CLASSES]
        shares = torch.einsum("nqc,nqhw->nchw", classes, masks.sigmoid())[..., : seen.shape[2], : seen.shape[3]]
        return shares[:, 1:] / shares.sum(1, keepdim=True)

    return probability


def _corners(side: int, step: int) -> list[tuple[int, int]]:
    places = starts(side, TILE_PX, step)
    return [(row, col) for row in places for col in places]


def starts(side: int, window: int, step: int) -> list[int]:
    """Where windows begin that cover a side, the last one moved back inside."""
    return sorted({min(n, side - window) for n in range(0, side, step)})


def sen2sr(task: Task, whole: bool) -> dict[str, float]:
    """SEN2SR's predict_large for the image, or with both networks as one module."""
    from sen2sr.utils import predict_large

    def run(predictor: Predictor) -> np.ndarray:
        dn, _ = _ground(task, predictor)
        x = torch.from_numpy(dn.astype(np.float32)) * REFLECTANCE_PER_DN
        made = predict_large(x, (Chain if whole else Image)(predictor), overlap=CHUNK_OVERLAP_PX).numpy()
        if whole:
            _write(task.out / "isa.tif", (made >= predictor.threshold).astype(np.uint8))
            return made[0]
        _write(task.out / "image.tif", made)
        return _segment(task, predictor, dn, _reader(task.out / "image.tif", 1), TILE_PX - OVERLAP_PX)

    told, probability = _measured(task, run)
    at = starts(probability.shape[0] // SCALE, CHUNK_PX, CHUNK_PX - CHUNK_OVERLAP_PX)
    lines = [(n + CHUNK_OVERLAP_PX // 2) * SCALE for n in at if n]
    return told | {"seams": seams(probability, {0: lines, 1: lines}) if whole else _seams_of_tiles(probability)}


def opensr(task: Task, whole: bool) -> dict[str, float]:
    """The same with opensr-utils' large_file_processing, which writes reflectance, or probability, x 10000 as uint16."""
    from opensr_utils import large_file_processing

    source = task.out / "in.tif"
    with rasterio.open(task.work.composites[0]) as file:
        profile = {**file.profile, "driver": "GTiff", "count": file.count - 1, "nodata": None}
        array = file.read(list(range(1, file.count)))
    with rasterio.open(source, "w", **profile) as to:
        to.write(array)

    def run(predictor: Predictor) -> np.ndarray:
        made = task.out / "made.tif"
        job = large_file_processing(
            str(source), model=(Chain if whole else Image)(predictor), window_size=(CHUNK_PX, CHUNK_PX), factor=SCALE,
            overlap=OPENSR_OVERLAP_PX, device="cpu", batch_size=1, output_path=str(made), output_units="normalized",
        )  # fmt: skip
        job.run()
        if not whole:
            dn, _ = _ground(task, predictor)
            return _segment(task, predictor, dn, _reader(made, REFLECTANCE_PER_DN), TILE_PX - OVERLAP_PX)
        with rasterio.open(made) as file:
            probability = file.read(1) * np.float32(REFLECTANCE_PER_DN)
        _write(task.out / "isa.tif", (probability >= predictor.threshold).astype(np.uint8)[None])
        return probability

    told, probability = _measured(task, run)
    at = starts(probability.shape[0] // SCALE, CHUNK_PX, CHUNK_PX - OPENSR_OVERLAP_PX)
    lines = sorted({n * SCALE for n in at if n} | {(n + CHUNK_PX) * SCALE for n in at[:-1]})
    return told | {"seams": seams(probability, {0: lines, 1: lines}) if whole else _seams_of_tiles(probability)}


def _reader(path: Path, scale: float) -> Images:
    """Tiles of a raster of the whole scene."""
    side = TILE_PX * SCALE

    def image(row: int, col: int) -> np.ndarray:
        with rasterio.open(path) as file:
            return file.read(window=Window(col * SCALE, row * SCALE, side, side)).astype(np.float32) * np.float32(scale)

    return image


def _seams_of_tiles(probability: np.ndarray, step: int = TILE_PX - OVERLAP_PX) -> float:
    at = [n * SCALE for n in starts(len(probability) // SCALE, TILE_PX, step)]
    lines = sorted({*at, *(n + TILE_PX * SCALE for n in at)} - {0, len(probability)})
    return seams(probability, {0: lines, 1: lines})


def seams(probability: np.ndarray, lines: dict[int, list[int]]) -> float:
    """Mean step of the probability across the lines over the mean step elsewhere. NaN is unknown."""
    across, elsewhere = [], []
    for axis, places in lines.items():
        steps = np.abs(np.diff(probability, axis=axis))
        marked = np.zeros(steps.shape[axis], bool)
        marked[[place - 1 for place in places if 0 < place <= len(marked)]] = True
        across.append(np.compress(marked, steps, axis=axis).ravel())
        elsewhere.append(np.compress(~marked, steps, axis=axis).ravel())
    return float(np.nanmean(np.concatenate(across)) / np.nanmean(np.concatenate(elsewhere)))


def _write(path: Path, image: np.ndarray) -> None:
    count, height, width = image.shape
    with rasterio.open(path, "w", driver="GTiff", width=width, height=height, count=count, dtype=image.dtype, tiled=True, compress="deflate", BIGTIFF="IF_SAFER") as file:  # fmt: skip
        file.write(image)


ENGINE = "`jointseg` engine"
PUBLIC = {
    "SEN2SR `predict_large`, then tiles segmented": lambda task: sen2sr(task, whole=False),
    "opensr-utils, then tiles segmented": lambda task: opensr(task, whole=False),
    "SEN2SR `predict_large`, both networks as one": lambda task: sen2sr(task, whole=True),
    "opensr-utils, both networks as one": lambda task: opensr(task, whole=True),
}
WAYS: dict[str, Callable[[Task], dict[str, float]]] = {
    ENGINE: lambda task: _engine(task, "fp32"),
    "the same, bf16": lambda task: _engine(task, "bf16"),
    "straightforward, the engine's overlap": lambda task: plain(task, TILE_PX - OVERLAP_PX),
    "straightforward, overlap of half a window": lambda task: plain(task, TILE_PX // 2),
    **PUBLIC,
}
