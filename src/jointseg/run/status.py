"""Status of a run: completed, running and failed jobs, read from the files that it leaves in its results folder."""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jointseg.run import lock
from jointseg.run.console import format_duration, format_rate
from jointseg.run.events import RunState, read_state
from jointseg.runtime import job_status, templates
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.job_status import Failure

PAGE = Path(__file__).with_name("status.html.j2")


@dataclass(frozen=True)
class RunningJob:
    """A running job."""

    job: str
    seconds: float  # time since its start
    progress: str  # counted items and their rate; "" for a job that counts nothing
    fraction: float | None  # completed fraction, 0 to 1; None if the total is unknown


@dataclass
class Status:
    """Status of the last run in a results folder."""

    results: str
    state: str = "never ran"  # "running", "done", "failed", "stopped", or "never ran"
    # the process that holds the folder's lock, from `lock.read_holder`; None if the folder is not locked
    holder: dict[str, Any] | None = None
    # done, total: jobs of the last run
    done: int = 0
    total: int = 0
    rules: dict[str, tuple[int, int]] = field(default_factory=dict)  # (done, planned) jobs of the last run by rule
    manifests: dict[str, int] = field(default_factory=dict)  # jobs by rule that have a manifest, from any run
    running: list[RunningJob] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)  # jobs that failed in the last run, in order
    retries: int = 0
    # jobs that a cluster has not started yet, each as "number state reason"
    waiting: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read(results: Path) -> Status:
    """Return the status of a results folder, without locking or changing it. Raises DataError if it does not exist."""
    if not results.is_dir():
        raise DataError(
            f"the results folder {results} does not exist: the run has not started; start it with `jointseg run CONFIG`"
        )
    run = read_state(results)
    status = Status(
        str(results),
        holder=lock.read_holder(results),
        done=run.done,
        total=run.total,
        rules=run.rules,
        manifests=_count_manifests(results / "manifests"),
        failures=_failures(results, run),
        retries=run.retries,
    )
    if status.holder is not None:
        status.state = "running"
        status.waiting = [job for job in lock.cluster_jobs(status.holder) if job.split()[1] == "PENDING"]
        status.running = [_running_job(job) for job in job_status.read_running(results / job_status.FOLDER).values()]
    elif status.failures:
        status.state = "failed"
    elif run.nothing_to_do or (run.total and run.done == run.total):
        status.state = "done"
    elif run.total:
        status.state = "stopped"
    return status


def _failures(results: Path, run: RunState) -> list[Failure]:
    """Return the failures that jobs reported, then those that only Snakemake reported, without interrupted jobs."""
    reported = job_status.read_failures(results / job_status.FOLDER)
    with_message = {(failure.rule, failure.log) for failure in reported}
    killed = [
        Failure(error.name, error.reason, ", ".join(log for _, log in error.logs), job_status.ERROR)
        for error in run.errors
        if with_message.isdisjoint(error.logs)
    ]
    return [failure for failure in (*reported, *killed) if failure.cause != job_status.STOPPED]


def _count_manifests(folder: Path) -> dict[str, int]:
    """Return the number of manifests by rule: {rule}.json, or any number in {rule}/."""
    names = (path.relative_to(folder).parts[0].removesuffix(".json") for path in folder.rglob("*.json"))
    return dict(sorted(Counter(names).items()))


def _running_job(job: dict[str, Any]) -> RunningJob:
    fraction = job["done"] / job["total"] if job.get("total") else None
    progress = f"{job['label']}: {format_rate(job)}".removesuffix(": ") if "label" in job else ""
    return RunningJob(job["job"], time.time() - job["started"], progress, fraction)


def lines(status: Status) -> list[str]:
    """Return the status as lines of text, the most urgent first."""
    holder = status.holder or {}
    state = {
        "running": f"running as process {holder.get('pid')} on {holder.get('host')} since {holder.get('started')}",
        "done": "done",
        "failed": f"failed: {len(status.failures)} job(s)",
        "stopped": "stopped before it was done; rerun the command to resume",
        "never ran": "no run has used this folder",
    }[status.state]
    out = [f"{status.results}: {state}"]
    if status.total:
        out.append(f"{status.done} of {status.total} jobs of the last run done")
    if status.retries:
        out.append(f"{status.retries} job(s) restarted")
    for failure in status.failures:
        out.append(f"failed   {failure.job}: {failure.reason}{f' (log: {failure.log})' if failure.log else ''}")
    out += [f"waiting  on the cluster: job {job}" for job in status.waiting]
    for job in status.running:
        fraction = f"{100 * job.fraction:.0f} %, " if job.fraction is not None else ""
        progress = f", {job.progress}" if job.progress else ""
        out.append(f"running  {job.job}: {fraction}{format_duration(job.seconds)}{progress}")
    for rule, (done, total) in status.rules.items():
        if done < total:
            out.append(f"to do    {rule}: {total - done} of {total}")
    return out


def write_page(status: Status, path: Path) -> None:
    """Write the status as one self-contained HTML page."""
    percent = {rule: round(100 * done / total) if total else 0 for rule, (done, total) in status.rules.items()}
    context = {"status": status, "headline": lines(status)[0], "percent": percent, "format_duration": format_duration}
    with atomic_write(path) as part:
        part.write_text(templates.render(PAGE, context), encoding="utf-8")
