"""The engine beside other ways to map a large scene with the same networks: time, memory, seams.

    python benchmarks/predictors.py --config examples/rehearsal/config.yaml > benchmarks/predictors.md
    python benchmarks/predictors.py --packages FOLDER ...      # with the two public projects, installed there

Ways, each in a process of its own, in turn, on one tile of a run whose composites and networks are there:

- the engine, which also compresses the map and writes it as COG with overviews;
- the straightforward way: super-resolved tiles written and read again, segmented with overlap, averaged in float arrays;
- SEN2SR's `predict_large` (sen2sr 0.8.5) and opensr-utils' `large_file_processing` (2.1.0), both given the two networks as
  one module from 10 m to the probability at 1 m, with their own windows. They are installed without their dependencies:

      pip install --no-deps --target FOLDER sen2sr==0.8.5 opensr-utils==2.1.0 pytorch-lightning lightning-utilities torchmetrics einops tqdm \
          omegaconf antlr4-python3-runtime==4.9.3 scikit-image

Seconds are of the work alone, without imports. Memory is the peak of the process, less what it holds once the networks are
loaded. Seams: how much larger the steps of the probability are between neighbouring pixels across the edges of the windows than
elsewhere (1: edges cannot be told).
"""

import argparse
import json
import os
import pickle
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch import Tensor, nn

from jointseg import grid, raster, settings
from jointseg.inference import bench
from jointseg.inference.predictor import REFLECTANCE_PER_DN, Predictor
from jointseg.inference.source import Composites
from jointseg.models.prog_esrgan import beside

SCALE = 10
SR_PX, SR_OVERLAP = 48, 4  # of the straightforward way: tiles of 10 m pixels, as the engine's windows
CHUNK_PX, CHUNK_OVERLAP = 128, 32  # predict_large's own
OPENSR_OVERLAP = 16


class Chain(nn.Module):
    """Both networks as one module: reflectance [n, bands, h, w] -> probability [n, 1, 10h, 10w]."""

    factor = SCALE

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.generator, self.segmenter = predictor.generator, predictor.segmenter
        self.mean, self.std = (nn.Parameter(value, requires_grad=False) for value in (predictor.mean, predictor.std))

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return segmented(self.generator(x)[1], x, self.segmenter)  # type: ignore[misc]


