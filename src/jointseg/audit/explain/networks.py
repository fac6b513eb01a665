"""The checkpoints that a map was predicted with, and their training jobs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from jointseg.audit.explain.chips import Index
from jointseg.audit.explain.jobs import display_path, run_name
from jointseg.audit.lineage import Lineage, Parent
from jointseg.provenance.manifest import Manifest


@dataclass(frozen=True)
class Training:
    """A training job of a checkpoint; `device` is the GPU, or the processor if it used no GPU."""

    job: str
    run: str
    rule: str
    steps: int
    seed: int | None
    threads: int | None
    device: str | None
    seconds: float | None
    finished: str | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that the map was predicted with."""

    name: str  # "superres" or "segmentation"
    path: str
    sha256: str  # checksum that the map's job recorded
    size: int
    producer: str | None  # the job that produced it, None for an external checkpoint
    run: str | None
    matches: bool | None  # whether the manifest of the producer has the same checksum; None without a producer
    trained: dict[str, Any] | None  # training record of the checkpoint header, for an external checkpoint
    trainings: list[Training]  # the training jobs that it depends on, nearest first
    dataset: str | None  # path of the index of its training chips


class Networks:
    """The checkpoints that one map was predicted with, and the chip indexes of their training, by path."""

    def __init__(self, lineage: Lineage, isa: Manifest) -> None:
        self._lineage = lineage
        self.indexes: dict[str, Index] = {}
        names = ("superres", "segmentation")
        self.checkpoints = [
            self._checkpoint(parent) for parent in lineage.parents(isa) if parent.artefact.name in names
        ]

    def _checkpoint(self, parent: Parent) -> Checkpoint:
        producer, artefact = parent.producer, parent.artefact
        jobs = [] if producer is None else [producer, *self._lineage.ancestors(producer)]
        trainings = [job for job in jobs if "training" in job.record["params"]]
        return Checkpoint(
            name=artefact.name,
            path=display_path(self._lineage, parent.path),
            sha256=artefact.sha256,
            size=artefact.size,
            producer=None if producer is None else producer.name,
            run=None if producer is None else run_name(self._lineage, producer),
            matches=None if producer is None else parent.matches,
            trained=_header(parent.path) if producer is None else None,
            trainings=[self._training(job) for job in trainings],
            dataset=self._index_of(trainings[0]) if trainings else None,
        )

    def _index_of(self, training: Manifest) -> str | None:
        """Path of the chip index of a training job."""
        for parent in self._lineage.lineage_of(training).parents(training):
            if parent.artefact.name == "index":
                path = display_path(self._lineage, parent.path)
                if path not in self.indexes:
                    self.indexes[path] = Index(self._lineage, training, parent.path, parent.artefact.sha256)
                return path
        return None

    def _training(self, manifest: Manifest) -> Training:
        record, device = manifest.record, manifest.record.get("device") or {}
        return Training(
            job=manifest.name,
            run=run_name(self._lineage, manifest),
            rule=manifest.rule,
            steps=record["params"]["training"]["steps"],
            seed=record["params"].get("seed"),
            threads=record["params"].get("threads"),
            device=device.get("cuda") or device.get("processor"),
            seconds=record.get("seconds"),
            finished=record.get("finished"),
            facts=record["facts"],
        )


def _header(checkpoint: Path) -> dict[str, Any] | None:
    """Training record of a checkpoint header; None if it cannot be read or is not from this package."""
    try:
        with safe_open(checkpoint, framework="numpy") as file:
            return json.loads((file.metadata() or {})["jointseg"])["trained"]
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError):
        return None
