"""The jobs behind one map: what each ran on, and where their manifests do not agree any more."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jointseg.audit.lineage import Lineage
from jointseg.provenance.machine import MAIN_PACKAGES
from jointseg.provenance.manifest import Manifest, is_sealed


@dataclass(frozen=True)
class Job:
    """One job, as its manifest tells it.

    Attributes:
        name: of the manifest, such as "isa/2021/50N_E0660_N3540".
        run: the results folder that its manifest lies in now.
        versions: of MAIN_PACKAGES, as far as the job had loaded them.
    """

    name: str
    run: str
    rule: str
    wildcards: dict[str, str]
    started: str | None
    finished: str | None
    seconds: float | None
    commit: str | None
    dirty: bool | None
    code: str
    lock: str | None
    versions: dict[str, str]
    processor: str | None
    cpus: int | None
    torch_threads: int | None
    gpu: str | None
    host: str | None
    user: str | None


@dataclass(frozen=True, order=True)
class Disagreement:
    """What is not as a manifest says: the job that is in doubt, the path, and what is wrong with it."""

    job: str
    path: str
    detail: str


def run_name(lineage: Lineage, manifest: Manifest) -> str:
    """The results folder of a manifest as one would type it here."""
    home = lineage.lineage_of(manifest)
    return home.results.as_posix() if home is lineage else os.path.relpath(home.results)


def display_path(lineage: Lineage, path: Path) -> str:
    """A path as one would type it here, also one of another run."""
    if path.is_absolute() and not path.is_relative_to(lineage.results):
        return os.path.relpath(path)
    return path.as_posix()


def job_summary(lineage: Lineage, manifest: Manifest) -> Job:
    """What a manifest says of its run."""
    record: dict[str, Any] = manifest.record
    device = record.get("device") or {}
    versions = record.get("versions") or {}
    return Job(
        name=manifest.name,
        run=run_name(lineage, manifest),
        rule=manifest.rule,
        wildcards=record["wildcards"],
        started=record.get("started"),
        finished=record.get("finished"),
        seconds=record.get("seconds"),
        commit=record.get("commit"),
        dirty=record.get("dirty"),
        code=record["code"],
        lock=(record.get("lock") or {}).get("sha256"),
        versions={name: versions[name] for name in MAIN_PACKAGES if name in versions},
        processor=device.get("processor"),
        cpus=device.get("cpus"),
        torch_threads=device.get("torch_threads"),
        gpu=device.get("cuda"),
        host=record.get("host"),
        user=record.get("user"),
    )


def find_disagreements(lineage: Lineage, jobs: list[Manifest]) -> list[Disagreement]:
    """Inputs of jobs that are not what their makers' manifests say, and manifests that are not what was sealed."""
    found = []
    for manifest in jobs:
        content = manifest.file.read_bytes()
        if "seal" in manifest.record and not is_sealed(content):
            found.append(
                Disagreement(manifest.name, manifest.file.as_posix(), "the manifest was edited after the job wrote it")
            )
        for parent in lineage.lineage_of(manifest).parents(manifest):
            inside = manifest.relative_path(parent.artefact.path)
            if parent.producer is None and inside is not None:
                detail = f"no manifest tells who made this input; {manifest.name} took {parent.artefact.sha256[:12]}"
            elif parent.producer is not None and not parent.matches:
                detail = f"{manifest.name} took another version of it than {parent.producer.name} says that it made"
            else:
                continue
            found.append(Disagreement(manifest.name, display_path(lineage, parent.path), detail))
    return sorted(set(found))
