"""Fixtures that several test modules share; tests must not change them."""

from pathlib import Path

import pytest
from support.dataset_workflow import run_chips, run_dataset, run_labels, run_pairing, write_inputs
from support.sampling_inputs import write_area, write_prior


@pytest.fixture(scope="session")
def scene_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the inputs of the dataset's steps."""
    folder = tmp_path_factory.mktemp("scene_inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="session")
def built(scene_inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the outputs of all steps after sampling."""
    to = tmp_path_factory.mktemp("built")
    run_pairing(scene_inputs, to / "pairs.parquet")
    run_labels(scene_inputs, to)
    run_chips(scene_inputs, to)
    (to / "samples.parquet").write_bytes((scene_inputs / "samples.parquet").read_bytes())
    run_dataset(to, pairs=to / "pairs.parquet", labels=to / "labels.parquet")
    return to


@pytest.fixture(scope="session")
def two_zones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Inputs of the sampling: two reaches in two UTM zones, and a prior density."""
    folder = tmp_path_factory.mktemp("two_zones")
    return write_area(folder) | {"density": write_prior(folder)}
