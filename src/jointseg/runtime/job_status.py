"""What the jobs of a run tell it, from whatever machine they work on: that they run, how far they are, why they failed.

Small files in a folder of the results, which every machine of a run sees; the run empties it when it starts.
"""

import hashlib
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

ENV_VARIABLE = "JOINTSEG_PROGRESS"  # environment variable: the folder; without it jobs tell nothing
FOLDER = Path(".jointseg", "progress")  # in a results folder
INPUT, TRANSIENT, ERROR, STOPPED = "input", "transient", "error", "stopped"


@dataclass(frozen=True)
class Failure:
    """Why a job failed.

    Attributes:
        job: its rule and wildcards, as `isa [year=2021 tile=50N_E0660_N3540]`.
        reason: one sentence.
        log: the file that has the rest; "" where the rule has none.
        cause: `input`, which no other try can mend; `transient`, a server without an answer; `error` of the step; `stopped`.
    """

    job: str
    reason: str
    log: str
    cause: str

    @property
    def rule(self) -> str:
        return self.job.partition(" ")[0]

    def line(self) -> str:
        return f"rule {self.job}: {self.reason}"


def status_folder() -> Path | None:
    """The folder of the run that this process is a job of."""
    told = os.environ.get(ENV_VARIABLE)
    return Path(told) if told else None


def process_file(suffix: str) -> Path | None:
    """The note of this process: machines of a cluster share the folder, and their process numbers may be the same."""
    where = status_folder()
    return where / f"{socket.gethostname()}-{os.getpid()}{suffix}" if where else None


def write_json(path: Path, told: dict) -> None:
    """Writes a note beside its place and renames it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.part")
    beside.write_text(json.dumps(told))
    beside.replace(path)


def record_failure(failure: Failure) -> None:
    """Keeps why a job failed; a job that cannot tell it has still failed."""
    if where := status_folder():
        try:
            write_json(_failed(where, failure.job), asdict(failure))
        except OSError:
            return


def read_failure(job: str) -> Failure | None:
    """Why a job failed before in this run; None where it did not."""
    where = status_folder()
    return _read(_failed(where, job)) if where else None


def clear_failure(job: str) -> None:
    """A job that is done has not failed, whatever it said at an earlier try."""
    if where := status_folder():
        _failed(where, job).unlink(missing_ok=True)


def read_failures(where: Path) -> list[Failure]:
    """The failures of a run, in the order in which they were told."""
    notes = []
    for path in where.glob("*.failed"):
        try:
            notes.append((path.stat().st_mtime, path))
        except OSError:  # forgotten just now
            continue
    return [found for _, path in sorted(notes) if (found := _read(path)) is not None]


def read_running(where: Path) -> dict[str, dict]:
    """Every running job by its process: {"job", "started"} and, where it counts something, its bar's state."""
    jobs: dict[str, dict] = {}
    for note in sorted(where.glob("*.job")):
        bar = note.with_suffix(".json")
        try:
            jobs[note.stem] = json.loads(note.read_text()) | (json.loads(bar.read_text()) if bar.exists() else {})
        except (OSError, ValueError):  # ended, or being written, just now
            continue
    return jobs


def reset(where: Path) -> None:
    """An empty folder for a run that starts."""
    where.mkdir(parents=True, exist_ok=True)
    for left in where.iterdir():
        left.unlink(missing_ok=True)


def _failed(where: Path, job: str) -> Path:
    return where / f"{hashlib.sha256(job.encode()).hexdigest()[:16]}.failed"


def _read(path: Path) -> Failure | None:
    try:
        return Failure(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # not there, or being written, just now
        return None
