"""What may be deleted of a run so that all that stays can still be verified and explained, and deleting it.

What a finished run needs no more, can make again from its manifests, and only it reads, may go. `pruned.json` says
what went, with the hash by which it is known when it is made again.
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
    """One kind of file that may go: the outputs that are of it, as (rule, name), and what is lost without."""

    outputs: tuple[tuple[str, str], ...]
    lost: str


# All else stays: the maps, mosaics, report, release, tables, checkpoints, scene lists, composites, the dataset's index,
# pairs and labels, the sources, every manifest and .jointseg.
KINDS = {
    "chips": _Kind(
        (("chips", "chips"),),
        "training again, replays of training, assess and report, and anything that shows a chip",
    ),
    "images": _Kind(
        (("superres_chips", "images"),), "training the segmentation again, replays of segmentation and report"
    ),
    "predictions": _Kind(
        (("map_chips", "predictions"), ("predict_chips", "predictions")),
        "assessing accuracy again, replays of assess and report",
    ),
    "products": _Kind(
        (("product_chips", "rasters"),), "assessing the reference products again, replays of assess and report"
    ),
    "previews": _Kind(
        (("preview", "rgb"), ("preview", "figure")), "the pictures beside the report, which holds copies of them"
    ),
    "logs": _Kind((), "what the jobs told while they ran; made again only by running them all"),
    "benchmarks": _Kind((), "Snakemake's measurements; the manifests keep seconds and memory"),
}
FOLDERS = ("logs", "benchmarks")  # kinds that no job declares


@dataclass(frozen=True)
class PrunableFile:
    """One file that may go, or went: its path in the results folder, and the job that made it ("" for logs)."""

    path: str
    sha256: str
    size: int
    producer: str
    kind: str


@dataclass(frozen=True)
class PrunableKind:
    """One kind of file and what deleting it means.

    Attributes:
        files: those that are there now.
        lost: what cannot be done until they are made again.
        seconds: recorded for making them, all their jobs together; None where no job makes them.
        missing: inputs of their jobs that are not there, without which they cannot be made again.
        first: kinds that must be made again before them, when those are deleted too.
    """

    kind: str
    files: list[PrunableFile]
    lost: str
    seconds: float | None
    missing: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(each.size for each in self.files)

    def as_json(self) -> dict[str, Any]:
        told = asdict(self) | {"bytes": self.bytes, "files": len(self.files)}
        return told | {"folders": sorted({each.path.rpartition("/")[0] for each in self.files})}


@dataclass(frozen=True)
class Deletion:
    """What was deleted, and what was left because it is not what its manifest says."""

    files: list[PrunableFile]
    left: list[str]


def pruned_paths(results: Path) -> set[str]:
    """Paths in a results folder of the files that were deleted on purpose, made again since or not.

    Raises DataError when the list is not what its seal says.
    """
    return {each["path"] for each in _listed(results)}


def find_prunable(results: Path, keep: Collection[str] = ()) -> list[PrunableKind]:
    """What may be deleted, by kind; kinds without a file are left out.

    Args:
        keep: kinds to leave out.

    Raises DataError for a kind that there is not.
    """
    for each in keep:
        if each not in KINDS:
            raise DataError(f"there is no kind {each!r} to keep; the kinds are {', '.join(KINDS)}")
    lineage = Lineage(results)
    makers = {name: _makers(lineage, kind) for name, kind in KINDS.items()}
    found = []
    for name, kind in KINDS.items():
        files = _loose(results, name) if name in FOLDERS else _declared(results, makers[name], name)
        if name in keep or not files:
            continue
        jobs = {manifest.name: manifest for manifest, _ in makers[name]}
        missing, first = _needs(lineage, jobs, makers)
        seconds = None if name in FOLDERS else sum(each.record.get("seconds", 0.0) for each in jobs.values())
        found.append(
            PrunableKind(name, files, kind.lost, seconds, missing, [each for each in first if each not in keep])
        )
    return found


def delete(
    results: Path, kinds: list[PrunableKind], advance: Callable[[PrunableFile], None] = lambda file: None
) -> Deletion:
    """Writes the list of what goes, then deletes it; a file that is not what its manifest says stays.

    So do kinds that cannot be made again because an input of their jobs is gone.

    Killed half-way, it leaves files that are on the list and still there; run again, it goes on.

    Args:
        advance: called for each file once it is deleted or left.
    """
    going, left = [], []
    for each in (file for kind in kinds if not kind.missing for file in kind.files):
        if each.producer and file_digest(results / each.path) != each.sha256:
            left.append(each.path)
        else:
            going.append(each)
    _list(results, going)
    for each in going:
        (results / each.path).unlink()
        advance(each)
    for folder in sorted({(results / each.path).parent for each in going}, reverse=True):
        _leave(results, folder)
    return Deletion(going, sorted(left))


def _makers(lineage: Lineage, kind: _Kind) -> list[tuple[Manifest, Artefact]]:
    return [
        (manifest, output)
        for _, manifest in sorted(lineage.manifests.items())
        for output in manifest.outputs
        if (manifest.rule, output.name) in kind.outputs
    ]


def _declared(results: Path, makers: list[tuple[Manifest, Artefact]], kind: str) -> list[PrunableFile]:
    """The declared files of a kind that are there."""
    found = []
    for manifest, output in makers:
        inside = manifest.relative_path(output.path)
        for entry in () if inside is None else output.entries(inside):
            if (results / entry.path).is_file():
                found.append(PrunableFile(entry.path, entry.sha256, entry.size, manifest.name, kind))
    return found


def _loose(results: Path, kind: str) -> list[PrunableFile]:
    paths = sorted(path for path in (results / kind).rglob("*") if path.is_file())
    return [PrunableFile(path.relative_to(results).as_posix(), "", path.stat().st_size, "", kind) for path in paths]


def _needs(
    lineage: Lineage, jobs: dict[str, Manifest], makers: dict[str, list[tuple[Manifest, Artefact]]]
) -> tuple[list[str], list[str]]:
    """Inputs of jobs that are gone and not prunable, and the prunable kinds among their inputs."""
    made = {
        manifest.relative_path(output.path): (name, manifest) for name in makers for manifest, output in makers[name]
    }
    missing, first = set(), set()
    waiting = list(jobs.values())
    while waiting:
        manifest = waiting.pop()
        for taken in manifest.inputs:
            there = lineage.path(manifest, taken.path).exists()
            inside = manifest.relative_path(taken.path)
            if inside in made:
                kind, maker = made[inside]
                first.add(kind)
                if not there:  # pruned before: it must be made again first
                    waiting.append(maker)
            elif not there:
                missing.add(taken.path)
    return sorted(missing), sorted(first)


def _listed(results: Path) -> list[dict[str, Any]]:
    path = results / PRUNED_LIST
    if not path.is_file():
        return []
    content = path.read_bytes()
    if not is_sealed(content):
        raise DataError(f"{path} is not what its seal says: it was edited or cut; restore it")
    return json.loads(content)["files"]


def _list(results: Path, going: list[PrunableFile]) -> None:
    """Adds files to the list of what was deleted; the disk has it before the first of them goes."""
    if not going:
        return
    date = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    entries = {each["path"]: each for each in _listed(results)}
    entries |= {each.path: asdict(each) | {"date": date} for each in going}
    with atomic_write(results / PRUNED_LIST) as part, open(part, "w", encoding="utf-8") as file:
        file.write(sealed({"schema": SCHEMA, "files": [entries[path] for path in sorted(entries)]}))
        file.flush()
        os.fsync(file.fileno())
    descriptor = os.open(results, os.O_RDONLY)  # the new name too
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _leave(results: Path, folder: Path) -> None:
    """Removes folders that are empty now, so that Snakemake sees that they are gone."""
    while folder != results and folder.is_dir() and {each.name for each in folder.iterdir()} <= {TIMESTAMP}:
        (folder / TIMESTAMP).unlink(missing_ok=True)
        folder.rmdir()
        folder = folder.parent
