"""The checkpoints that a map was made with, and the training behind them."""

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
    """A training job behind a checkpoint; `device` is the GPU, or the processor where there was none."""

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
    """A checkpoint that the map was made with.

    Attributes:
        name: "superres" or "segmentation".
        sha256: of the file that the job took.
        maker: the job that made it, None where no known job did.
        agrees: whether the maker's manifest gives it that hash; None without a maker.
        trained: what the file's own header tells of its training, where no known job made it.
        trainings: the training jobs behind it, nearest first.
        dataset: the index of the chips it was trained on.
    """

    name: str
    path: str
    sha256: str
    size: int
    producer: str | None
    run: str | None
    agrees: bool | None
    trained: dict[str, Any] | None
    trainings: list[Training]
    dataset: str | None


class Networks:
    """The networks behind one map.

    Attributes:
        checkpoints: that the job took.
        indexes: by path, the indexes of chips that their training took.
    """

    def __init__(self, lineage: Lineage, isa: Manifest) -> None:
        self._lineage = lineage
        self.indexes: dict[str, Index] = {}
        parents = [each for each in lineage.parents(isa) if each.artefact.name in ("superres", "segmentation")]
        self.checkpoints = [self._checkpoint(parent) for parent in parents]

    def _checkpoint(self, parent: Parent) -> Checkpoint:
        maker, taken = parent.producer, parent.artefact
        behind = [] if maker is None else [maker, *self._lineage.ancestors(maker)]
        trainings = [each for each in behind if "training" in each.record["params"]]
        return Checkpoint(
            name=taken.name,
            path=display_path(self._lineage, parent.path),
            sha256=taken.sha256,
            size=taken.size,
            producer=None if maker is None else maker.name,
            run=None if maker is None else run_name(self._lineage, maker),
            agrees=None if maker is None else parent.matches,
            trained=_header(parent.path) if maker is None else None,
            trainings=[self._training(each) for each in trainings],
            dataset=self._index_of(trainings[0]) if trainings else None,
        )

    def _index_of(self, training: Manifest) -> str | None:
        """The path of the index that a training job took."""
        for parent in self._lineage.lineage_of(training).parents(training):
            if parent.artefact.name == "index":
                path = display_path(self._lineage, parent.path)
                if path not in self.indexes:
                    self.indexes[path] = Index(self._lineage, training, parent.path, parent.artefact.sha256)
                return path
        return None

    def _training(self, manifest: Manifest) -> Training:
        written, device = manifest.record, manifest.record.get("device") or {}
        return Training(
            job=manifest.name,
            run=run_name(self._lineage, manifest),
            rule=manifest.rule,
            steps=written["params"]["training"]["steps"],
            seed=written["params"].get("seed"),
            threads=written["params"].get("threads"),
            device=device.get("cuda") or device.get("processor"),
            seconds=written.get("seconds"),
            finished=written.get("finished"),
            facts=written["facts"],
        )


def _header(checkpoint: Path) -> dict[str, Any] | None:
    """What a checkpoint's header tells of its training; None when it cannot be read or is another's."""
    try:
        with safe_open(checkpoint, framework="numpy") as file:
            return json.loads((file.metadata() or {})["jointseg"])["trained"]
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError):
        return None
