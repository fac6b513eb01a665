"""`jointseg audit verify`: is every file still what was made."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.verbs import FINDINGS, OK, Verbs, positive, verb


def add(verbs: Verbs) -> None:
    parser = verb(
        verbs,
        "verify",
        run,
        "Hash a results folder again and name every file that is missing, changed or made by nobody.",
        "examples:\n"
        "  jointseg audit verify results/yreb\n"
        "  jointseg audit verify results/yreb --json > audit.json\n\n"
        "exit status: 0 nothing found, 1 something found, 2 the folder cannot be audited",
    )
    parser.add_argument("results", type=Path, help="results folder of a run; it may have been moved")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that hash (default: one a CPU)")


def run(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from jointseg.audit.verify import audit

    columns = ("hashing", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("hashing")
        report = audit(
            given.results,
            given.workers,
            begun=lambda total: progress.update(task, total=total),
            advance=lambda count: progress.advance(task, count),
        )
    if given.json:
        print(json.dumps(report.as_json(), indent=1, sort_keys=True))
    else:
        _tell(report)
    return FINDINGS if report.findings else OK


def _tell(report: Any) -> None:
    """Prints an audit for people."""
    from rich.console import Console
    from rich.table import Table

    from jointseg.audit.verify import KINDS

    console = Console(soft_wrap=True, highlight=False)
    if report.findings:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("what", "file", "by", "how"):
            table.add_column(column, overflow="fold")
        for finding in report.findings:
            table.add_row(finding.kind, finding.path, finding.manifest, finding.detail)
        console.print(table)
        counts = report.as_json()["counts"]
        console.print()
        for kind, count in counts.items():
            console.print(f"{count:6d} {kind}: {KINDS[kind]}")
    else:
        console.print("every file is what its manifest says, and every input is what was made")
    console.print(
        f"{report.files} files, {report.bytes / 1e9:.2f} GB, {report.manifests} manifests; "
        f"{report.outside_inputs} inputs from outside the folder were not hashed"
    )
