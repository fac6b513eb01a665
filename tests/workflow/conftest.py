"""One run of the whole flow on a mini synthetic scene, in a copy of the repository, shared by the workflow tests."""

import pytest
import yaml
from support.flow_run import ROOT, Flow, copy_code, mini


@pytest.fixture(scope="session")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    root = tmp_path_factory.mktemp("flow")
    copy_code(ROOT, root)
    config = mini(yaml.safe_load((ROOT / "examples/synthetic/config.yaml").read_text()))
    (root / "mini.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    made = Flow(root)
    done = made.jointseg("run", "mini.yaml", "--cores", "2")
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return made
