"""Two processes train as one with the same global batch; their results and errors reach the caller of the step."""

from pathlib import Path

import pandas as pd
import pytest
from support.tiny_training import make, outputs, run

from jointseg.runtime import distributed
from jointseg.runtime.errors import DataError

SHORT = {"steps": 4, "batch": 3, "validate_every": 1}  # an odd batch: 2 samples in one process, 1 in the other


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make(root)
    return root


@pytest.fixture(scope="module")
def start(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage-2 checkpoint, from which all later trainings can start."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("stage1", "stage2"))
    run("stage1", data, one)
    run("stage2", data, two, outputs(one)["checkpoint"])
    return outputs(two)["checkpoint"]


@pytest.mark.parametrize("kind", ["stage2", "adversarial", "segmentation"])
def test_two_processes_train_as_one_with_the_same_global_batch(
    data: Path, start: Path, tmp_path: Path, kind: str
) -> None:
    facts = {n: run(kind, data, tmp_path / str(n), start, devices=n, **SHORT) for n in (1, 2)}
    one, two = (pd.read_csv(outputs(tmp_path / str(n))["history"]) for n in (1, 2))
    assert list(one.columns) == list(two.columns) and len(one) == 4
    pd.testing.assert_frame_equal(one, two, check_dtype=False, rtol=2e-5, atol=1e-6)
    assert facts[1].keys() == facts[2].keys()
    assert {path.name for path in (tmp_path / "1").iterdir()} == {path.name for path in (tmp_path / "2").iterdir()}


def test_data_error_of_a_process_is_raised_in_the_caller(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="patch_px 12 must not exceed it"):
        run("stage1", data, tmp_path, devices=2, patch_px=12)
    assert not any(tmp_path.iterdir())


def test_batch_smaller_than_the_number_of_processes_is_an_error(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    with pytest.raises(DataError, match="batch 1 is less than the 2 devices"):
        run("stage1", data, tmp_path, batch=1)


def test_more_processes_than_gpus_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(DataError, match="devices 2 is more than the 1 GPUs"):
        distributed.launch(run, 2, {})
