"""What a training tells TensorBoard: every row of the history and a panel with it, once, also after a stop."""

from pathlib import Path

import pandas as pd
import pytest
from support.tiny_training import make, outputs, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jointseg.training import determinism, resume


def told(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


@pytest.mark.parametrize("kind", ["stage1", "segmentation"])
def test_figures_and_panels_of_every_validation(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    events = tmp_path / "events"
    given = {"steps": 4, "validate_every": 1, "events": str(events), "state": str(tmp_path / "state.pt")}
    monkeypatch.setattr(resume, "SAVE_INTERVAL_S", 0.0)
    seed_step = determinism.seed_step

    def stop(seed: int, step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt
        seed_step(seed, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(determinism, "seed_step", stop)
        run(kind, tmp_path, tmp_path / "out", **given)
    assert len(list(events.iterdir())) == 1
    run(kind, tmp_path, tmp_path / "out", **given)
    found, history = told(events), pd.read_csv(outputs(tmp_path / "out")["history"])
    assert set(found.Tags()["scalars"]) == set(history.columns) - {"step"}
    for name in found.Tags()["scalars"]:
        values = found.Scalars(name)
        assert [each.step for each in values] == [1, 2, 3, 4]
        assert [each.value for each in values] == pytest.approx(history[name].tolist(), rel=1e-5)
    assert [each.step for each in found.Images("panel")] == [1, 2, 3, 4]


def test_a_training_that_starts_afresh_forgets_the_last_one(tmp_path: Path) -> None:
    make(tmp_path)
    for steps in (3, 1):
        run("stage1", tmp_path, tmp_path / "out", steps=steps, validate_every=1, events=str(tmp_path / "events"))
    assert [each.step for each in told(tmp_path / "events").Scalars("l1_2.5m")] == [1]
