"""What `jointseg run` shows: the jobs done, a bar for each running job, failures in one line."""

import re
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from jointseg.runtime import job_status

# Snakemake's own words.
_STEPS = re.compile(r"^(\d+) of (\d+) steps \(")
_TOTAL = re.compile(r"^total\s+(\d+)\s*$")
_STARTED = re.compile(r"^Job (\d+): (.+)$")
_STOPPING = "Terminating processes on user request"
_IDLE = "Nothing to be done"


@dataclass
class Flow:
    """What Snakemake's output has told so far."""

    done: int = 0
    total: int = 0
    idle: bool = False
    stopping: bool = False
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=200))

    def hear(self, line: str) -> str | None:
        """Takes one line of output in; returns what a person without bars should read of it."""
        self.lines.append(line)
        if found := _STEPS.match(line):
            self.done, self.total = int(found[1]), int(found[2])
            return f"{self.done} of {self.total} jobs done"
        if found := _TOTAL.match(line):
            self.total = int(found[1])
        elif found := _STARTED.match(line):
            return found[2]
        self.stopping = self.stopping or line.startswith(_STOPPING)
        self.idle = self.idle or line.startswith(_IDLE)
        return None

    def reason(self) -> list[str]:
        """Snakemake's own words on why it ended, where no job said it."""
        words = [line for line in self.lines if line.strip()]
        marks = [number for number, line in enumerate(words) if re.search(r"(Error|Exception|Locked)\b", line)]
        return words[marks[0] :][:12] if marks else words[-6:]


def text_console(width: int | None = None) -> Console:
    """The console for tables that people read: as wide as asked, else wide where the output goes to a file or a pipe."""
    console = Console(soft_wrap=True, highlight=False, markup=False, width=width)
    return (
        console if width or console.is_terminal else Console(soft_wrap=True, highlight=False, markup=False, width=200)
    )


def format_duration(seconds: float) -> str:
    """Seconds as people write them: 42s, 3m 05s, 2h 07m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def format_rate(job: dict) -> str:
    """Rate and time left of a running job, from its bar's state."""
    if not job.get("seconds") or not job.get("done"):
        return ""
    speed = job["done"] / job["seconds"]
    said = f"{speed:.3g} {job['unit']}/s" if speed >= 1 else f"{1 / speed:.3g} s/{job['unit']}"
    if job.get("total") is None:
        return said
    return f"{said}, {format_duration(max(job['total'] - job['done'], 0) / speed)} left"


class Display:
    """Bars on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console, self.folder = console, folder
        self.flow = Flow()
        self.started = time.monotonic()
        self.failures: list[job_status.Failure] = []
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            console=console,
            transient=True,
        )
        self._all = self._progress.add_task("all jobs", total=None, rate="")

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._progress.stop()

    def hear(self, line: str) -> None:
        """Takes one line of Snakemake's output."""
        words = self.flow.hear(line)
        if words and not self.console.is_terminal:
            self.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def draw(self) -> None:
        """Tells of jobs that failed, once each, and brings the bars up to date with the notes of the running jobs."""
        for each in job_status.read_failures(self.folder):
            if each not in self.failures:
                self.failures.append(each)
                self.console.print(Text(each.line(), style="red"), soft_wrap=True)
        if not self.console.is_terminal:
            return
        flow = self.flow
        left = ""
        if flow.done:
            left = format_duration((time.monotonic() - self.started) / flow.done * (flow.total - flow.done)) + " left"
        self._progress.update(self._all, completed=flow.done, total=flow.total or None, rate=left)
        jobs = job_status.read_running(self.folder)
        for name in self._bars.keys() - jobs.keys():
            self._progress.remove_task(self._bars.pop(name))
        for name, job in jobs.items():
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(job["job"], total=None, rate="")
            what = f"{job['job']}: {job['label']}" if "label" in job else job["job"]
            self._progress.update(
                self._bars[name],
                description=f"  {what}",
                completed=job.get("done", 0),
                total=job.get("total"),
                rate=format_rate(job),
            )

    def conclude(self, status: int, log: Path) -> None:
        """The last lines: what was made, or why not and where to read more."""
        took = format_duration(time.monotonic() - self.started)
        flow = self.flow
        if status == 0:
            said = "nothing to do: everything is up to date" if flow.idle else f"{flow.done} of {flow.total} jobs done"
            self.console.print(f"{said} ({took})", highlight=False)
            return
        if not self.failures and not flow.stopping:
            for line in flow.reason():
                self.console.print(Text(line, style="red"), soft_wrap=True)
        word = "stopped" if flow.stopping else "failed"
        self.console.print(f"{word} after {took}, {flow.done} of {flow.total} jobs done; see {log}", soft_wrap=True)
