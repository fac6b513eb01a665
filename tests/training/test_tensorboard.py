"""TensorBoard events: every row of the history and one panel with it, once, also after a resume."""

from pathlib import Path

import pandas as pd
import pytest
from support.tiny_training import make, outputs, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jointseg.training import determinism, resume


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


@pytest.mark.parametrize("kind", ["stage1", "segmentation"])
def test_metrics_and_panels_of_every_validation(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    folder = tmp_path / "events"
    changes = {"steps": 4, "validate_every": 1, "events": str(folder), "state": str(tmp_path / "state.pt")}
    monkeypatch.setattr(resume, "SAVE_INTERVAL_S", 0.0)
    seed_step = determinism.seed_step

    def stop(seed: int, step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt
        seed_step(seed, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(determinism, "seed_step", stop)
        run(kind, tmp_path, tmp_path / "out", **changes)
    assert len(list(folder.iterdir())) == 1
    run(kind, tmp_path, tmp_path / "out", **changes)
    events, history = read_events(folder), pd.read_csv(outputs(tmp_path / "out")["history"])
    assert set(events.Tags()["scalars"]) == set(history.columns) - {"step"}
    for name in events.Tags()["scalars"]:
        values = events.Scalars(name)
        assert [event.step for event in values] == [1, 2, 3, 4]
        assert [event.value for event in values] == pytest.approx(history[name].tolist(), rel=1e-5)
    assert [event.step for event in events.Images("panel")] == [1, 2, 3, 4]


def test_a_training_from_step_0_removes_earlier_events(tmp_path: Path) -> None:
    make(tmp_path)
    for steps in (3, 1):
        run("stage1", tmp_path, tmp_path / "out", steps=steps, validate_every=1, events=str(tmp_path / "events"))
    assert [event.step for event in read_events(tmp_path / "events").Scalars("l1_2.5m")] == [1]
