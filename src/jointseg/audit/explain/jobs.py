"""Jobs that a map depends on, and inconsistencies between their manifests."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jointseg.audit.lineage import Lineage
from jointseg.provenance.machine import MAIN_PACKAGES
from jointseg.provenance.manifest import Manifest, is_sealed

_RECORDED = ("started", "finished", "seconds", "commit", "dirty", "host", "user")  # fields of a job from its manifest


@dataclass(frozen=True)
class Job:
    """Summary of one job from its manifest."""

    name: str  # name of the manifest, such as "predict/2021/50N_E0660_N3540"
    run: str  # current results folder of the manifest
    rule: str
    wildcards: dict[str, str]
    started: str | None
    finished: str | None
    seconds: float | None
    commit: str | None
    dirty: bool | None
    code: str
    lock: str | None
    versions: dict[str, str]  # versions of the loaded packages among MAIN_PACKAGES
    processor: str | None
    cpus: int | None
    torch_threads: int | None
    gpu: str | None
    host: str | None
    user: str | None


@dataclass(frozen=True, order=True)
class Disagreement:
    """A file that differs from its manifest: the affected job, the path and a description."""

    job: str
    path: str
    detail: str


def run_name(lineage: Lineage, manifest: Manifest) -> str:
    """Return the results folder of a manifest, relative to the working directory for another run."""
    own = lineage.lineage_of(manifest)
    return own.results.as_posix() if own is lineage else os.path.relpath(own.results)


def display_path(lineage: Lineage, path: Path) -> str:
    """Return a path for display, relative to the working directory for another run."""
    if path.is_absolute() and not path.is_relative_to(lineage.results):
        return os.path.relpath(path)
    return path.as_posix()


def job_summary(lineage: Lineage, manifest: Manifest) -> Job:
    record: dict[str, Any] = manifest.record
    device = record.get("device") or {}
    versions = record.get("versions") or {}
    return Job(
        name=manifest.name,
        run=run_name(lineage, manifest),
        rule=manifest.rule,
        wildcards=record["wildcards"],
        code=record["code"],
        lock=(record.get("lock") or {}).get("sha256"),
        versions={name: versions[name] for name in MAIN_PACKAGES if name in versions},
        processor=device.get("processor"),
        cpus=device.get("cpus"),
        torch_threads=device.get("torch_threads"),
        gpu=device.get("cuda"),
        **{name: record.get(name) for name in _RECORDED},
    )


def find_disagreements(lineage: Lineage, jobs: list[Manifest]) -> list[Disagreement]:
    """Return inputs that differ from the manifest of their producer, and manifests that were edited."""
    found = []
    for manifest in jobs:
        content = manifest.file.read_bytes()
        if "seal" in manifest.record and not is_sealed(content):
            edited = "the manifest was edited after the job wrote it"
            found.append(Disagreement(manifest.name, manifest.file.as_posix(), edited))
        for parent in lineage.lineage_of(manifest).parents(manifest):
            path = manifest.relative_path(parent.artefact.path)
            if parent.producer is None and path is not None:
                detail = f"no manifest declares this input of {manifest.name}, sha256 {parent.artefact.sha256[:12]}"
            elif parent.producer is not None and not parent.matches:
                detail = f"{manifest.name} used a version that differs from the manifest of {parent.producer.name}"
            else:
                continue
            found.append(Disagreement(manifest.name, display_path(lineage, parent.path), detail))
    return sorted(set(found))
