"""Random blocks of 1-m maps computed again: only the windows of the lattice that touch a block."""

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
DRAWS = 20  # to find a block with something known in it


@dataclass(frozen=True)
class Block:
    """One block of a map computed again.

    Attributes:
        job: name of the map's manifest.
        outcome: as of a replayed job: identical, tolerated, explained, differs, impossible.
        bounds: (minx, miny, maxx, maxy), metres of the map's zone.
        windows: lattice windows that were computed for it.
        pixels, known, differing: 1-m pixels of the block, those that the map knows, those that came out otherwise.
        changes: what is not as it was recorded.
    """

    job: str
    outcome: str
    detail: str = ""
    bounds: Bounds | None = None
    windows: int = 0
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
    """Computes random blocks of 250 m of random maps again and compares their pixels.

    A window of the lattice is computed alone from the ground under it, so the pixels of a block depend on nothing but
    the windows that touch it (see `inference.predict.window_results`).

    Args:
        count: number of blocks; a map may be drawn twice.
        tolerance: share of a block's pixels that may differ when the conditions do.
        told: called with each block.

    Raises DataError when the run has no map.
    """
    jobs = [manifest for _, manifest in sorted(lineage.manifests.items()) if manifest.rule == RULE]
    if not jobs:
        raise DataError(f"{lineage.results} has no job of rule {RULE}, so no map to compute blocks of")
    drawn = random.Random(seed)
    maps = _Maps(lineage)
    blocks = []
    for _ in range(count):
        blocks.append(maps.replay(drawn.choice(jobs), drawn, tolerance))
        on_result(blocks[-1])
    return blocks


class _Maps:
    """The maps of a run, with what was read for one block kept for the next."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        self._digest = lru_cache(maxsize=None)(file_digest)
        self._predictor = lru_cache(maxsize=2)(Predictor.load)

    def replay(self, job: Manifest, drawn: random.Random, tolerance: float) -> Block:
        """One random block of one map."""
        try:
            taken = self._taken(job)
            return self._block(job, taken, drawn, tolerance)
        except DataError as error:
            return Block(job.name, "impossible", str(error))

    def _taken(self, job: Manifest) -> dict[str, list[Path]]:
        """Inputs and the map by name, all seen to be what the manifest says."""
        taken: dict[str, list[Path]] = {}
        for each in (*job.inputs, *job.outputs):
            path = self.lineage.path(job, each.path)
            if not path.is_file():
                raise DataError(f"{each.path} is not there")
            if self._digest(path) != each.sha256:
                raise DataError(f"{each.path} changed: sha256 {self._digest(path)[:12]}, recorded {each.sha256[:12]}")
            taken.setdefault(each.name, []).append(path)
        return taken

    def _block(self, job: Manifest, taken: dict[str, list[Path]], drawn: random.Random, tolerance: float) -> Block:
        params, started = job.record["params"], time.monotonic()
        place = grid.parse_tile(job.record["wildcards"]["tile"], params["tile_km"])
        networks = taken["segmentation"][0], taken.get("superres", [None])[0]
        predictor = self._predictor(params["method"], *networks, params.get("precision", "fp32"))
        bounds, then = _draw(taken["isa"][0], place.bounds, drawn)
        source = CompositeReader(taken["composites"], predictor.bands, taken.get("merged", []))
        with predictor.workers(params["threads"]) as pool:
            mapper = AreaPredictor(predictor, params["window_m"], params["stride_m"], params["batch"], pool)
            now = mapper.predict_area(source, bounds, place.epsg)[0]
        differing = int((now != then).sum())
        changes = self._changes(job, predictor.device)
        outcome = "identical" if not differing else "differs" if not changes else "explained"
        if outcome == "explained" and differing <= tolerance * now.size:
            outcome = "tolerated"
        return Block(
            job.name,
            outcome,
            f"{differing} of {now.size} pixels differ" if differing else "",
            bounds,
            sum(1 for _ in lattice.windows(bounds, mapper.window_m, mapper.stride_m)),
            now.size,
            int((then != NODATA).sum()),
            differing,
            changes,
            round(time.monotonic() - started, 3),
        )

    def _changes(self, job: Manifest, device: torch.device) -> list[Change]:
        """In what the conditions of now are not those of the record."""
        step = job.record["step"]
        now: dict[str, Any] = {
            "step": step,
            "code": code_digest(step),
            "environment": environment(step) if job.record.get("environment") else {},
            "device": {
                "processor": processor(),
                "cuda": torch.cuda.get_device_name() if device.type == "cuda" else None,
            },
        }
        parts = recorded_code_parts(self.lineage.results, job.record["code"]), code_parts(step)
        return [change for change in condition_changes(job.record, now, parts) if change.kind != "commit"]


def _draw(map_of: Path, bounds: Bounds, drawn: random.Random) -> tuple[Bounds, np.ndarray]:
    """A random block on the 10 m lattice, and the map's pixels in it; where it can, one with something known."""
    minx, miny, maxx, maxy = bounds
    side = min(BLOCK_M, maxx - minx)
    for _ in range(DRAWS):
        west = minx + lattice.LR_M * drawn.randint(0, (maxx - minx - side) // lattice.LR_M)
        south = miny + lattice.LR_M * drawn.randint(0, (maxy - miny - side) // lattice.LR_M)
        block = (west, south, west + side, south + side)
        pixels = raster_io.read(map_of, block)[0][0]
        if (pixels != NODATA).any():
            break
    return block, pixels
