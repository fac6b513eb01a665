"""A complete run on a mini synthetic scene, in a copy of the repository, shared by the workflow tests."""

import pytest
from support.run_folder import RunFolder, create_run_folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = create_run_folder(tmp_path_factory.mktemp("run"))
    done = folder.jointseg("run", "mini.yaml", "--cores", "2")
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return folder
