"""`jointseg dataset check`: is a dataset's folder what the contract says."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command, add_subcommands, positive


def add(verbs: Subparsers) -> None:
    dataset = add_command(
        verbs,
        "dataset",
        None,
        "Work with datasets of chips.",
        "example:  jointseg dataset check results/synthetic/dataset",
    )
    parser = add_command(
        add_subcommands(dataset),
        "check",
        run,
        "Check a dataset against the contract and name every fault: chip, file, what it is, what it should be, and what "
        "to do about it.",
        "examples:\n"
        "  jointseg dataset check results/yreb/dataset          after a run, or after copying the folder elsewhere\n"
        "  jointseg dataset check isaseg-1.0.0 --json > faults.json\n"
        "  jointseg dataset check --list                        every check, and what it says\n\n"
        "Five themes: the index (columns, ids, places, dates, paths; the samples and pairs that it came from), the files\n"
        "(there, whole, cloud-optimised, on one grid), the values (reflectances, the 1 m image on the 10 m image, codes,\n"
        "shares, fractions), the splits (leakage, spacing, copies, balance) and the documents (statistics, card, STAC\n"
        "collection, sources, checksums). Nothing is written. Every file of a chip is read once, by a thread a CPU.\n\n"
        "Whether the files are still what a run made is another question: `jointseg audit verify`.\n\n"
        "exit status: 0 nothing found, 1 something found, 2 the folder is no dataset",
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", help="the dataset: the folder that holds index.parquet and chips/"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that read chips (default: one a CPU)")
    parser.add_argument("--list", action="store_true", help="print every check and what it says, and check nothing")


def run(given: argparse.Namespace) -> int:
    from jointseg.runtime.errors import DataError

    if given.list:
        _tell_checks()
        return OK
    if given.folder is None:
        raise DataError("give the folder of a dataset, such as results/NAME/dataset, or --list")
    report = check_dataset(given.folder, given.workers)
    if given.json:
        print(json.dumps(report.as_json(), indent=1, sort_keys=True))
    else:
        print_report(report)
    return FINDINGS if report.findings else OK


def check_dataset(folder: Path, workers: int | None = None) -> Any:
    """The report on a folder, with a bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from jointseg.dataset.validation.check import check

    columns = (TextColumn("checking chips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("chips", total=None)
        return check(
            folder,
            workers,
            begun=lambda total: progress.update(task, total=total),
            advance=lambda count: progress.advance(task, count),
        )


def print_report(report: Any) -> None:
    """Prints a report for people."""
    from rich.table import Table
    from rich.text import Text

    from jointseg.dataset.validation.check import CHECKS
    from jointseg.run.console import text_console

    console = text_console()
    if report.findings:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("check", "chip", "file", "is", "should be"):
            table.add_column(column, overflow="fold")
        for each in report.findings:
            table.add_row(*map(Text, (each.check, each.chip, each.file, each.value, each.expected)))
        console.print(table)
        console.print()
        for name, count in report.counts.items():
            console.print(f"{count:6d} {name}: {CHECKS[name].about}; {CHECKS[name].remedy}")
    else:
        console.print("no fault found")
    version = f"version {report.version}" if report.version else "no version told"
    console.print(
        f"{report.chips} chips, {report.files} files, {report.bytes / 1e9:.2f} GB, {version}; "
        f"{len(CHECKS)} checks, faults: {len(report.findings)}"
    )


def _tell_checks() -> None:
    from rich.table import Table

    from jointseg.dataset.validation.check import CHECKS
    from jointseg.run.console import text_console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("theme", "check", "what it says", "what to do"):
        table.add_column(column, overflow="fold")
    for name, each in CHECKS.items():
        table.add_row(each.theme, name, each.about, each.remedy)
    text_console().print(table)
