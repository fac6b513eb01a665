"""`jointseg audit stale`: what would run again, why, and what that would cost."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "stale",
        run,
        "Tell what a run would make again and why, without running anything.",
        "examples:\n"
        "  jointseg audit stale config.yaml                what changed, and how many jobs follow from it\n"
        "  jointseg audit stale config.yaml --jobs         every job\n"
        "  jointseg audit stale config.yaml --json > stale.json\n\n"
        "The jobs are those of `jointseg run config.yaml -n`. Hours are those that the same jobs took when they last\n"
        "ran, by device.\n\n"
        "exit status: 0 everything is up to date, 1 something would run, 2 the flow cannot be planned",
    )
    parser.add_argument("config", type=Path, help="config of the run")
    parser.add_argument("--jobs", action="store_true", help="name every job, not only what changed")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(given: argparse.Namespace) -> int:
    from jointseg.audit.outdated import find_outdated

    plan = find_outdated(given.config)
    if given.json:
        print(json.dumps(plan.as_json(), indent=1, sort_keys=True))
    else:
        _tell(plan, given.jobs)
    return FINDINGS if plan.jobs else OK


def _tell(plan: Any, every: bool) -> None:
    """Prints a plan for people: first what changed, then how far it reaches."""
    from rich.table import Table

    from jointseg.audit.outdated import code_location
    from jointseg.run.console import format_duration, text_console

    console = text_console()
    if not plan.jobs:
        console.print("nothing is stale: a run would make nothing")
        return
    causes: dict[Any, list[str]] = {}
    for job in plan.jobs:
        for change in job.changes:
            causes.setdefault(change, []).append(job.name)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("why", "what", "before", "now", "jobs"):
        table.add_column(column, overflow="fold")
    for change, names in causes.items():
        where = code_location(change)
        what = f"{change.what} ({where})" if where else change.what
        jobs = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
        table.add_row(change.kind, what, _short(change.before), _short(change.after), jobs)
    console.print(table)
    console.print()
    if every:
        listed = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("job", "follows", "took"):
            listed.add_column(column, overflow="fold")
        for job in plan.jobs:
            took = format_duration(job.seconds) if job.seconds is not None else "never ran"
            listed.add_row(job.name, ", ".join(job.follows[:3]) + (" ..." if len(job.follows) > 3 else ""), took)
        console.print(listed)
        console.print()
    rules: dict[str, int] = {}
    for job in plan.jobs:
        rules[job.rule] = rules.get(job.rule, 0) + 1
    console.print(f"{len(plan.jobs)} jobs would run: " + ", ".join(f"{count} {rule}" for rule, count in rules.items()))
    for device, hours in plan.hours().items():
        console.print(f"they last took {format_duration(3600 * hours)} on {device}")
    if plan.unmeasured():
        console.print(f"{plan.unmeasured()} of them never ran: what they take is not known")
    if plan.open:
        console.print("the tiles are cut anew: once that is done, more jobs may turn out stale")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
