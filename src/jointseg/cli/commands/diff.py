"""`jointseg audit diff`: compare two runs file by file, and find the first jobs that differ."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command

MAX_FILES, MAX_JOBS = 5, 3  # names printed without --json


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "diff",
        run,
        "Compare two runs: list the files that differ, and for each the first upstream job whose scene list, input, "
        "setting, code, package version, seed or device differs.",
        "examples:\n"
        "  jointseg audit diff results/yreb results/yreb-rerun\n"
        "  jointseg audit diff results/a results/b --maps differences   # one image per raster that differs\n"
        "  jointseg audit diff results/a results/b --json > diff.json\n\n"
        "Files are compared by the checksums in the manifests; files that differ are then read.\n"
        "Manifests that differ only in times and host are equal.\n\n"
        "exit status: 0 all files are equal, 1 some differ, 2 a folder cannot be read",
    )
    parser.add_argument("a", type=Path, metavar="RUN_A", help="results folder of a run")
    parser.add_argument("b", type=Path, metavar="RUN_B", help="results folder of another run of the same workflow")
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="write a PNG of each raster that differs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn

    from jointseg.audit.diff.runs import diff
    from jointseg.run.console import stderr_progress

    if args.maps is not None:
        args.maps.mkdir(parents=True, exist_ok=True)
    with stderr_progress("comparing", BarColumn(), MofNCompleteColumn()) as progress:
        task = progress.add_task("comparing", total=None)
        report = diff(
            args.a,
            args.b,
            args.maps,
            on_start=lambda total: progress.update(task, total=total),
            advance=lambda: progress.advance(task),
        )
    if args.json:
        print(json.dumps(report.as_json(), indent=1, sort_keys=True))
    else:
        _print_report(report)
    return FINDINGS if report.jobs else OK


def _print_report(report: Any) -> None:
    from jointseg.audit.diff.causes import KINDS
    from jointseg.run.console import first_of, text_console

    console = text_console()
    if report.jobs:
        kinds = _print_divergences(console, report)
        console.print()
        _print_jobs(console, report)
        console.print()
        for kind in (kind for kind in KINDS if kind in kinds):
            console.print(f"{kind}: {KINDS[kind]}")
        files = sum(len(job.files) for job in report.jobs)
        console.print(f"{files} files of {len(report.jobs)} jobs differ; {report.identical_jobs} jobs have equal files")
    else:
        console.print(f"no file differs: {report.identical_jobs} jobs have equal files")
    if report.changed_records:
        kinds = {change.kind for job in report.changed_records for change in job.changes}
        jobs = first_of([job.job for job in report.changed_records], MAX_JOBS)
        console.print(f"equal files with different manifests ({', '.join(sorted(kinds))}): {jobs}")


def _print_divergences(console: Any, report: Any) -> set[str]:
    """Print where the runs diverge, one line per difference, and return the kinds of difference."""
    from jointseg.run.console import first_of, text_table

    jobs_by_change: dict[Any, dict[str, None]] = {}
    affected: dict[Any, set[str]] = {}
    for job in report.jobs:
        for divergence in job.divergences:
            for change in divergence.changes:
                key = (change.kind, change.what, change.before, change.after)
                jobs_by_change.setdefault(key, {})[divergence.job] = None
                affected.setdefault(key, set()).add(job.job)
    if not jobs_by_change:
        return set()
    table = text_table("first job that differs", "in", "what", "A", "B", "jobs affected")
    for key, jobs in jobs_by_change.items():
        kind, what, before, after = key
        names = first_of(list(jobs), MAX_JOBS)
        table.add_row(names, kind, what, before or "-", after or "-", str(len(affected[key])))
    console.print(table)
    return {key[0] for key in jobs_by_change}


def _print_jobs(console: Any, report: Any) -> None:
    from jointseg.run.console import text_table

    table = text_table("job", "file", "difference")
    for job in report.jobs:
        if job.side != "both":
            table.add_row(job.job, f"{len(job.files)} files", f"the job is only in {job.side}")
            continue
        for number, file in enumerate(job.files[:MAX_FILES]):
            difference = file.difference.summary if file.difference else f"only in {file.side}"
            table.add_row("" if number else job.job, file.path, difference)
        if len(job.files) > MAX_FILES:
            table.add_row("", f"and {len(job.files) - MAX_FILES} more", f"{len(job.files)} of {job.total} files differ")
    console.print(table)
