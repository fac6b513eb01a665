"""What a release tells of: the jobs of a run, what they made, the maps released and what is on them."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jointseg.area import grid
from jointseg.provenance.manifest import Artefact, Manifest, read
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

READERS = 4  # threads that count pixels; as many as the rule `release` asks for
# The pixel codes of a map.
NOT_ISA, ISA, NODATA = 0, 1, 255
PRIVATE = {"service_account"}  # settings that name a credential


@dataclass(frozen=True)
class Output:
    """A file or folder that a job made: its place in the results folder and the job's manifest."""

    path: str
    artefact: Artefact
    manifest: Manifest


@dataclass(frozen=True)
class Coverage:
    """What is on a map: pixels and ground area, km2, by code (0, 1, 255)."""

    pixels: dict[int, int]
    km2: dict[int, float]

    @property
    def known(self) -> int:
        return self.pixels[NOT_ISA] + self.pixels[ISA]


@dataclass(frozen=True)
class Run:
    """A run to be released.

    Attributes:
        results: its results folder.
        settings: its settings as plain values, without those that name a credential.
        jobs: the manifests of the jobs behind the maps, by name.
        made: what these jobs made, by place in the results folder.
        maps: the released maps of each collection, `isa` and `mosaics`.
        covers: what is on each map, by place.
        report: the place of the HTML report.
    """

    results: Path
    settings: dict[str, Any]
    jobs: dict[str, Manifest]
    outputs: dict[str, Output]
    maps: dict[str, list[Output]]
    covers: dict[str, Coverage]
    report: str

    @property
    def title(self) -> str:
        return self.settings["title"]

    @property
    def years(self) -> list[int]:
        return sorted(self.settings["years"])

    @cached_property
    def digest(self) -> str:
        """sha256 over code, parameters, inputs and outputs of all jobs; times and places do not count."""
        whole = hashlib.sha256()
        for job in self.jobs.values():
            files = [[each.name, each.path, each.sha256] for each in (*job.materials, *job.outputs)]
            line = [job.name, job.record["code"], job.record["params"], sorted(files)]
            whole.update(f"{json.dumps(line, sort_keys=True)}\n".encode())
        return whole.hexdigest()

    def producer(self, manifest: Manifest, taken: Artefact) -> Output | None:
        """The job of this run that made an input of another, None for what came from outside."""
        return self.outputs.get(manifest.relative_path(taken.path) or "")

    def outside(self) -> dict[str, Artefact]:
        """What the jobs took that no job of this run made, by sha256."""
        taken = [(each, one) for each in self.jobs.values() for one in each.materials]
        found = {one.sha256: one for each, one in taken if self.producer(each, one) is None}
        return dict(sorted(found.items(), key=lambda item: (item[1].path, item[0])))

    def of(self, rule: str) -> list[Manifest]:
        return [job for job in self.jobs.values() if job.rule == rule]

    def said(self, key: str) -> list[Any]:
        """The different values of a manifest entry, such as `commit`, over all jobs."""
        found = {json.dumps(job.record.get(key), sort_keys=True) for job in self.jobs.values()}
        return [json.loads(each) for each in sorted(found)]

    def versions(self, package: str) -> list[str]:
        """The different versions of a package, or of Python, that the jobs ran with."""
        return sorted({each[package] for each in self.said("versions") if each and package in each})


def load_run(
    manifests: list[Path], maps: dict[str, list[Path]], report: Path, results: Path, settings: dict[str, Any]
) -> Run:
    """Reads the manifests and the maps. Raises DataError for a map that is not what its manifest says."""
    read_ones = sorted((read(path) for path in manifests), key=lambda each: each.name)
    made = {inside: Output(inside, output, each) for each in read_ones for inside, output in each.declared_outputs()}
    found = {name: [_found(path, made, results) for path in sorted(paths)] for name, paths in maps.items()}
    places = [each.path for members in found.values() for each in members]
    with ThreadPoolExecutor(READERS) as pool:
        covers = dict(zip(places, pool.map(lambda place: _cover(results / place), places)))
    jobs = {each.name: each for each in read_ones}
    return Run(
        results, without_credentials(settings), jobs, made, found, covers, report.relative_to(results).as_posix()
    )


def without_credentials(value: Any) -> Any:
    """Settings without those that name a credential."""
    if isinstance(value, dict):
        return {key: without_credentials(each) for key, each in value.items() if key not in PRIVATE}
    return value


def flatten(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings or facts as lines of one name and one value: {"a": {"b": 1}} is a.b, 1."""
    for key, each in value.items():
        if isinstance(each, dict):
            yield from flatten(each, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", each


def _found(path: Path, made: dict[str, Output], results: Path) -> Output:
    found = made.get(path.relative_to(results).as_posix())
    if found is None:
        raise DataError(f"no manifest given to the release tells who made {path}; run its job again")
    size = path.stat().st_size
    if size != found.artefact.size:
        raise DataError(f"{path} has {size} bytes, its manifest says {found.artefact.size}; delete it and run again")
    return found


def _cover(path: Path) -> Coverage:
    """Counts a map block by block. The UTM scale is taken at the middle of each block."""
    codes = (NOT_ISA, ISA, NODATA)
    pixels, km2 = dict.fromkeys(codes, 0), dict.fromkeys(codes, 0.0)
    with raster_io.open_raster(path) as source:
        epsg = source.crs.to_epsg()
        pixel_km2 = abs(source.transform.a * source.transform.e) / 1e6
        for _, window in source.block_windows(1):
            block = source.read(1, window=window)
            x, y = source.transform @ (window.col_off + window.width / 2, window.row_off + window.height / 2)
            ground_km2 = pixel_km2 / float(grid.area_scale(epsg, x, y))
            for code in codes:
                count = int(np.count_nonzero(block == code))
                pixels[code] += count
                km2[code] += count * ground_km2
        strange = source.width * source.height - sum(pixels.values())
    if strange:
        raise DataError(f"{path} holds {strange} pixels that are none of 0, 1 and 255; run its job again")
    return Coverage(pixels, km2)
