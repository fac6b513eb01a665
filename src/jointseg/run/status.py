"""How a run stands: what is done, running, failed and why, read from what it leaves in its results folder."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jointseg.run import lock
from jointseg.run.console import format_duration, format_rate
from jointseg.runtime import job_status, templates
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.job_status import Failure

PAGE = Path(__file__).with_name("status.html.j2")
LOG = Path("logs", "snakemake.log")
STATES = ("never ran", "running", "done", "failed", "stopped")
KILLED = "ended without a word: killed, or its node was lost"
# Snakemake's own words.
_BEGIN = re.compile(r"^Building DAG of jobs")
_COUNT = re.compile(r"^(\w+)\s+(\d+)\s*$")
_FINISHED = re.compile(r"^Finished jobid: (\d+) \(Rule: (\w+)\)")
_STEPS = re.compile(r"^(\d+) of (\d+) steps \(")
_ERROR_IN = re.compile(r"^Error in rule (\w+):")
_DETAIL = re.compile(r"^    (message|jobid|log): (\S+.*)")
_RETRIED = re.compile(r"^Trying to restart job \d+")


@dataclass(frozen=True)
class Running:
    """A job at work: since how many seconds, and what it counts."""

    job: str
    seconds: float
    told: str
    share: float | None


@dataclass
class Status:
    """How the last run in a results folder stands.

    Attributes:
        results: the folder.
        state: "running", "done", "failed", "stopped", or "never ran".
        holder: who holds the folder, as the lock tells; None when nobody does.
        done, total: jobs of the last run.
        rules: by rule, jobs of the last run that are done and those planned.
        made: jobs by rule that ever left a manifest.
        running: jobs at work.
        failures: jobs that failed in the last run, in order.
        retries: jobs that were started again.
        waiting: jobs that a cluster has not started yet, each as "number state reason".
    """

    results: str
    state: str = "never ran"
    holder: dict[str, Any] | None = None
    done: int = 0
    total: int = 0
    rules: dict[str, tuple[int, int]] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    retries: int = 0
    waiting: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read(results: Path) -> Status:
    """The status of a results folder; nothing is started, locked or changed.

    Raises DataError when the folder is not there.
    """
    if not results.is_dir():
        raise DataError(f"{results} is not a results folder; give that of a run, or its config")
    status = Status(str(results), holder=lock.read_holder(results))
    heard = _Heard()
    for line in _last_run(results / LOG):
        heard.take(line)
    status.done, status.total, status.retries = heard.done, heard.total, heard.retries
    status.rules = heard.rules()
    told = job_status.read_failures(results / job_status.FOLDER)
    known = {(each.rule, each.log) for each in told}
    killed = [each for each in heard.failures.values() if (each.rule, each.log) not in known]
    status.failures = [each for each in (*told, *killed) if each.cause != job_status.STOPPED]
    status.made = _made(results / "manifests")
    if status.holder is not None:
        status.state = "running"
        status.waiting = [job for job in lock.cluster_jobs(status.holder) if job.split()[1] == "PENDING"]
        status.running = [_running(job) for job in job_status.read_running(results / job_status.FOLDER).values()]
    elif status.failures:
        status.state = "failed"
    elif heard.idle or (heard.total and heard.done == heard.total):
        status.state = "done"
    elif heard.total:
        status.state = "stopped"
    return status


@dataclass
class _Heard:
    """What Snakemake's lines of one run tell."""

    done: int = 0
    total: int = 0
    idle: bool = False
    retries: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    finished: Counter[str] = field(default_factory=Counter)
    _counting: bool = False
    _error: dict[str, str] = field(default_factory=dict)

    def take(self, line: str) -> None:
        if line.startswith("Job stats"):
            self._counting = True
        elif not line.strip():
            self._counting = False
        if self._counting and (found := _COUNT.match(line)):
            # The table comes again when a checkpoint has told what follows.
            if found[1] == "total":
                self.total = max(self.total, int(found[2]))
            else:
                self.wanted[found[1]] = int(found[2])
        elif found := _FINISHED.match(line):
            self.finished[found[2]] += 1
            self.failures.pop(found[1], None)
        elif found := _STEPS.match(line):
            self.done, self.total = int(found[1]), int(found[2])
        elif found := _ERROR_IN.match(line):
            self._error = {"rule": found[1]}
        elif found := _DETAIL.match(line):
            self._error[found[1]] = found[2]
            self._told()
        elif _RETRIED.match(line):
            self.retries += 1
        self.idle = self.idle or line.startswith("Nothing to be done")

    def _told(self) -> None:
        """The block on a failed job, which may tell less with every line that is not there."""
        error = self._error
        if "rule" in error and "jobid" in error:
            message = error.get("message", "None")
            why = KILLED if message == "None" else message
            log = error.get("log", "").removesuffix(" (check log file(s) for error details)")
            self.failures[error["jobid"]] = Failure(
                f"{error['rule']} (job {error['jobid']})", why, log, job_status.ERROR
            )

    def rules(self) -> dict[str, tuple[int, int]]:
        """Jobs done and planned by rule; `all` makes nothing."""
        names = [name for name in {**self.wanted, **self.finished} if name != "all"]
        return {name: (self.finished[name], max(self.wanted.get(name, 0), self.finished[name])) for name in names}


