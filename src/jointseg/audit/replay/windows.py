"""Replay of random blocks of 1-m maps: recompute only the lattice windows that intersect a block."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jointseg.area import grid
from jointseg.audit.diff.causes import condition_changes
from jointseg.audit.lineage import Lineage
from jointseg.audit.record_differences import Change
from jointseg.inference import lattice
from jointseg.inference.blending import Bounds
from jointseg.inference.composite_reader import CompositeReader
from jointseg.inference.predict import AreaPredictor
from jointseg.inference.predictor import Predictor
from jointseg.inference.products import NODATA
from jointseg.provenance.code_digest import code_digest, code_parts, environment
from jointseg.provenance.digest import file_digest
from jointseg.provenance.job_record import recorded_code_parts
from jointseg.provenance.machine import processor
from jointseg.provenance.manifest import Manifest
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

RULE = "predict"
BLOCK_M = 250
DRAWS = 20  # attempts to draw a block with valid pixels


@dataclass(frozen=True)
class Block:
    """One recomputed block of a map."""

    job: str
    outcome: str  # identical, tolerated, explained, differs or impossible, as for a replayed job
    detail: str = ""
    bounds: Bounds | None = None  # (minx, miny, maxx, maxy) in metres of the UTM zone
    windows: int = 0
    # pixels, valid, differing: number of 1-m pixels of the block, of valid ones in the map, and of differing ones
    pixels: int = 0
    valid: int = 0
    differing: int = 0
    changes: list[Change] = field(default_factory=list)
    seconds: float = 0.0


def replay_windows(
    lineage: Lineage,
    count: int,
    seed: int,
    *,
    tolerance: float = 0.0,
    on_result: Callable[[Block], None] = lambda block: None,
) -> list[Block]:
    """Recompute random blocks of 250 m of random maps and compare their pixels.

    A lattice window is computed from the composites within it, so the pixels of a block depend only on the windows that
    intersect it (see `inference.predict.window_results`).

    A map may be drawn twice. `tolerance` is the fraction of a block's pixels that may differ under different conditions.
    Raises DataError if the run has no map.
    """
    jobs = [manifest for _, manifest in sorted(lineage.manifests.items()) if manifest.rule == RULE]
    if not jobs:
        raise DataError(f"{lineage.results} has no job of rule {RULE} and therefore no map")
    rng = random.Random(seed)
    maps = _MapReplayer(lineage)
    blocks = []
    for _ in range(count):
        blocks.append(maps.replay(rng.choice(jobs), rng, tolerance))
        on_result(blocks[-1])
    return blocks


class _MapReplayer:
    """Recomputes blocks of the maps of a run; checksums and networks are cached between blocks."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self._digest = lru_cache(maxsize=None)(file_digest)
        self._predictor = lru_cache(maxsize=2)(Predictor.load)

    def replay(self, job: Manifest, rng: random.Random, tolerance: float) -> Block:
        """Recompute one random block of one map."""
        try:
            return self._block(job, self._files(job), rng, tolerance)
        except DataError as error:
            return Block(job.name, "impossible", str(error))

    def _files(self, job: Manifest) -> dict[str, list[Path]]:
        """Inputs and the map by name, after a check of their checksums."""
        files: dict[str, list[Path]] = {}
        for file in (*job.inputs, *job.outputs):
            path = self.lineage.path(job, file.path)
            if not path.is_file():
                raise DataError(f"{file.path} does not exist")
            if self._digest(path) != file.sha256:
                raise DataError(f"{file.path} changed: sha256 {self._digest(path)[:12]}, recorded {file.sha256[:12]}")
            files.setdefault(file.name, []).append(path)
        return files

    def _block(self, job: Manifest, files: dict[str, list[Path]], rng: random.Random, tolerance: float) -> Block:
        params, started = job.record["params"], time.monotonic()
        tile = grid.parse_tile(job.record["wildcards"]["tile"], params["tile_km"])
        networks = files["segmentation"][0], files.get("superres", [None])[0]
        predictor = self._predictor(params["method"], *networks, params.get("precision", "fp32"))
        bounds, recorded = _draw_block(files["isa"][0], tile.bounds, rng)
        source = CompositeReader(files["composites"], predictor.bands, files.get("merged", []))
        with predictor.workers(params["threads"]) as pool:
            mapper = AreaPredictor(predictor, params["window_m"], params["stride_m"], params["batch"], pool)
            computed = mapper.predict_area(source, bounds, tile.epsg)[0]
        differing = int((computed != recorded).sum())
        changes = self._changes(job, predictor.device)
        outcome = "identical" if not differing else "differs" if not changes else "explained"
        if outcome == "explained" and differing <= tolerance * computed.size:
            outcome = "tolerated"
        return Block(
            job.name,
            outcome,
            f"{differing} of {computed.size} pixels differ" if differing else "",
            bounds,
            sum(1 for _ in lattice.windows(bounds, mapper.window_m, mapper.stride_m)),
            computed.size,
            int((recorded != NODATA).sum()),
            differing,
            changes,
            round(time.monotonic() - started, 3),
        )

    def _changes(self, job: Manifest, device: torch.device) -> list[Change]:
        """Differences between the current and the recorded conditions."""
        step = job.record["step"]
        current: dict[str, Any] = {
            "step": step,
            "code": code_digest(step),
            "environment": environment(step) if job.record.get("environment") else {},
            "device": {
                "processor": processor(),
                "cuda": torch.cuda.get_device_name() if device.type == "cuda" else None,
            },
        }
        parts = recorded_code_parts(self.lineage.results, job.record["code"]), code_parts(step)
        return [change for change in condition_changes(job.record, current, parts) if change.kind != "commit"]


def _draw_block(map_of: Path, bounds: Bounds, rng: random.Random) -> tuple[Bounds, np.ndarray]:
    """A random block on the 10 m lattice and the map's pixels in it, preferably with valid pixels."""
    minx, miny, maxx, maxy = bounds
    side = min(BLOCK_M, maxx - minx)
    for _ in range(DRAWS):
        west = minx + lattice.LR_M * rng.randint(0, (maxx - minx - side) // lattice.LR_M)
        south = miny + lattice.LR_M * rng.randint(0, (maxy - miny - side) // lattice.LR_M)
        block = (west, south, west + side, south + side)
        pixels = raster_io.read(map_of, block)[0][0]
        if (pixels != NODATA).any():
            break
    return block, pixels
