"""A training that is killed at any step and started again ends with the bytes of one that was not."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_training import KINDS, make, run

from jointseg.provenance import cache_key
from jointseg.training import determinism, resume

STEPS: dict[str, dict[str, Any]] = {kind: {"steps": 5, "validate_every": 2} for kind in KINDS}
STEPS["segmentation"]["drop_path"] = 0.3  # what the network draws must not depend on the resume either
# Keeps its state at every step, and dies at the beginning of the step it is told.
KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.tiny_training import run
from jointseg.training import determinism, resume
resume.SAVE_INTERVAL_S = 0.0
kind, root, out, start, kept, last, changes = sys.argv[2:]
seed_step = determinism.seed_step
def deadly(seed, step):
    if step == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    seed_step(seed, step)
determinism.seed_step = deadly
run(kind, Path(root), Path(out), Path(start), state=kept, **json.loads(changes))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of the dataset, and one of every training that was not stopped."""
    made = {"data": tmp_path_factory.mktemp("data")}
    make(made["data"])
    for kind in KINDS:
        made[kind] = tmp_path_factory.mktemp(kind)
        run(kind, made["data"], made[kind], start(made, kind), **STEPS[kind])
    return made


def start(made: dict[str, Path], kind: str) -> Path:
    """The checkpoint that a training begins with; one that is not read where it begins with none."""
    before = {"stage2": "stage1", "adversarial": "stage2"}.get(kind)
    return made[before] / "model.safetensors" if before else Path("none")


def killed_at(whole: dict[str, Path], kind: str, out: Path, kept: Path, step: int) -> None:
    told = [
        Path(__file__).parents[1],
        kind,
        whole["data"],
        out,
        start(whole, kind),
        kept,
        step,
        json.dumps(STEPS[kind]),
    ]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, told)], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert kept.exists() and not any(out.glob("*"))


@pytest.mark.parametrize(
    ("kind", "steps"), [("stage1", [4]), ("stage2", [1]), ("adversarial", [1, 3]), ("segmentation", [3])]
)
def test_killed_and_resumed_is_the_same_to_the_byte(
    whole: dict[str, Path], tmp_path: Path, kind: str, steps: list[int]
) -> None:
    kept, out = tmp_path / "state.pt", tmp_path / "out"
    out.mkdir()
    for step in steps:
        killed_at(whole, kind, out, kept, step)
    assert torch.load(kept, weights_only=True)["step"] == steps[-1]
    run(kind, whole["data"], out, start(whole, kind), state=str(kept), **STEPS[kind])
    assert {path.name for path in out.iterdir()} == {path.name for path in whole[kind].iterdir()}
    for path in out.iterdir():
        assert path.read_bytes() == (whole[kind] / path.name).read_bytes(), path.name
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def kept(whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a stage-1 training of 5 steps that failed at step 3."""

    def fail(seed: int, step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resume, "SAVE_INTERVAL_S", 0.0)
        patch.setattr(determinism, "seed_step", fail)
        run("stage1", whole["data"], tmp_path / "failed", state=str(tmp_path / "state.pt"), **STEPS["stage1"])
    return tmp_path / "state.pt"


@pytest.mark.parametrize("what", ["settings", "inputs", "code", "damaged"])
def test_what_belongs_to_another_training_is_not_believed(
    whole: dict[str, Path], kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    out, data, changes = kept.with_name("out"), whole["data"], dict(STEPS["stage1"])
    if what == "settings":
        changes["learning_rate"] = 2e-3
    elif what == "inputs":
        data = kept.with_name("data")
        shutil.copytree(whole["data"], data)
    elif what == "code":
        monkeypatch.setattr(cache_key, "code_digest", lambda module: "another")
    else:
        kept.write_bytes(kept.read_bytes()[:-100])
    run("stage1", data, out, state=str(kept), **changes)
    assert ("damaged" if what == "damaged" else "other inputs, settings or code") in caplog.text
    assert ((out / "model.safetensors").read_bytes() == (whole["stage1"] / "model.safetensors").read_bytes()) == (
        what != "settings"
    )


def test_what_is_kept_is_taken_up(whole: dict[str, Path], kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(determinism, "seed_step", lambda seed, step: steps.append(step))
    run("stage1", whole["data"], kept.with_name("out"), state=str(kept), **STEPS["stage1"])
    assert steps == [3, 4] and not kept.exists()


def test_a_state_is_written_when_its_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    own = resume.TrainingState(str(tmp_path / "s.pt"), "jointseg.training.superres", [], {})
    assert not own.due
    clock[0] += resume.SAVE_INTERVAL_S
    assert own.due
    own.save({"step": 1})
    assert not own.due and own.load() == {"step": 1, "key": own.key}
    assert not resume.TrainingState(None, "jointseg.training.superres", [], {}).due