def _last_run(log: Path) -> Iterator[str]:
    """The lines of the last run in Snakemake's log, which holds all of them one after the other."""
    if not log.exists():
        return
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    begun = [number for number, line in enumerate(lines) if _BEGIN.match(line)]
    yield from lines[begun[-1] :] if begun else lines


def _made(manifests: Path) -> dict[str, int]:
    """Manifests by rule: {rule}.json, or any number below {rule}/."""
    found: Counter[str] = Counter()
    for path in manifests.rglob("*.json"):
        found[path.relative_to(manifests).parts[0].removesuffix(".json")] += 1
    return dict(sorted(found.items()))


def _running(job: dict[str, Any]) -> Running:
    share = job["done"] / job["total"] if job.get("total") else None
    what = f"{job['label']}: {format_rate(job)}".removesuffix(": ") if "label" in job else ""
    return Running(job["job"], time.time() - job["started"], what, share)


def lines(status: Status) -> list[str]:
    """The status as people read it, the most urgent first."""
    who = status.holder or {}
    told = {
        "running": f"running as process {who.get('pid')} on {who.get('host')} since {who.get('started')}",
        "done": "done",
        "failed": f"failed: {len(status.failures)} job(s)",
        "stopped": "stopped before it was done; run it again to go on",
        "never ran": "nobody has run here yet",
    }[status.state]
    out = [f"{status.results}: {told}"]
    if status.total:
        out.append(f"{status.done} of {status.total} jobs of the last run done")
    if status.retries:
        out.append(f"{status.retries} job(s) were started again")
    for each in status.failures:
        out.append(f"failed   {each.job}: {each.reason}{f' (log: {each.log})' if each.log else ''}")
    out += [f"waiting  on the cluster: job {job}" for job in status.waiting]
    for job in status.running:
        share = f"{100 * job.share:.0f} %, " if job.share is not None else ""
        out.append(f"running  {job.job}: {share}{format_duration(job.seconds)}{f', {job.told}' if job.told else ''}")
    for rule, (done, total) in status.rules.items():
        if done < total:
            out.append(f"to do    {rule}: {total - done} of {total}")
    return out


def save_page(status: Status, path: Path) -> None:
    """Writes the status as one self-contained HTML page."""
    share = {rule: round(100 * done / total) if total else 0 for rule, (done, total) in status.rules.items()}
    words = {"status": status, "headline": lines(status)[0], "share": share, "duration": format_duration}
    with atomic_write(path) as part:
        part.write_text(templates.render(PAGE, words), encoding="utf-8")
