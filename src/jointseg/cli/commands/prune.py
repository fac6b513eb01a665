"""`jointseg audit prune`: deletes what a finished run can make again."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command

AGAIN = (
    "`jointseg run` makes deleted files again when a job needs them, and the chips in any case, with all that follows "
    "from them: the same bytes, as long as code, packages and device are the same."
)


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "prune",
        run,
        "Say what of a finished run may be deleted so that all that stays can still be verified and explained.",
        "examples:\n"
        "  jointseg audit prune results/yreb                      # says what would go; deletes nothing\n"
        "  jointseg audit prune results/yreb --delete\n"
        "  jointseg audit prune results/yreb --delete --keep chips --keep logs\n\n"
        "May go: chips, images (super-resolved chips), predictions, products (on chips), previews, logs, benchmarks.\n"
        "Stays: maps, mosaics, report, release, tables, checkpoints, scene lists, composites, the dataset's index,\n"
        "pairs and labels, sources, and every manifest. What went is listed in RESULTS/pruned.json, with hashes.\n"
        f"{AGAIN}\n\n"
        "exit status: 0 done, 1 a file was left because it is not what its manifest says, 2 the folder cannot be read",
    )
    parser.add_argument("results", type=Path, help="results folder of a finished run")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--delete", action="store_true", help="delete; without it nothing is touched")
    mode.add_argument("--dry-run", action="store_true", help="say what would go (the default)")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="KIND", help="a kind to keep; may be given again"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress

    from jointseg.audit.prune import Deletion, delete, find_prunable
    from jointseg.run import lock

    kinds = find_prunable(given.results, given.keep)
    done: Deletion | None = None
    if given.delete and kinds:
        columns = ("deleting", BarColumn(), DownloadColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        with lock.hold(given.results, ["jointseg", "audit", "prune"]), progress:
            task = progress.add_task("deleting", total=sum(each.bytes for each in kinds if not each.missing))
            done = delete(given.results, kinds, lambda file: progress.advance(task, file.size))
    left = done.left if done else []
    if given.json:
        told = {"results": given.results.as_posix(), "kinds": [each.as_json() for each in kinds], "left": left}
        told |= {
            "bytes": sum(each.bytes for each in kinds if not each.missing),
            "deleted": len(done.files) if done else 0,
        }
        print(json.dumps(told, indent=1, sort_keys=True))
    else:
        _tell(kinds, done)
    return FINDINGS if left else OK


def _tell(kinds: list[Any], done: Any) -> None:
    """Prints for people what goes, what is lost, and what it takes to have it again."""
    from rich.table import Table

    from jointseg.audit.prune import PRUNED_LIST
    from jointseg.run.console import text_console

    console = text_console()
    if not kinds:
        console.print("nothing to delete")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("kind", "files", "MB", "seconds to make again", "lost until then", "to make it again"):
        table.add_column(column, overflow="fold", justify="right" if column in ("files", "MB") else "left")
    for each in kinds:
        seconds = "-" if each.seconds is None else f"{each.seconds:.0f}"
        table.add_row(each.kind, str(len(each.files)), f"{each.bytes / 1e6:.1f}", seconds, each.lost, _again(each))
    console.print(table)
    console.print()
    total = sum(each.bytes for each in kinds if not each.missing) / 1e6
    if done is None:
        console.print(f"{total:.1f} MB can be deleted; nothing was: give --delete")
    else:
        freed = sum(each.size for each in done.files) / 1e6
        console.print(f"{freed:.1f} MB in {len(done.files)} files deleted; they are listed in {PRUNED_LIST}")
        for path in done.left:
            console.print(f"left: {path} is not what its manifest says")
    console.print(AGAIN)


def _again(kind: Any) -> str:
    if kind.seconds is None:
        return "not made again"
    if kind.missing:
        return f"not possible, so it stays: {', '.join(kind.missing[:3])} is not there"
    return f"needs {', '.join(kind.first)} made again first" if kind.first else "all inputs are there"