def segmented(image: Tensor, x: Tensor, segmenter: nn.Module) -> Tensor:
    """Probability [n, 1, 10h, 10w] of a normalised image and the bands [n, bands, h, w] that it was made from."""
    seen = beside(image, x, segmenter.channels)  # type: ignore[arg-type]
    return segmenter(seen.contiguous(memory_format=torch.channels_last))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("examples/rehearsal/config.yaml"))
    parser.add_argument("--tile", help="default: the first with a composite")
    parser.add_argument("--packages", type=Path, help="folder in which the public projects are installed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(WAYS[given.work[0]](*pickle.loads(Path(given.work[1]).read_bytes()))))
        return
    config = settings.read(given.config)
    work = bench.job(config, bench.checkpoints_of(config), given.tile, given.threads, "fp32")
    ways = [way for way in WAYS if given.packages or way in (ENGINE, PLAIN)]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="jointseg-predictors-") as name:
        for number in range(given.rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                print(f"round {number + 1}: {way}", file=sys.stderr)
                found[way].append(_apart(way, work, Path(name), given.packages))
    _tell(found, work, given)


def _apart(way: str, work: bench.Job, folder: Path, packages: Path | None) -> dict[str, float]:
    """One way in a process of its own: seconds, megabytes, seams."""
    out = Path(tempfile.mkdtemp(dir=folder))
    asked = out / "work.pickle"
    asked.write_bytes(pickle.dumps((work, out)))
    environment = dict(os.environ)
    if packages and way not in (ENGINE, PLAIN):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(packages)]))
    command = [sys.executable, __file__, "--work", way, str(asked)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _measured(work: bench.Job, run: Callable[[Predictor], Any]) -> tuple[dict[str, float], Any]:
    torch.set_num_threads(work.threads)
    predictor = Predictor.load("superres", work.segmentation, work.superres)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    made = run(predictor)
    seconds = time.perf_counter() - started
    return {"s": seconds, "mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}, made


def engine(work: bench.Job, out: Path) -> dict[str, float]:
    """Ours; the seams are those of a second pass that also keeps the probability."""
    from jointseg.inference import engine as ours

    told, _ = _measured(work, lambda predictor: work.run(out / "isa.tif"))
    arguments = {name: getattr(work, name) for name in work.__annotations__}
    ours.isa(**arguments, method="superres", isa=out / "isa.tif", probability=out / "p.tif")
    stored = raster.read(out / "p.tif")[0][0]
    minx, _, _, maxy = grid.parse_tile(work.tile, work.tile_km).bounds
    edges = [
        (side, [place for place in range(1, stored.shape[0]) if ends(place, first, sign, work)])
        for side, first, sign in ((0, maxy, -1), (1, minx, 1))
    ]
    return told | {"seams": seams(np.where(stored == 255, np.nan, stored / 250), dict(edges))}


def ends(place: int, first: int, sign: int, work: bench.Job) -> bool:
    """Whether a window begins or ends between the pixels place - 1 and place."""
    metres = first + sign * place
    return metres % work.stride_m in (0, work.window_m % work.stride_m)


def plain(work: bench.Job, out: Path) -> dict[str, float]:
    """Write super-resolved tiles, read them, segment with overlap, average in float arrays."""

    def run(predictor: Predictor) -> np.ndarray:
        place = grid.parse_tile(work.tile, work.tile_km)
        source = Composites(work.composites[:1], predictor.bands)
        dn, known = source.read(place.bounds)
        side = dn.shape[1]
        step = SR_PX - SR_OVERLAP
        corners = [(r, c) for r in starts(side, SR_PX, step) for c in starts(side, SR_PX, step)]
        for row, col in corners:
            image = predictor.reflectance(
                dn[:, row : row + SR_PX, col : col + SR_PX], known[row : row + SR_PX, col : col + SR_PX]
            )
            with rasterio.open(out / f"{row}_{col}.tif", "w", driver="GTiff", width=SR_PX * SCALE, height=SR_PX * SCALE,
                               count=3, dtype="float32", compress="deflate") as file:  # fmt: skip
                file.write(image.numpy())
        total, weight = (
            np.zeros((side * SCALE, side * SCALE), np.float32),
            np.zeros((side * SCALE, side * SCALE), np.float32),
        )
        for row, col in corners:
            with rasterio.open(out / f"{row}_{col}.tif") as file:
                image = torch.from_numpy(file.read())
            low = dn[:, row : row + SR_PX, col : col + SR_PX].astype(np.float32) * REFLECTANCE_PER_DN
            with torch.inference_mode():
                x = ((torch.from_numpy(low) - predictor.mean) / predictor.std)[None]
                seen = ((image - predictor.mean[:3]) / predictor.std[:3])[None]
                found = segmented(seen, x, predictor.segmenter)[0, 0].numpy()  # type: ignore[arg-type]
            rows, cols = (slice(n * SCALE, (n + SR_PX) * SCALE) for n in (row, col))
            total[rows, cols] += found
            weight[rows, cols] += 1
        probability = total / weight
        _write(out / "isa.tif", (probability >= predictor.threshold).astype(np.uint8))
        return probability

    told, probability = _measured(work, run)
    step = SR_PX - SR_OVERLAP
    at = [n * SCALE for n in starts(len(probability) // SCALE, SR_PX, step)]
    lines = sorted({*at, *(n + SR_PX * SCALE for n in at)} - {0, len(probability)})
    return told | {"seams": seams(probability, {0: lines, 1: lines})}


def starts(side: int, window: int, step: int) -> list[int]:
    """Where windows begin that cover a side, the last one moved back inside."""
    return sorted({min(n, side - window) for n in range(0, side, step)})


def sen2sr(work: bench.Job, out: Path) -> dict[str, float]:
    """SEN2SR's predict_large."""
    from sen2sr.utils import predict_large

    def run(predictor: Predictor) -> np.ndarray:
        place = grid.parse_tile(work.tile, work.tile_km)
        dn, _ = Composites(work.composites[:1], predictor.bands).read(place.bounds)
        x = torch.from_numpy(dn.astype(np.float32)) * REFLECTANCE_PER_DN
        made = predict_large(x, Chain(predictor), overlap=CHUNK_OVERLAP)[0].numpy()
        _write(out / "isa.tif", (made >= predictor.threshold).astype(np.uint8))
        return made

    told, probability = _measured(work, run)
    side = probability.shape[0] // SCALE
    at = starts(side, CHUNK_PX, CHUNK_PX - CHUNK_OVERLAP)
    lines = [(n + CHUNK_OVERLAP // 2) * SCALE for n in at if n]
    return told | {"seams": seams(probability, {0: lines, 1: lines})}


def opensr(work: bench.Job, out: Path) -> dict[str, float]:
    """opensr-utils' large_file_processing; it writes the probability x 10000 as uint16."""
    from opensr_utils import large_file_processing

    with rasterio.open(work.composites[0]) as file:
        profile = {**file.profile, "count": file.count - 1}
        array = file.read(list(range(1, file.count)))
    source = out / "in.tif"
    with rasterio.open(source, "w", **{**profile, "driver": "GTiff", "nodata": None}) as to:
        to.write(array)

    def run(predictor: Predictor) -> np.ndarray:
        job = large_file_processing(
            str(source), model=Chain(predictor), window_size=(CHUNK_PX, CHUNK_PX), factor=SCALE, overlap=OPENSR_OVERLAP,
            device="cpu", batch_size=1, output_path=str(out / "p.tif"), output_units="normalized",
        )  # fmt: skip
        job.run()
        with rasterio.open(out / "p.tif") as file:
            made = file.read(1, window=Window(0, 0, file.width, file.height)).astype(np.float32) * REFLECTANCE_PER_DN
        _write(out / "isa.tif", (made >= predictor.threshold).astype(np.uint8))
        return made

    told, probability = _measured(work, run)
    at = starts(probability.shape[0] // SCALE, CHUNK_PX, CHUNK_PX - OPENSR_OVERLAP)
    lines = sorted({n * SCALE for n in at if n} | {(n + CHUNK_PX) * SCALE for n in at[:-1]})
    return told | {"seams": seams(probability, {0: lines, 1: lines})}


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


def _write(path: Path, isa: np.ndarray) -> None:
    with rasterio.open(path, "w", driver="GTiff", width=isa.shape[1], height=isa.shape[0], count=1, dtype="uint8", compress="deflate") as file:  # fmt: skip
        file.write(isa, 1)


ENGINE, PLAIN = "`jointseg` engine", "tiles written, read, segmented, averaged"
WAYS: dict[str, Callable[[bench.Job, Path], dict[str, float]]] = {
    ENGINE: engine,
    PLAIN: plain,
    "SEN2SR `predict_large`": sen2sr,
    "opensr-utils `large_file_processing`": opensr,
}


def _tell(found: dict[str, list[dict[str, float]]], work: bench.Job, given: argparse.Namespace) -> None:
    print("# The engine beside other predictors\n")
    print(
        f"Made by `python benchmarks/predictors.py`; {datetime.now(UTC):%Y-%m-%d}; {bench.machine.processor()}, "
        f"{given.threads} threads, Python {platform.python_version()}, torch {torch.__version__}. Tile {work.tile}, "
        f"{work.tile_km} km, of `{given.config}`, the same networks in fp32 for all; medians of {given.rounds} rounds in which "
        "the ways took turns, ratios of each round's own with their range.\n"
    )
    print("| way | s | times as long as the engine | memory of the work, MB | seams |\n|---|---:|---:|---:|---:|")
    for way, each in found.items():
        ratios = [one["s"] / ours["s"] for one, ours in zip(each, found[ENGINE])]
        print(
            f"| {way} | {statistics.median(one['s'] for one in each):.1f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {statistics.median(one['mb'] for one in each):,.0f} "
            f"| {statistics.median(one['seams'] for one in each):.2f} |"
        )


if __name__ == "__main__":
    main()
