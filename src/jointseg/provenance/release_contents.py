"""Content of a release: the jobs of a run, their outputs, the released maps and the area of each class."""

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

READERS = 4  # threads that count pixels; equals the threads of the rule `release`
# Pixel codes of a map.
NOT_ISA, ISA, NODATA = 0, 1, 255
CREDENTIALS = {"service_account"}  # settings that name a credential


@dataclass(frozen=True)
class Output:
    """An output file or folder: its path in the results folder and the manifest of its producer."""

    path: str
    artefact: Artefact
    manifest: Manifest


@dataclass(frozen=True)
class Coverage:
    """Pixels and area (km2) of a map by pixel code (0, 1, 255)."""

    pixels: dict[int, int]
    km2: dict[int, float]

    @property
    def valid(self) -> int:
        return self.pixels[NOT_ISA] + self.pixels[ISA]


@dataclass(frozen=True)
class Run:
    """A run to release."""

    results: Path
    settings: dict[str, Any]  # settings as plain values, without those that name a credential
    jobs: dict[str, Manifest]  # manifests of the jobs that the maps depend on, by name
    outputs: dict[str, Output]
    maps: dict[str, list[Output]]  # the released maps of each collection, `isa` and `mosaics`
    coverage: dict[str, Coverage]
    report: str  # path of the HTML report in the results folder

    @property
    def title(self) -> str:
        return self.settings["title"]

    @property
    def years(self) -> list[int]:
        return sorted(self.settings["years"])

    @cached_property
    def digest(self) -> str:
        """sha256 over code, parameters, inputs and outputs of all jobs, without times and locations."""
        content = hashlib.sha256()
        for job in self.jobs.values():
            files = [[file.name, file.path, file.sha256] for file in (*job.materials, *job.outputs)]
            line = [job.name, job.record["code"], job.record["params"], sorted(files)]
            content.update(f"{json.dumps(line, sort_keys=True)}\n".encode())
        return content.hexdigest()

    def producer(self, manifest: Manifest, artefact: Artefact) -> Output | None:
        """Return the output of this run that is an input of a job, None for an external input."""
        return self.outputs.get(manifest.relative_path(artefact.path) or "")

    def external_inputs(self) -> dict[str, Artefact]:
        """Return the inputs that no job of this run produced, by sha256."""
        inputs = [(job, artefact) for job in self.jobs.values() for artefact in job.materials]
        found = {artefact.sha256: artefact for job, artefact in inputs if self.producer(job, artefact) is None}
        return dict(sorted(found.items(), key=lambda item: (item[1].path, item[0])))

    def jobs_of(self, rule: str) -> list[Manifest]:
        return [job for job in self.jobs.values() if job.rule == rule]

    def distinct(self, key: str) -> list[Any]:
        """Return the distinct values of a manifest entry, such as `commit`, over all jobs."""
        found = {json.dumps(job.record.get(key), sort_keys=True) for job in self.jobs.values()}
        return [json.loads(value) for value in sorted(found)]

    def versions(self, package: str) -> list[str]:
        """Return the distinct versions of a package, or of Python, over all jobs."""
        return sorted({versions[package] for versions in self.distinct("versions") if versions and package in versions})


def load_run(
    manifests: list[Path], maps: dict[str, list[Path]], report: Path, results: Path, settings: dict[str, Any]
) -> Run:
    """Read the manifests and the maps. Raises DataError if a map does not match its manifest."""
    jobs = sorted((read(path) for path in manifests), key=lambda job: job.name)
    outputs = {path: Output(path, artefact, job) for job in jobs for path, artefact in job.declared_outputs()}
    members = {name: [_find_map(path, outputs, results) for path in sorted(paths)] for name, paths in maps.items()}
    paths = [output.path for outputs_of in members.values() for output in outputs_of]
    with ThreadPoolExecutor(READERS) as pool:
        coverage = dict(zip(paths, pool.map(lambda path: _coverage(results / path), paths)))
    by_name = {job.name: job for job in jobs}
    public = without_credentials(settings)
    return Run(results, public, by_name, outputs, members, coverage, report.relative_to(results).as_posix())


def without_credentials(value: Any) -> Any:
    """Return settings without those that name a credential."""
    if isinstance(value, dict):
        return {key: without_credentials(item) for key, item in value.items() if key not in CREDENTIALS}
    return value


def flatten(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of nested settings or facts: {"a": {"b": 1}} yields ("a.b", 1)."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _find_map(path: Path, outputs: dict[str, Output], results: Path) -> Output:
    found = outputs.get(path.relative_to(results).as_posix())
    if found is None:
        raise DataError(f"no manifest of this release declares {path} as output; rerun its job")
    size = path.stat().st_size
    if size != found.artefact.size:
        raise DataError(f"{path} has {size} bytes, its manifest has {found.artefact.size}; delete it and rerun its job")
    return found


def _coverage(path: Path) -> Coverage:
    """Pixels and area of a map, block by block, with the UTM scale factor at the centre of each block."""
    codes = (NOT_ISA, ISA, NODATA)
    pixels, km2 = dict.fromkeys(codes, 0), dict.fromkeys(codes, 0.0)
    with raster_io.open_raster(path) as source:
        epsg = source.crs.to_epsg()
        pixel_km2 = abs(source.transform.a * source.transform.e) / 1e6
        for _, window in source.block_windows(1):
            block = source.read(1, window=window)
            x, y = source.transform @ (window.col_off + window.width / 2, window.row_off + window.height / 2)
            true_km2 = pixel_km2 / float(grid.area_scale(epsg, x, y))
            for code in codes:
                count = int(np.count_nonzero(block == code))
                pixels[code] += count
                km2[code] += count * true_km2
        invalid = source.width * source.height - sum(pixels.values())
    if invalid:
        raise DataError(f"{path} has {invalid} pixels with codes other than 0, 1 and 255; rerun its job")
    return Coverage(pixels, km2)
