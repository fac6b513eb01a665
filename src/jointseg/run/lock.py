"""One run at a time in a results folder, from whatever machine, and the leftovers of a run that was killed."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jointseg.runtime.errors import DataError

NAME = Path(".jointseg", "run.lock")
# A run says that it lives by the time of its lock file: some file systems do not share locks between machines.
BEAT_SECONDS, DEAD_SECONDS = 15.0, 120.0


class InUseError(DataError):
    """Another run works in the results folder."""


@dataclass
class RunLock:
    """A lock that is held.

    Attributes:
        descriptor: the open lock file. Whoever inherits it shares the lock: give it to child processes as their
            standard input, and jobs that outlive a killed run still keep others out.
        killed: what the last run wrote of itself when it ended without saying goodbye, else None.
        fresh: nobody has run here since the folder was made, or made again.
        broken: set by the run whose Snakemake was killed: it then goes without saying goodbye, as if it were killed itself.
    """

    descriptor: int
    killed: dict[str, Any] | None
    fresh: bool
    broken: bool = False

    def beat(self) -> None:
        """Says that the run lives. Call it every BEAT_SECONDS."""
        os.utime(self.descriptor)

    def tell(self, **more: Any) -> None:
        """Adds to what the lock says of the run."""
        _replace(self.descriptor, json.dumps({**(_content(self.descriptor) or {}), **more}) + "\n")


@contextmanager
def hold(results: Path, command: list[str]) -> Iterator[RunLock]:
    """Holds the lock of a results folder. Raises InUseError naming the run that holds it."""
    path = results / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(_who(results, _content(descriptor))) from None
        killed = _content(descriptor)
        _refuse_if_alive(results, killed, time.time() - os.fstat(descriptor).st_mtime)
        own = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "command": command,
        }
        _replace(descriptor, json.dumps(own) + "\n")
        held = RunLock(descriptor, killed, fresh)
        yield held
        if not held.broken:
            _replace(descriptor, "")
    finally:
        # Closing, not unlocking: a job that still runs shares the lock and keeps it.
        os.close(descriptor)


def read_holder(results: Path) -> dict[str, Any] | None:
    """What the run that holds a results folder says of itself (pid, host, started, command); None when nobody holds it."""
    try:
        descriptor = os.open(results / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _content(descriptor) or {}
    finally:
        os.close(descriptor)
    return None


def remove_stale_locks(held: RunLock, results: Path, snakemake_folder: Path = Path(".snakemake")) -> list[Path]:
    """Removes the locks that a killed Snakemake left on files of this results folder, and returns them.

    They are stale when the last run was killed; also when its whole folder has been removed since, unless a
    Snakemake works in this directory now, started without `jointseg run`. Locks of other results folders stay.
    """
    if held.killed is None and not (held.fresh and not _snakemakes(snakemake_folder.absolute().parent)):
        return []
    stale = [
        path
        for path in sorted((snakemake_folder / "locks").glob("*.lock"))
        if any(_lies_in(line, results, snakemake_folder / "storage") for line in path.read_text().splitlines())
    ]
    for path in stale:
        path.unlink()
    return stale


def _lies_in(path: str, results: Path, copies: Path) -> bool:
    """Whether a path lies in a results folder, or in that folder of a store of which Snakemake keeps copies."""
    if Path(path).is_relative_to(copies):
        return f"/{results.as_posix()}/" in path
    return Path(path).absolute().is_relative_to(results.absolute())


def _snakemakes(directory: Path) -> list[int]:
    """Snakemake processes of this machine that work in a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                process.joinpath("cwd").readlink() == directory
                and b"snakemake" in process.joinpath("cmdline").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def _content(descriptor: int) -> dict[str, Any] | None:
    text = os.pread(descriptor, 1 << 20, 0)
    try:
        return json.loads(text) if text else None
    except ValueError:  # killed while writing it
        return {}


def _replace(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    os.fsync(descriptor)


def _refuse_if_alive(results: Path, left: dict[str, Any] | None, age: float) -> None:
    """Raises InUseError where the lock is free, but what the last run wrote of itself tells that it, or its jobs, still work."""
    if not left:
        return
    if left["host"] != socket.gethostname() and age < DEAD_SECONDS:
        raise InUseError(
            f"{_user(results, left)}; it said so {age:.0f} s ago: wait for it to end or stop it there. If {left['host']} is "
            f"dead, run again in {DEAD_SECONDS - age:.0f} s"
        )
    numbers = ", ".join(job.split()[0] for job in cluster_jobs(left))
    if numbers:
        raise InUseError(
            f"{_user(results, left)}; that run is gone, but its Slurm jobs {numbers} still wait or work: wait for "
            f"them, or stop them with scancel --name {left['slurm']}"
        )


def cluster_jobs(run: dict[str, Any]) -> list[str]:
    """Jobs that Slurm has of the run that a lock tells of, as "number state reason"; none where no cluster is seen from here."""
    if "slurm" not in run or shutil.which("squeue") is None:
        return []
    asked = [
        "squeue",
        "--noheader",
        "--format=%i %T %r",
        f"--name={run['slurm']}",
        "--states=PENDING,RUNNING,COMPLETING",
    ]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()


def _user(results: Path, run: dict[str, Any]) -> str:
    """What a lock says of the run that holds it, or held it."""
    command = " ".join(run["command"])
    return f"{results} is in use by process {run['pid']} on {run['host']} since {run['started']} ({command})"


def _who(results: Path, run: dict[str, Any] | None) -> str:
    if not run:
        return f"{results} is in use by another run; wait for it to end"
    pid, host, who = run["pid"], run["host"], _user(results, run)
    if host == socket.gethostname() and not Path(f"/proc/{pid}").exists():
        left = _holders(results / NAME)
        names = ", ".join(map(str, left)) or "unknown"
        return f"{who}; that process is gone, but jobs it started still work (processes {names}): wait for them or stop them"
    return f"{who}; wait for it to end or stop it"


def _holders(path: Path) -> list[int]:
    """Processes of this machine that have the lock file open, other than this one."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == path.absolute() and int(link.parts[2]) != os.getpid():
                found.add(int(link.parts[2]))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return sorted(found)
