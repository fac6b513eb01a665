"""`jointseg audit diff`: which files of two runs differ, and where the runs part."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command

FILES_TOLD, JOBS_TOLD = 5, 3


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "diff",
        run,
        "Name the files of two runs that differ, and for each the first job behind it at which the runs part: in a "
        "scene list, an input, a setting, the code, a package, a seed, the device.",
        "examples:\n"
        "  jointseg audit diff results/yreb results/yreb-again\n"
        "  jointseg audit diff results/a results/b --maps differences   # a picture of each raster that differs\n"
        "  jointseg audit diff results/a results/b --json > diff.json\n\n"
        "Files are compared by the hashes in the manifests; those that differ are then read.\n"
        "Manifests that differ only in times and host count as equal.\n\n"
        "exit status: 0 all files are the same, 1 some differ, 2 a folder cannot be read",
    )
    parser.add_argument("a", type=Path, metavar="RUN_A", help="results folder of a run")
    parser.add_argument("b", type=Path, metavar="RUN_B", help="results folder of another run of the same flow")
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="write a PNG of each raster that differs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    from jointseg.audit.diff.runs import diff

    if given.maps is not None:
        given.maps.mkdir(parents=True, exist_ok=True)
    columns = ("comparing", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("comparing", total=None)
        report = diff(
            given.a,
            given.b,
            given.maps,
            on_start=lambda total: progress.update(task, total=total),
            advance=lambda: progress.advance(task),
        )
    if given.json:
        print(json.dumps(report.as_json(), indent=1, sort_keys=True))
    else:
        _tell(report)
    return FINDINGS if report.jobs else OK


def _tell(report: Any) -> None:
    """Prints a comparison for people: first where the runs part, then what came of it."""

    from jointseg.audit.diff.causes import KINDS
    from jointseg.run.console import text_console

    console = text_console()
    if report.jobs:
        kinds = _partings(console, report)
        console.print()
        _jobs(console, report)
        console.print()
        for kind in (kind for kind in KINDS if kind in kinds):
            console.print(f"{kind}: {KINDS[kind]}")
        files = sum(len(job.files) for job in report.jobs)
        console.print(
            f"{files} files of {len(report.jobs)} jobs differ; {report.identical_jobs} jobs made the same bytes"
        )
    else:
        console.print(f"the same files: {report.identical_jobs} jobs made the same bytes")
    if report.changed_records:
        names = ", ".join(each.job for each in report.changed_records[:JOBS_TOLD])
        more = f" and {len(report.changed_records) - JOBS_TOLD} more" if len(report.changed_records) > JOBS_TOLD else ""
        others = sorted({change.kind for each in report.changed_records for change in each.changes})
        console.print(f"the same bytes under another record ({', '.join(others)}): {names}{more}")


def _partings(console: Any, report: Any) -> set[str]:
    """Prints where the runs part, one line a difference; returns the kinds of difference."""
    from rich.table import Table

    by_change: dict[Any, dict[str, None]] = {}
    behind: dict[Any, set[str]] = {}
    for job in report.jobs:
        for parting in job.divergences:
            for change in parting.changes:
                key = (change.kind, change.what, change.before, change.after)
                by_change.setdefault(key, {})[parting.job] = None
                behind.setdefault(key, set()).add(job.job)
    if not by_change:
        return set()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("the runs part at", "in", "what", "A", "B", "jobs behind it"):
        table.add_column(column, overflow="fold")
    for key, jobs in by_change.items():
        names = ", ".join(list(jobs)[:JOBS_TOLD])
        more = f" and {len(jobs) - JOBS_TOLD} more" if len(jobs) > JOBS_TOLD else ""
        kind, what, before, after = key
        table.add_row(names + more, kind, what, before or "-", after or "-", str(len(behind[key])))
    console.print(table)
    return {key[0] for key in by_change}


def _jobs(console: Any, report: Any) -> None:
    """Prints the differing files by job."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("job", "file", "how"):
        table.add_column(column, overflow="fold")
    for job in report.jobs:
        if job.side != "both":
            table.add_row(job.job, f"{len(job.files)} files", f"the job is only in {job.side}")
            continue
        for number, each in enumerate(job.files[:FILES_TOLD]):
            how = each.difference.summary if each.difference else f"only in {each.side}"
            table.add_row("" if number else job.job, each.path, how)
        if len(job.files) > FILES_TOLD:
            table.add_row(
                "", f"and {len(job.files) - FILES_TOLD} more", f"{len(job.files)} of {job.total} files differ"
            )
    console.print(table)
