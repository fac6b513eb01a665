"""`jointseg dataset check`: validate the folder of a dataset."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command, add_subcommands, positive


def add(commands: Subparsers) -> None:
    example = "example:  jointseg dataset check results/synthetic/dataset"
    dataset = add_command(commands, "dataset", None, "Work with datasets of chips.", example)
    parser = add_command(
        add_subcommands(dataset),
        "check",
        run,
        "Validate a dataset and list every fault with its chip, file, actual and expected value, and remedy.",
        "examples:\n"
        "  jointseg dataset check results/yreb/dataset          after a run, or after copying the folder\n"
        "  jointseg dataset check isaseg-1.0.0 --json > faults.json\n"
        "  jointseg dataset check --list                        list the checks\n\n"
        "Checks the index (columns, ids, locations, dates, paths; its samples and pairs), the files (present,\n"
        "complete, cloud-optimised, on one grid), the values (reflectances, 1 m against 10 m image, class codes,\n"
        "fractions), the splits (leakage, spacing, duplicates, balance) and the documents (statistics, card, STAC\n"
        "collection, sources, checksums). Writes nothing. Every chip is read once, by one thread per CPU.\n\n"
        "To compare files with their recorded checksums, use `jointseg audit verify`.\n\n"
        "exit status: 0 no fault, 1 faults found, 2 the folder is not a dataset",
    )
    parser.add_argument("folder", type=Path, nargs="?", help="dataset folder, with index.parquet and chips/")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that read chips (default: one per CPU)")
    parser.add_argument("--list", action="store_true", help="list the checks and exit")


def run(args: argparse.Namespace) -> int:
    from jointseg.runtime.errors import DataError

    if args.list:
        _print_checks()
        return OK
    if args.folder is None:
        raise DataError("no dataset folder: pass one, such as results/NAME/dataset, or --list")
    report = check_dataset(args.folder, args.workers)
    if args.json:
        print(json.dumps(report.as_json(), indent=1, sort_keys=True))
    else:
        print_report(report)
    return FINDINGS if report.findings else OK


def check_dataset(folder: Path, workers: int | None = None) -> Any:
    """Validate a dataset with a progress bar on standard error, and return the report."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from jointseg.dataset.validation.check import check
    from jointseg.run.console import stderr_progress

    columns = (TextColumn("checking chips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with stderr_progress(*columns) as progress:
        task = progress.add_task("chips", total=None)
        return check(
            folder,
            workers,
            on_start=lambda total: progress.update(task, total=total),
            on_progress=lambda count: progress.advance(task, count),
        )


def print_report(report: Any) -> None:
    from rich.text import Text

    from jointseg.dataset.validation.check import CHECKS
    from jointseg.run.console import text_console, text_table

    console = text_console()
    if report.findings:
        table = text_table("check", "chip", "file", "value", "expected")
        for finding in report.findings:
            cells = (finding.check, finding.chip, finding.file, finding.value, finding.expected)
            table.add_row(*map(Text, cells))
        console.print(table)
        console.print()
        for name, count in report.counts.items():
            console.print(f"{count:6d} {name}: {CHECKS[name].summary}; {CHECKS[name].remedy}")
    else:
        console.print("no fault found")
    version = f"version {report.version}" if report.version else "no version"
    console.print(
        f"{report.chips} chips, {report.files} files, {report.bytes / 1e9:.2f} GB, {version}; "
        f"{len(CHECKS)} checks, faults: {len(report.findings)}"
    )


def _print_checks() -> None:
    from jointseg.dataset.validation.check import CHECKS
    from jointseg.run.console import text_console, text_table

    table = text_table("theme", "check", "what is checked", "remedy")
    for name, check in CHECKS.items():
        table.add_row(check.theme, name, check.summary, check.remedy)
    text_console().print(table)
