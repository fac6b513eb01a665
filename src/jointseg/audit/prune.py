"""Deletion of intermediate files of a finished run; the remaining files can still be verified and explained.

A file is prunable if a finished run no longer needs it, can rebuild it from its manifests, and nothing outside the run reads
it. `pruned.json` lists the deleted files with their checksums.
"""

import json
import os
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jointseg.audit.lineage import Lineage
from jointseg.provenance.digest import TIMESTAMP, file_digest
from jointseg.provenance.manifest import Artefact, Manifest, is_sealed, sealed
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

PRUNED_LIST = "pruned.json"  # in a results folder
SCHEMA = "jointseg/pruned/1"


@dataclass(frozen=True)
class _Kind:
    """One kind of prunable file: the outputs of this kind as (rule, name), and what is unavailable without them."""

    outputs: tuple[tuple[str, str], ...]
    lost: str


# All other files are kept: maps, mosaics, report, release, tables, checkpoints, scene lists, composites, index, pairs and
# labels of the dataset, sources, manifests and .jointseg.
KINDS = {
    "chips": _Kind(
        (("chips", "chips"),),
        "retraining, replays of training, assess and report, and displays of chips",
    ),
    "images": _Kind((("superres_chips", "images"),), "retraining the segmentation, replays of segmentation and report"),
    "predictions": _Kind(
        (("map_chips", "predictions"), ("predict_chips", "predictions")),
        "rerunning the accuracy assessment, replays of assess and report",
    ),
    "products": _Kind(
        (("product_chips", "rasters"),), "rerunning the assessment of reference products, replays of assess and report"
    ),
    "previews": _Kind(
        (("preview", "rgb"), ("preview", "figure")), "the image files of the report, which contains copies of them"
    ),
    "logs": _Kind((), "the log messages of the jobs; only a complete rerun rebuilds them"),
    "benchmarks": _Kind((), "Snakemake's measurements; manifests contain duration and memory"),
}
FOLDERS = ("logs", "benchmarks")  # kinds that are not declared outputs


@dataclass(frozen=True)
class PrunableFile:
    """One prunable or pruned file: its path in the results folder and its producer ("" for logs and benchmarks)."""

    path: str
    sha256: str
    size: int
    producer: str
    kind: str


@dataclass(frozen=True)
class PrunableKind:
    """One kind of prunable file and the consequences of deleting it."""

    kind: str
    files: list[PrunableFile]
    lost: str  # what is unavailable until they are rebuilt
    seconds: float | None  # recorded duration of all their jobs; None if no job produces them
    # inputs of their jobs that do not exist, so that the files cannot be rebuilt
    missing: list[str] = field(default_factory=list)
    prerequisites: list[str] = field(default_factory=list)  # kinds that must be rebuilt first if they are deleted too

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    def as_json(self) -> dict[str, Any]:
        payload = asdict(self) | {"bytes": self.bytes, "files": len(self.files)}
        return payload | {"folders": sorted({file.path.rpartition("/")[0] for file in self.files})}


@dataclass(frozen=True)
class Deletion:
    """Deleted files, and paths of files that were skipped because they differ from their manifest."""

    files: list[PrunableFile]
    skipped: list[str]


def pruned_paths(results: Path) -> set[str]:
    """Return the paths in a results folder of all pruned files, including those rebuilt since.

    Raises DataError if the list was edited.
    """
    return {entry["path"] for entry in _read_list(results)}


def find_prunable(results: Path, keep: Collection[str] = ()) -> list[PrunableKind]:
    """Return the prunable files by kind, without empty kinds and those in `keep`. Raises DataError for an unknown kind."""
    for name in keep:
        if name not in KINDS:
            raise DataError(f"unknown kind {name!r} to keep; the kinds are {', '.join(KINDS)}")
    lineage = Lineage(results)
    producers = {name: _producers(lineage, kind) for name, kind in KINDS.items()}
    found = []
    for name, kind in KINDS.items():
        files = _files_in(results, name) if name in FOLDERS else _declared(results, producers[name], name)
        if name in keep or not files:
            continue
        jobs = {manifest.name: manifest for manifest, _ in producers[name]}
        missing, needed = _requirements(lineage, jobs, producers)
        seconds = None if name in FOLDERS else sum(job.record.get("seconds", 0.0) for job in jobs.values())
        found.append(
            PrunableKind(name, files, kind.lost, seconds, missing, [kind for kind in needed if kind not in keep])
        )
    return found


