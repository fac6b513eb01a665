"""Lock of a results folder, and stale locks of a killed run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jointseg.run import lock

HOLD_AND_DIE = """
import os
from pathlib import Path
from jointseg.run import lock
with lock.hold(Path({results!r}), ["killed"]):
    os.kill(os.getpid(), 9)
"""


def killed_run(results: Path) -> None:
    """Hold the lock in a process that is killed."""
    subprocess.run([sys.executable, "-c", HOLD_AND_DIE.format(results=str(results))], check=False)


def test_error_names_the_holder(tmp_path):
    with lock.hold(tmp_path, ["jointseg", "run", "x.yaml"]) as held:
        assert held.killed_run is None
        with (
            pytest.raises(lock.InUseError, match=rf"process {os.getpid()} on .*\(jointseg run x\.yaml\)"),
            lock.hold(tmp_path, []),
        ):
            pass
    with lock.hold(tmp_path, []) as held:
        assert held.killed_run is None


def test_record_of_a_killed_run(tmp_path):
    killed_run(tmp_path)
    with lock.hold(tmp_path, []) as held:
        assert held.killed_run is not None and held.killed_run["command"] == ["killed"]


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


def removed_locks(results: Path = Path("results/a")) -> list[str]:
    with lock.hold(results, []) as held:
        return [path.name for path in lock.remove_stale_locks(held, results)]


def test_stale_locks_are_removed_only_in_the_folder_of_the_killed_run(locks):
    killed_run(Path("results/a"))
    assert removed_locks() == ["0.input.lock", "0.output.lock"]
    assert [path.name for path in locks.iterdir()] == ["1.output.lock"]


def test_stale_locks_on_files_of_an_object_store(locks):
    (locks / "2.output.lock").write_text(".snakemake/storage/s3/bucket/folder/results/a/y.tif\n")
    (locks / "3.output.lock").write_text(".snakemake/storage/s3/bucket/folder/results/ab/y.tif\n")
    assert removed_locks() == ["0.input.lock", "0.output.lock", "2.output.lock"]


def test_run_whose_snakemake_was_killed_counts_as_killed(tmp_path):
    with lock.hold(tmp_path, ["first"]) as held:
        held.killed = True
    with lock.hold(tmp_path, ["second"]) as held:
        assert held.killed_run is not None and held.killed_run["command"] == ["first"]
    with lock.hold(tmp_path, []) as held:
        assert held.killed_run is None


def test_stale_locks_are_removed_if_the_results_folder_was_deleted(locks):
    assert removed_locks() == ["0.input.lock", "0.output.lock"]


def test_locks_stay_after_a_run_that_was_not_killed(locks):
    with lock.hold(Path("results/a"), []):
        pass
    assert removed_locks() == []


def test_locks_stay_while_a_plain_snakemake_runs_here(locks):
    with subprocess.Popen([sys.executable, "-c", "input()", "snakemake"], stdin=subprocess.PIPE) as plain:
        assert removed_locks() == []
        plain.communicate(b"\n")


@pytest.fixture
def other_host(tmp_path):
    """Lock file of a run on another machine, on a file system that does not share locks."""
    run = {"pid": 7, "host": "elsewhere", "started": "2026-01-01T00:00:00Z", "command": ["jointseg", "run", "x.yaml"]}
    path = tmp_path / lock.NAME
    path.parent.mkdir()
    path.write_text(json.dumps(run))
    return path


def test_run_on_another_machine_holds_the_lock_until_its_heartbeat_stops(tmp_path, other_host):
    message = r"in use by process 7 on elsewhere since 2026-01-01T00:00:00Z .*If elsewhere is dead, rerun in \d+ s"
    with pytest.raises(lock.InUseError, match=message), lock.hold(tmp_path, []):
        pass
    assert json.loads(other_host.read_text())["host"] == "elsewhere"
    os.utime(other_host, (time.time() - lock.DEAD_SECONDS - 1,) * 2)
    with lock.hold(tmp_path, []) as held:
        assert held.killed_run is not None and held.killed_run["host"] == "elsewhere"
        os.utime(other_host, (0, 0))
        held.send_heartbeat()
        assert time.time() - other_host.stat().st_mtime < 10


def test_cluster_jobs_of_a_dead_run_hold_the_lock(tmp_path, other_host, monkeypatch):
    squeue = tmp_path / "bin/squeue"
    squeue.parent.mkdir()
    squeue.write_text('#!/bin/sh\nfor each; do [ "$each" = --name=run-1 ] && cat waiting; done\n')
    squeue.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=os.pathsep)
    waiting = tmp_path / "waiting"
    waiting.write_text("12 PENDING Resources\n13 RUNNING None\n")
    with lock.hold(tmp_path / "own", ["x"]) as held:
        held.record(slurm="run-1")
        record = json.loads((tmp_path / "own" / lock.NAME).read_text())
    other_host.write_text(json.dumps(record))
    message = r"Slurm jobs 12, 13 are pending or running: .*scancel --name run-1"
    with pytest.raises(lock.InUseError, match=message), lock.hold(tmp_path, []):
        pass
    waiting.write_text("")
    with lock.hold(tmp_path, []) as held:
        assert held.killed_run == record
