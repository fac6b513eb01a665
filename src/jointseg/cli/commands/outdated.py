"""`jointseg audit outdated`: which jobs are outdated, why, and what rerunning them costs."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command

MAX_TEXT = 60  # characters of a value


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "outdated",
        run,
        "List what a run would rebuild and why, without running anything.",
        "examples:\n"
        "  jointseg audit outdated config.yaml                changes, and the number of jobs that follow\n"
        "  jointseg audit outdated config.yaml --jobs         every job\n"
        "  jointseg audit outdated config.yaml --json > outdated.json\n\n"
        "The jobs are those of `jointseg run config.yaml -n`. Hours are those of the last run of the same jobs, by\n"
        "device.\n\n"
        "exit status: 0 everything is up to date, 1 jobs are outdated, 2 the workflow cannot be planned",
    )
    parser.add_argument("config", type=Path, help="config of the run")
    parser.add_argument("--jobs", action="store_true", help="list every job, not only the changes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    from jointseg.audit.outdated import find_outdated

    plan = find_outdated(args.config)
    if args.json:
        print(json.dumps(plan.as_json(), indent=1, sort_keys=True))
    else:
        _print_plan(plan, args.jobs)
    return FINDINGS if plan.jobs else OK


def _print_plan(plan: Any, with_jobs: bool) -> None:
    from jointseg.run.console import format_duration, text_console

    console = text_console()
    if not plan.jobs:
        console.print("everything is up to date")
        return
    _print_changes(console, plan)
    if with_jobs:
        _print_jobs(console, plan)
    rules = Counter(job.rule for job in plan.jobs)
    console.print(f"{len(plan.jobs)} jobs would run: " + ", ".join(f"{count} {rule}" for rule, count in rules.items()))
    for device, hours in plan.hours().items():
        console.print(f"the last run of these jobs took {format_duration(3600 * hours)} on {device}")
    if plan.unmeasured():
        console.print(f"{plan.unmeasured()} of them have never run: their duration is not known")
    if plan.open:
        console.print("the tile grid is rebuilt: after that, more jobs may be outdated")


def _print_changes(console: Any, plan: Any) -> None:
    from jointseg.audit.outdated import code_location
    from jointseg.run.console import first_of, text_table

    jobs_by_change: dict[Any, list[str]] = {}
    for job in plan.jobs:
        for change in job.changes:
            jobs_by_change.setdefault(change, []).append(job.name)
    table = text_table("reason", "what", "before", "now", "jobs")
    for change, names in jobs_by_change.items():
        location = code_location(change)
        what = f"{change.what} ({location})" if location else change.what
        table.add_row(change.kind, what, _shorten(change.before), _shorten(change.after), first_of(names, 2))
    console.print(table)
    console.print()


def _print_jobs(console: Any, plan: Any) -> None:
    from jointseg.run.console import format_duration, text_table

    table = text_table("job", "follows from", "last run took")
    for job in plan.jobs:
        took = format_duration(job.seconds) if job.seconds is not None else "never ran"
        table.add_row(job.name, ", ".join(job.follows[:3]) + (" ..." if len(job.follows) > 3 else ""), took)
    console.print(table)
    console.print()


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
