"""Events of one Snakemake run, in the file that `snakemake_logger_plugin_jointseg` writes."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(".jointseg", "events.jsonl")  # in a results folder; a run empties it when it starts
NO_MESSAGE = "ended without an error message: killed, or its node was lost"


@dataclass(frozen=True)
class JobError:
    """Snakemake's report of a failed job, or of a failed group of jobs on a cluster."""

    name: str  # the job, or the jobs of the group
    reason: str  # Snakemake's message, else NO_MESSAGE
    logs: tuple[tuple[str, str], ...]  # (rule, log file) of each job


@dataclass
class RunState:
    """State of one run after the events read so far."""

    # done, total: finished and planned jobs, the target rule included
    done: int = 0
    total: int = 0
    nothing_to_do: bool = False  # every requested file is up to date
    stopping: bool = False  # Snakemake is terminating its jobs after an interrupt
    retries: int = 0
    # planned, finished: jobs by rule
    planned: dict[str, int] = field(default_factory=dict)
    finished: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    _rules: dict[int, str] = field(default_factory=dict)
    _errors: dict[int, JobError] = field(default_factory=dict)

    def update(self, event: dict[str, Any]) -> str | None:
        """Apply one event and return the line to print if the output is not a terminal, or None."""
        line = None
        match event["event"]:
            case "run_info":
                self.planned = dict(event["jobs_by_rule"])
                self.total = self.planned.pop("total")
            case "job_info":
                self._rules[event["job"]] = event["rule"]
                self.retries += event["job"] in self._errors
                line = event["message"]
            case "job_finished":
                self.finished[self._rules[event["job"]]] += 1
                self._errors.pop(event["job"], None)
            case "job_error" if not event["in_group"]:
                name = f"{event['rule']} (job {event['job']})"
                logs = ((event["rule"], event["log"]),)
                self._errors[event["job"]] = JobError(name, event["message"] or NO_MESSAGE, logs)
            case "group_error":
                jobs = event["jobs"]
                name = ", ".join(f"{job['rule']} (job {job['job']})" for job in jobs)
                error = JobError(name, NO_MESSAGE, tuple((job["rule"], job["log"]) for job in jobs))
                self._errors.update((job["job"], error) for job in jobs)
            case "progress":
                self.done, self.total = event["done"], event["total"]
                line = f"{self.done} of {self.total} jobs done"
            case "error":
                self.messages.append(event["message"])
            case "nothing_to_do":
                self.nothing_to_do = True
            case "stopping":
                self.stopping = True
        return line

    @property
    def errors(self) -> list[JobError]:
        """Jobs and groups that failed and have not finished since."""
        return list(dict.fromkeys(self._errors.values()))

    @property
    def rules(self) -> dict[str, tuple[int, int]]:
        """(finished, planned) jobs by rule, without the target rule `all`."""
        names = [name for name in {**self.planned, **self.finished} if name != "all"]
        # Jobs that follow from a checkpoint are not in the plan that Snakemake reports at the start.
        return {name: (self.finished[name], max(self.planned.get(name, 0), self.finished[name])) for name in names}


class EventReader:
    """Reads the events that were appended to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the new events; an incomplete line is left for the next call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


def read_state(results: Path) -> RunState:
    """Return the state of the last run in a results folder."""
    state = RunState()
    for event in EventReader(results / FILE).read():
        state.update(event)
    return state
