"""`jointseg audit prune`: delete files of a finished run that can be rebuilt."""

import argparse
import json
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command

REBUILD = (
    "`jointseg run` rebuilds deleted files when a job needs them, and the chips in any case, with everything that\n"
    "depends on them. The bytes are equal if code, packages and device are."
)


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "prune",
        run,
        "List or delete files of a finished run that `audit verify` and `audit explain` do not need.",
        "examples:\n"
        "  jointseg audit prune results/yreb                      # list what would be deleted\n"
        "  jointseg audit prune results/yreb --delete\n"
        "  jointseg audit prune results/yreb --delete --keep chips --keep logs\n\n"
        "Deletes chips, images (super-resolved chips), predictions, products (on chips), previews, logs and\n"
        "benchmarks. Maps, mosaics, report, release, tables, checkpoints, scene lists, composites, the dataset's index,\n"
        "pairs and labels, sources and all manifests stay. RESULTS/pruned.json lists deleted files with checksums.\n"
        f"{REBUILD}\n\n"
        "exit status: 0 done, 1 a file was skipped because it differs from its manifest, 2 the folder cannot be read",
    )
    parser.add_argument("results", type=Path, help="results folder of a finished run")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--delete", action="store_true", help="delete the files; without it they are only listed")
    mode.add_argument("--dry-run", action="store_true", help="only list the files (the default)")
    parser.add_argument("--keep", action="append", default=[], metavar="KIND", help="a kind to keep; can be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    from rich.progress import BarColumn, DownloadColumn

    from jointseg.audit.prune import Deletion, delete, find_prunable
    from jointseg.run import lock
    from jointseg.run.console import stderr_progress

    kinds = find_prunable(args.results, args.keep)
    done: Deletion | None = None
    if args.delete and kinds:
        progress = stderr_progress("deleting", BarColumn(), DownloadColumn())
        with lock.hold(args.results, ["jointseg", "audit", "prune"]), progress:
            task = progress.add_task("deleting", total=_deletable_bytes(kinds))
            done = delete(args.results, kinds, lambda file: progress.advance(task, file.size))
    skipped = done.skipped if done else []
    if args.json:
        report = {
            "results": args.results.as_posix(),
            "kinds": [kind.as_json() for kind in kinds],
            "skipped": skipped,
            "bytes": _deletable_bytes(kinds),
            "deleted": len(done.files) if done else 0,
        }
        print(json.dumps(report, indent=1, sort_keys=True))
    else:
        _print_report(kinds, done)
    return FINDINGS if skipped else OK


def _deletable_bytes(kinds: list[Any]) -> int:
    return sum(kind.bytes for kind in kinds if not kind.missing)


def _print_report(kinds: list[Any], done: Any) -> None:
    from jointseg.audit.prune import PRUNED_LIST
    from jointseg.run.console import text_console, text_table

    console = text_console()
    if not kinds:
        console.print("nothing to delete")
        return
    columns = ("kind", "files", "MB", "rebuild, s", "unavailable until then", "to rebuild")
    table = text_table(*columns, right=("files", "MB"))
    for kind in kinds:
        seconds = "-" if kind.seconds is None else f"{kind.seconds:.0f}"
        table.add_row(
            kind.kind, str(len(kind.files)), f"{kind.bytes / 1e6:.1f}", seconds, kind.lost, _rebuild_needs(kind)
        )
    console.print(table)
    console.print()
    if done is None:
        console.print(f"{_deletable_bytes(kinds) / 1e6:.1f} MB can be deleted; to delete them, pass --delete")
    else:
        freed = sum(file.size for file in done.files) / 1e6
        console.print(f"{freed:.1f} MB in {len(done.files)} files deleted; {PRUNED_LIST} lists them")
        for path in done.skipped:
            console.print(f"skipped: {path} differs from its manifest")
    console.print(REBUILD)


def _rebuild_needs(kind: Any) -> str:
    if kind.seconds is None:
        return "not rebuilt"
    if kind.missing:
        return f"impossible, so it stays: {', '.join(kind.missing[:3])} is missing"
    return f"rebuild {', '.join(kind.prerequisites)} first" if kind.prerequisites else "all inputs exist"
