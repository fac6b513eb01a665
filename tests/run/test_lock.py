"""One run at a time in a results folder, and locks that a killed one left."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jointseg.run import lock


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
    code = "import os; from pathlib import Path; from jointseg.run import lock\n"
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
        return [path.name for path in lock.remove_stale_locks(held, results)]


def test_locks_of_a_killed_run_are_cleared_in_its_folder_alone(locks):
    code = "import os; from pathlib import Path; from jointseg.run import lock\n"
    code += "with lock.hold(Path('results/a'), []): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert cleared() == ["0.input.lock", "0.output.lock"]
    assert [path.name for path in locks.iterdir()] == ["1.output.lock"]


def test_locks_on_files_of_a_store_are_cleared_too(locks):
    (locks / "2.output.lock").write_text(".snakemake/storage/s3/bucket/folder/results/a/y.tif\n")
    (locks / "3.output.lock").write_text(".snakemake/storage/s3/bucket/folder/results/ab/y.tif\n")
    assert cleared() == ["0.input.lock", "0.output.lock", "2.output.lock"]


def test_a_run_whose_snakemake_was_killed_leaves_the_lock_of_a_killed_run(tmp_path):
    with lock.hold(tmp_path, ["first"]) as held:
        held.broken = True
    with lock.hold(tmp_path, ["second"]) as held:
        assert held.killed is not None and held.killed["command"] == ["first"]
    with lock.hold(tmp_path, []) as held:
        assert held.killed is None


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


@pytest.fixture
def left(tmp_path):
    """The lock that a run on another machine left, seen as a file system without common locks shows it."""
    run = {"pid": 7, "host": "elsewhere", "started": "2026-01-01T00:00:00Z", "command": ["jointseg", "run", "x.yaml"]}
    path = tmp_path / lock.NAME
    path.parent.mkdir()
    path.write_text(json.dumps(run))
    return path


def test_a_run_elsewhere_that_lives_keeps_the_folder_until_its_machine_is_dead(tmp_path, left):
    said = r"in use by process 7 on elsewhere since 2026-01-01T00:00:00Z .*If elsewhere is dead, run again in \d+ s"
    with pytest.raises(lock.InUseError, match=said), lock.hold(tmp_path, []):
        pass
    assert json.loads(left.read_text())["host"] == "elsewhere"
    os.utime(left, (time.time() - lock.DEAD_SECONDS - 1,) * 2)
    with lock.hold(tmp_path, []) as held:
        assert held.killed is not None and held.killed["host"] == "elsewhere"
        os.utime(left, (0, 0))
        held.beat()
        assert time.time() - left.stat().st_mtime < 10


def test_jobs_that_a_cluster_has_of_a_dead_run_keep_the_folder(tmp_path, left, monkeypatch):
    squeue = tmp_path / "bin/squeue"
    squeue.parent.mkdir()
    squeue.write_text('#!/bin/sh\nfor each; do [ "$each" = --name=run-1 ] && cat waiting; done\n')
    squeue.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=os.pathsep)
    waiting = tmp_path / "waiting"
    waiting.write_text("12 PENDING Resources\n13 RUNNING None\n")
    with lock.hold(tmp_path / "own", ["x"]) as held:
        held.tell(slurm="run-1")
        told = json.loads((tmp_path / "own" / lock.NAME).read_text())
    left.write_text(json.dumps(told))
    with (
        pytest.raises(lock.InUseError, match=r"Slurm jobs 12, 13 still wait or work: .*scancel --name run-1"),
        lock.hold(tmp_path, []),
    ):
        pass
    waiting.write_text("")
    with lock.hold(tmp_path, []) as held:
        assert held.killed == told
