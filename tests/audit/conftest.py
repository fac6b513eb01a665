from pathlib import Path

import pytest
from support import audit_flow, explained_run, provenance_flow


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The results folder of a run of four steps, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return audit_flow.make("results/a")


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """The results folder of a run of two steps, in the working directory."""
    monkeypatch.chdir(tmp_path)
    provenance_flow.make()
    return tmp_path / "results/toy"


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """The results folder of a copy of the explained run, with paths relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    return explained_run.cached_run()
