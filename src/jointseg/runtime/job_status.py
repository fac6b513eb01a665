"""Status of the jobs of a run: small JSON files that the jobs write and `jointseg run` and `jointseg status` read.

The files are in the results folder, which all machines of a run share. A run empties the folder when it starts. Each
process writes HOST-PID.job (rule and start) and HOST-PID.json (progress), each failed job HASH.failed.
"""

import hashlib
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

ENV_VARIABLE = "JOINTSEG_PROGRESS"  # path of the status folder; jobs write no status when it is not set
FOLDER = Path(".jointseg", "progress")  # in a results folder
INPUT, TRANSIENT, ERROR, STOPPED = "input", "transient", "error", "stopped"


@dataclass(frozen=True)
class Failure:
    """A failed job."""

    job: str  # rule and wildcards, such as `predict [year=2021 tile=50N_E0660_N3540]`
    reason: str  # one sentence
    log: str  # path of the log file; "" for a rule without one
    # `input` (invalid input, a retry cannot succeed), `transient` (a server did not respond), `error` (an exception in
    # the step) or `stopped`.
    cause: str

    @property
    def rule(self) -> str:
        return self.job.partition(" ")[0]

    def line(self) -> str:
        return f"rule {self.job}: {self.reason}"


def status_folder() -> Path | None:
    """Return the status folder of the run that this process is a job of; None outside a run."""
    value = os.environ.get(ENV_VARIABLE)
    return Path(value) if value else None


def process_file(suffix: str) -> Path | None:
    """Return the status file of this process. Its name has the host: two machines can have equal process ids."""
    folder = status_folder()
    return folder / f"{socket.gethostname()}-{os.getpid()}{suffix}" if folder else None


def write_json(path: Path, content: dict) -> None:
    """Write a status file atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.part")
    part.write_text(json.dumps(content))
    part.replace(path)


def record_failure(failure: Failure) -> None:
    """Write the failure of a job. A status file that cannot be written is ignored: the job has failed anyway."""
    if folder := status_folder():
        try:
            write_json(_failure_path(folder, failure.job), asdict(failure))
        except OSError:
            return


def read_failure(job: str) -> Failure | None:
    """Return the failure of an earlier attempt of a job in this run; None if there is none."""
    folder = status_folder()
    return _parse_failure(_failure_path(folder, job)) if folder else None


def clear_failure(job: str) -> None:
    """Remove the failure of an earlier attempt of a job that has completed."""
    if folder := status_folder():
        _failure_path(folder, job).unlink(missing_ok=True)


def read_failures(folder: Path) -> list[Failure]:
    """Return the failures of a run, oldest first."""
    paths = []
    for path in folder.glob("*.failed"):
        try:
            paths.append((path.stat().st_mtime, path))
        except OSError:  # removed meanwhile
            continue
    return [failure for _, path in sorted(paths) if (failure := _parse_failure(path)) is not None]


def read_running(folder: Path) -> dict[str, dict]:
    """Return the running jobs by process: {"job", "started"}, and the progress of those that report it."""
    jobs: dict[str, dict] = {}
    for path in sorted(folder.glob("*.job")):
        progress = path.with_suffix(".json")
        try:
            jobs[path.stem] = json.loads(path.read_text()) | (
                json.loads(progress.read_text()) if progress.exists() else {}
            )
        except (OSError, ValueError):  # the job ended or is writing the file
            continue
    return jobs


def reset(folder: Path) -> None:
    """Create an empty status folder for a new run."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink(missing_ok=True)


def _failure_path(folder: Path, job: str) -> Path:
    return folder / f"{hashlib.sha256(job.encode()).hexdigest()[:16]}.failed"


def _parse_failure(path: Path) -> Failure | None:
    try:
        return Failure(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # missing, or being written
        return None