def delete(
    results: Path, kinds: list[PrunableKind], advance: Callable[[PrunableFile], None] = lambda file: None
) -> Deletion:
    """Write the list of files to delete, then delete them.

    Files that differ from their manifest, and kinds that cannot be rebuilt, are skipped. After an interruption, some listed
    files still exist; a rerun deletes them.
    """
    selected, skipped = [], []
    for file in (file for kind in kinds if not kind.missing for file in kind.files):
        if file.producer and file_digest(results / file.path) != file.sha256:
            skipped.append(file.path)
        else:
            selected.append(file)
    _extend_list(results, selected)
    for file in selected:
        (results / file.path).unlink()
        advance(file)
    for folder in sorted({(results / file.path).parent for file in selected}, reverse=True):
        _remove_empty_folders(results, folder)
    return Deletion(selected, sorted(skipped))


def _producers(lineage: Lineage, kind: _Kind) -> list[tuple[Manifest, Artefact]]:
    return [
        (manifest, output)
        for _, manifest in sorted(lineage.manifests.items())
        for output in manifest.outputs
        if (manifest.rule, output.name) in kind.outputs
    ]


def _declared(results: Path, producers: list[tuple[Manifest, Artefact]], kind: str) -> list[PrunableFile]:
    return [
        PrunableFile(entry.path, entry.sha256, entry.size, manifest.name, kind)
        for manifest, output in producers
        if (path := manifest.relative_path(output.path)) is not None
        for entry in output.entries(path)
        if (results / entry.path).is_file()
    ]


def _files_in(results: Path, kind: str) -> list[PrunableFile]:
    paths = sorted(path for path in (results / kind).rglob("*") if path.is_file())
    return [PrunableFile(path.relative_to(results).as_posix(), "", path.stat().st_size, "", kind) for path in paths]


def _requirements(
    lineage: Lineage, jobs: dict[str, Manifest], producers: dict[str, list[tuple[Manifest, Artefact]]]
) -> tuple[list[str], list[str]]:
    """Missing inputs of jobs that are not prunable, and the prunable kinds among their inputs."""
    prunable = {
        manifest.relative_path(output.path): (kind, manifest)
        for kind, outputs in producers.items()
        for manifest, output in outputs
    }
    missing, needed = set(), set()
    queue = list(jobs.values())
    while queue:
        manifest = queue.pop()
        for artefact in manifest.inputs:
            exists = lineage.path(manifest, artefact.path).exists()
            path = manifest.relative_path(artefact.path)
            if path in prunable:
                kind, producer = prunable[path]
                needed.add(kind)
                if not exists:  # pruned earlier, so its own inputs are needed too
                    queue.append(producer)
            elif not exists:
                missing.add(artefact.path)
    return sorted(missing), sorted(needed)


def _read_list(results: Path) -> list[dict[str, Any]]:
    path = results / PRUNED_LIST
    if not path.is_file():
        return []
    content = path.read_bytes()
    if not is_sealed(content):
        raise DataError(f"{path} was edited or truncated: its seal does not match its content; restore it")
    return json.loads(content)["files"]


def _extend_list(results: Path, files: list[PrunableFile]) -> None:
    """Add files to the list of pruned files and sync it to disk before any of them is deleted."""
    if not files:
        return
    date = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    entries = {entry["path"]: entry for entry in _read_list(results)}
    entries |= {file.path: asdict(file) | {"date": date} for file in files}
    with atomic_write(results / PRUNED_LIST) as part, open(part, "w", encoding="utf-8") as stream:
        stream.write(sealed({"schema": SCHEMA, "files": [entries[path] for path in sorted(entries)]}))
        stream.flush()
        os.fsync(stream.fileno())
    descriptor = os.open(results, os.O_RDONLY)  # the directory entry
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_empty_folders(results: Path, folder: Path) -> None:
    """Remove empty folders, so that Snakemake detects missing folder outputs."""
    while folder != results and folder.is_dir() and {path.name for path in folder.iterdir()} <= {TIMESTAMP}:
        (folder / TIMESTAMP).unlink(missing_ok=True)
        folder.rmdir()
        folder = folder.parent
