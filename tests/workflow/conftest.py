"""A complete run on a mini synthetic scene, in a copy of the repository, shared by the workflow tests."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from support.run_folder import RunFolder, create_run_folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> RunFolder:
    """A complete run. Parallel workers build it once, on all cores, and then work on a copy each."""
    if worker_id == "master":
        return complete_run(tmp_path_factory.mktemp("run"))
    shared = tmp_path_factory.getbasetemp().parent / "finished_run"
    with FileLock(shared.with_suffix(".lock")):
        if not (shared / "complete").exists():
            shared.mkdir()  # fails if another worker failed to complete the run
            complete_run(shared)
            (shared / "complete").touch()
    own = tmp_path_factory.mktemp("run") / "copy"
    shutil.copytree(shared, own, symlinks=True)  # with the times of the files, by which Snakemake decides
    return RunFolder(own)


def complete_run(root: Path) -> RunFolder:
    folder = create_run_folder(root)
    done = folder.jointseg("run", "mini.yaml", "--cores", "2")
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return folder
