"""A training that is killed and resumed ends with the bytes of an uninterrupted one."""

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
STEPS["segmentation"]["drop_path"] = 0.3  # random draws of the network must not depend on the resume
# Saves its state at every step, and kills itself at the beginning of the given step.
KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.tiny_training import run
from jointseg.training import determinism, resume
resume.SAVE_INTERVAL_S = 0.0
kind, root, out, start, state, last, changes = sys.argv[2:]
seed_step = determinism.seed_step
def kill(seed, step):
    if step == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    seed_step(seed, step)
determinism.seed_step = kill
run(kind, Path(root), Path(out), Path(start), state=state, **json.loads(changes))
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the dataset and of one uninterrupted training of every kind."""
    folders = {"data": tmp_path_factory.mktemp("data")}
    make(folders["data"])
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        run(kind, folders["data"], folders[kind], start(folders, kind), **STEPS[kind])
    return folders


def start(folders: dict[str, Path], kind: str) -> Path:
    """Return the checkpoint that a training starts from; an unused path if it starts from none."""
    before = {"stage2": "stage1", "adversarial": "stage2"}.get(kind)
    return folders[before] / "model.safetensors" if before else Path("none")


def run_killed(uninterrupted: dict[str, Path], kind: str, out: Path, state: Path, step: int) -> None:
    arguments = [
        Path(__file__).parents[1],
        kind,
        uninterrupted["data"],
        out,
        start(uninterrupted, kind),
        state,
        step,
        json.dumps(STEPS[kind]),
    ]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    assert state.exists() and not any(out.glob("*"))


@pytest.mark.parametrize(
    ("kind", "steps"), [("stage1", [4]), ("stage2", [1]), ("adversarial", [1, 3]), ("segmentation", [3])]
)
def test_a_killed_and_resumed_training_is_byte_equal(
    uninterrupted: dict[str, Path], tmp_path: Path, kind: str, steps: list[int]
) -> None:
    state, out = tmp_path / "state.pt", tmp_path / "out"
    out.mkdir()
    for step in steps:
        run_killed(uninterrupted, kind, out, state, step)
    assert torch.load(state, weights_only=True)["step"] == steps[-1]
    run(kind, uninterrupted["data"], out, start(uninterrupted, kind), state=str(state), **STEPS[kind])
    assert {path.name for path in out.iterdir()} == {path.name for path in uninterrupted[kind].iterdir()}
    for path in out.iterdir():
        assert path.read_bytes() == (uninterrupted[kind] / path.name).read_bytes(), path.name
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def state(uninterrupted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state file of a stage-1 training of 5 steps that failed at step 3."""

    def fail(seed: int, step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resume, "SAVE_INTERVAL_S", 0.0)
        patch.setattr(determinism, "seed_step", fail)
        run("stage1", uninterrupted["data"], tmp_path / "failed", state=str(tmp_path / "state.pt"), **STEPS["stage1"])
    return tmp_path / "state.pt"


@pytest.mark.parametrize("what", ["settings", "inputs", "code", "damaged"])
def test_a_state_of_another_training_is_ignored(
    uninterrupted: dict[str, Path],
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    out, data, changes = state.with_name("out"), uninterrupted["data"], dict(STEPS["stage1"])
    if what == "settings":
        changes["learning_rate"] = 2e-3
    elif what == "inputs":
        data = state.with_name("data")
        shutil.copytree(uninterrupted["data"], data)
    elif what == "code":
        monkeypatch.setattr(cache_key, "code_digest", lambda module: "another")
    else:
        state.write_bytes(state.read_bytes()[:-100])
    run("stage1", data, out, state=str(state), **changes)
    assert ("damaged" if what == "damaged" else "other inputs, settings or code") in caplog.text
    assert (
        (out / "model.safetensors").read_bytes() == (uninterrupted["stage1"] / "model.safetensors").read_bytes()
    ) == (what != "settings")


def test_a_training_resumes_from_its_state(
    uninterrupted: dict[str, Path], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(determinism, "seed_step", lambda seed, step: steps.append(step))
    run("stage1", uninterrupted["data"], state.with_name("out"), state=str(state), **STEPS["stage1"])
    assert steps == [3, 4] and not state.exists()


def test_a_save_is_due_after_the_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    state = resume.TrainingState(str(tmp_path / "s.pt"), "jointseg.training.superres", [], {})
    assert not state.due
    clock[0] += resume.SAVE_INTERVAL_S
    assert state.due
    state.save({"step": 1})
    assert not state.due and state.load() == {"step": 1, "key": state.key}
    assert not resume.TrainingState(None, "jointseg.training.superres", [], {}).due
