"""Terminal output of `jointseg run`: finished jobs, a bar for each running job, one line for each failure."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from jointseg.run.events import RunState
from jointseg.runtime import job_status

FILE_WIDTH = 200  # columns of tables that go to a file or a pipe
LOG_LINES, MESSAGE_LINES = 6, 12


def text_console(width: int | None = None) -> Console:
    """Return a console for tables: `width` columns, else those of the terminal, else FILE_WIDTH."""
    console = Console(soft_wrap=True, highlight=False, markup=False, width=width)
    if width or console.is_terminal:
        return console
    return Console(soft_wrap=True, highlight=False, markup=False, width=FILE_WIDTH)


def text_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return a table without borders whose cells wrap; the columns in `right` are right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return table


def first_of(names: list[str], count: int) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def format_duration(seconds: float) -> str:
    """Return a duration such as 42s, 3m 05s or 2h 07m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def format_rate(job: dict) -> str:
    """Return the rate of a running job, and the remaining time if the total is known."""
    if not job.get("seconds") or not job.get("done"):
        return ""
    per_second = job["done"] / job["seconds"]
    text = f"{per_second:.3g} {job['unit']}/s" if per_second >= 1 else f"{1 / per_second:.3g} s/{job['unit']}"
    if job.get("total") is None:
        return text
    return f"{text}, {format_duration(max(job['total'] - job['done'], 0) / per_second)} left"


def stderr_progress(*columns: ProgressColumn | str) -> Progress:
    """Return progress bars on standard error that vanish at the end."""
    return Progress(*columns, console=Console(stderr=True), transient=True)


class Display:
    """Progress of a run: bars on a terminal, lines elsewhere."""

    def __init__(self, console: Console, folder: Path) -> None:
        """Print to a console; `folder` has the status files of the running jobs (see `jointseg.runtime.job_status`)."""
        self.console, self.folder = console, folder
        self.state = RunState()
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

    def update(self, event: dict[str, Any]) -> None:
        """Apply one event of Snakemake."""
        line = self.state.update(event)
        if line and not self.console.is_terminal:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def draw(self) -> None:
        """Print each new failure once, and redraw the bars from the status files of the running jobs."""
        for failure in job_status.read_failures(self.folder):
            if failure not in self.failures:
                self.failures.append(failure)
                self._print_error(failure.line())
        if not self.console.is_terminal:
            return
        done, total = self.state.done, self.state.total
        per_job = (time.monotonic() - self.started) / max(done, 1)
        left = f"{format_duration(per_job * (total - done))} left" if done else ""
        self._progress.update(self._all, completed=done, total=total or None, rate=left)
        jobs = job_status.read_running(self.folder)
        for name in self._bars.keys() - jobs.keys():
            self._progress.remove_task(self._bars.pop(name))
        for name, job in jobs.items():
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(job["job"], total=None, rate="")
            description = f"{job['job']}: {job['label']}" if "label" in job else job["job"]
            self._progress.update(
                self._bars[name],
                description=f"  {description}",
                completed=job.get("done", 0),
                total=job.get("total"),
                rate=format_rate(job),
            )

    def conclude(self, status: int, log: Path) -> None:
        """Print the result of the run; `status` is Snakemake's exit status, `log` the file with its output."""
        took, state = format_duration(time.monotonic() - self.started), self.state
        jobs = f"{state.done} of {state.total} jobs done"
        if status == 0:
            result = "nothing to do: everything is up to date" if state.nothing_to_do else jobs
            self.console.print(f"{result} ({took})", highlight=False)
            return
        if not self.failures and not state.stopping:
            for line in self._reason(log):
                self._print_error(line)
        result = "stopped" if state.stopping else "failed"
        self.console.print(f"{result} after {took}, {jobs}; see {log}", soft_wrap=True)

    def _reason(self, log: Path) -> list[str]:
        """Return why a run without job messages failed: failed jobs, else Snakemake's errors, else the end of its log."""
        if self.state.errors:
            return [f"rule {error.name}: {error.reason}" for error in self.state.errors]
        if self.state.messages:
            return [line for message in self.state.messages for line in message.splitlines()][:MESSAGE_LINES]
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if line.strip()][-LOG_LINES:]

    def _print_error(self, line: str) -> None:
        self.console.print(Text(line, style="red"), soft_wrap=True)
