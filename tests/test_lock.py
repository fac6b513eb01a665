"""One run at a time in a results folder, and locks that a killed one left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jointseg import lock


def test_the_lock_names_its_holder(tmp_path):
    with lock.hold(tmp_path, ["jointseg", "run", "x.yaml"]) as held:
        assert held.killed is None
        with (
            pytest.raises(lock.InUseError, match=rf"process {os.getpid()} on .*\(jointseg run x\.yaml\)"),
            lock.hold(tmp_path, []),
        ):
            pass
    with lock.hold(tmp_path, []) as held:
        assert held.killed is None


def test_the_lock_tells_of_a_killed_run(tmp_path):
    code = "import os; from pathlib import Path; from jointseg import lock\n"
    code += f"with lock.hold(Path({str(tmp_path)!r}), ['killed']): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    with lock.hold(tmp_path, []) as held:
        assert held.killed is not None and held.killed["command"] == ["killed"]


@pytest.fixture
def locks(tmp_path, monkeypatch):
    """Snakemake's locks on two results folders."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".snakemake/locks"
    folder.mkdir(parents=True)
    (folder / "0.input.lock").write_text("data/in.tif\nresults/a/x.tif\n")
    (folder / "0.output.lock").write_text("results/a/y.tif\n")
    (folder / "1.output.lock").write_text("results/ab/y.tif\n")
    return folder


def cleared(results: Path = Path("results/a")) -> list[str]:
    with lock.hold(results, []) as held:
        return [path.name for path in lock.clear_stale(held, results)]


def test_locks_of_a_killed_run_are_cleared_in_its_folder_alone(locks):
    code = "import os; from pathlib import Path; from jointseg import lock\n"
    code += "with lock.hold(Path('results/a'), []): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert cleared() == ["0.input.lock", "0.output.lock"]
    assert [path.name for path in locks.iterdir()] == ["1.output.lock"]


def test_locks_are_cleared_when_the_killed_run_s_folder_is_gone(locks):
    assert cleared() == ["0.input.lock", "0.output.lock"]


def test_locks_stay_when_the_last_run_ended_in_order(locks):
    with lock.hold(Path("results/a"), []):
        pass
    assert cleared() == []


def test_locks_stay_while_a_plain_snakemake_works_here(locks):
    with subprocess.Popen([sys.executable, "-c", "input()", "snakemake"], stdin=subprocess.PIPE) as plain:
        assert cleared() == []
        plain.communicate(b"\n")
