"""Lock of a results folder, valid across machines, and cleanup after a run that was killed."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from jointseg.runtime.errors import DataError

NAME = Path(".jointseg", "run.lock")
# The modification time of the lock file is a heartbeat: some file systems do not share locks between machines.
HEARTBEAT_SECONDS, DEAD_SECONDS = 15.0, 120.0


class InUseError(DataError):
    """Another run is using the results folder."""


@dataclass
class RunLock:
    """A lock that this process holds."""

    # the open lock file. Processes that inherit it share the lock: pass it to child processes as their standard input,
    # and jobs that outlive a killed run still lock the folder.
    descriptor: int
    killed_run: dict[str, Any] | None  # record of the last run if it was killed, else None
    new_folder: bool  # whether no run has used the folder since it was created
    # set it to True if Snakemake was killed, so that the record of this run stays in the lock file
    killed: bool = False

    def send_heartbeat(self) -> None:
        """Show other machines that the run is alive. Call it every HEARTBEAT_SECONDS."""
        os.utime(self.descriptor)

    def record(self, **fields: Any) -> None:
        """Add fields to the record of this run in the lock file."""
        _write_record(self.descriptor, json.dumps({**(_read_record(self.descriptor) or {}), **fields}) + "\n")


@contextmanager
def hold(results: Path, command: list[str]) -> Iterator[RunLock]:
    """Hold the lock of a results folder. Raises InUseError naming the run that holds it."""
    path = results / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    new_folder = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(_holder_message(results, _read_record(descriptor))) from None
        killed_run = _read_record(descriptor)
        _refuse_if_alive(results, killed_run, time.time() - os.fstat(descriptor).st_mtime)
        record = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "command": command,
        }
        _write_record(descriptor, json.dumps(record) + "\n")
        held = RunLock(descriptor, killed_run, new_folder)
        yield held
        if not held.killed:
            _write_record(descriptor, "")
    finally:
        # Close without unlocking: running jobs share the lock and must keep it.
        os.close(descriptor)


def read_holder(results: Path) -> dict[str, Any] | None:
    """Return the record (pid, host, started, command) of the run that holds a results folder, or None."""
    try:
        descriptor = os.open(results / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_record(descriptor) or {}
    finally:
        os.close(descriptor)
    return None


def remove_stale_locks(held: RunLock, results: Path, snakemake_folder: Path = Path(".snakemake")) -> list[Path]:
    """Remove the locks that a killed Snakemake left on files of this results folder, and return them.

    Locks are stale if the last run was killed, or if the results folder is new and no Snakemake is running in this
    directory. Locks of other results folders stay.
    """
    foreign = not held.new_folder or _snakemake_processes(snakemake_folder.absolute().parent)
    if held.killed_run is None and foreign:
        return []
    stale = [
        path
        for path in sorted((snakemake_folder / "locks").glob("*.lock"))
        if any(_is_inside(line, results, snakemake_folder / "storage") for line in path.read_text().splitlines())
    ]
    for path in stale:
        path.unlink()
    return stale


def _is_inside(path: str, results: Path, local_copies: Path) -> bool:
    """Whether a path is in a results folder, or in Snakemake's local copy of it from an object store."""
    if Path(path).is_relative_to(local_copies):
        return f"/{results.as_posix()}/" in path
    return Path(path).absolute().is_relative_to(results.absolute())


def _snakemake_processes(directory: Path) -> list[int]:
    """Return the Snakemake processes of this machine with the working directory."""
    processes = [process.info for process in psutil.process_iter(["pid", "cwd", "cmdline"])]
    here = [info for info in processes if info["cwd"] == str(directory)]  # None for processes of other users
    return [info["pid"] for info in here if any("snakemake" in word for word in info["cmdline"] or ())]


def _read_record(descriptor: int) -> dict[str, Any] | None:
    text = os.pread(descriptor, 1 << 20, 0)
    try:
        return json.loads(text) if text else None
    except ValueError:  # killed while writing it
        return {}


def _write_record(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    os.fsync(descriptor)


def _refuse_if_alive(results: Path, last_run: dict[str, Any] | None, age: float) -> None:
    """Raise InUseError if the last run, whose heartbeat is `age` seconds old, or its cluster jobs are still running."""
    if not last_run:
        return
    host = last_run["host"]
    if host != socket.gethostname() and age < DEAD_SECONDS:
        raise InUseError(
            f"{_describe(results, last_run)}; its last heartbeat was {age:.0f} s ago: wait for it to end or stop it "
            f"there. If {host} is dead, rerun in {DEAD_SECONDS - age:.0f} s"
        )
    numbers = ", ".join(job.split()[0] for job in cluster_jobs(last_run))
    if numbers:
        raise InUseError(
            f"{_describe(results, last_run)}; that run has ended, but its Slurm jobs {numbers} are pending or running: "
            f"wait for them, or stop them with scancel --name {last_run['slurm']}"
        )


def cluster_jobs(run: dict[str, Any]) -> list[str]:
    """Return the Slurm jobs of the run of a record as "number state reason"; none on a machine without Slurm."""
    if "slurm" not in run or shutil.which("squeue") is None:
        return []
    command = ["squeue", "--noheader", "--format=%i %T %r"]
    command += [f"--name={run['slurm']}", "--states=PENDING,RUNNING,COMPLETING"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def _describe(results: Path, run: dict[str, Any]) -> str:
    command = " ".join(run["command"])
    return f"{results} is in use by process {run['pid']} on {run['host']} since {run['started']} ({command})"


def _holder_message(results: Path, run: dict[str, Any] | None) -> str:
    if not run:
        return f"{results} is in use by another run; wait for it to end"
    description = _describe(results, run)
    if run["host"] == socket.gethostname() and not Path(f"/proc/{run['pid']}").exists():
        pids = ", ".join(map(str, _lock_processes(results / NAME))) or "unknown"
        return (
            f"{description}; that process has ended, but jobs it started are running (processes {pids}): wait for them "
            "or stop them"
        )
    return f"{description}; wait for it to end or stop it"


def _lock_processes(path: Path) -> list[int]:
    """Return the other processes of this machine that have the lock file open."""
    pids = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # the process ended, or belongs to another user
            opened = {file.path for file in process.open_files()}
            if str(path.absolute()) in opened and process.pid != os.getpid():
                pids.append(process.pid)
    return pids
