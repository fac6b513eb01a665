"""`jointseg audit replay`: recompute jobs and map blocks of a run, and compare them byte by byte."""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command, positive

SAMPLE = 5  # jobs
MAX_CHANGES = 6  # printed without --json


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "replay",
        run,
        "Recompute random jobs of a run from their manifests in a scratch folder, and compare the bytes.",
        "examples:\n"
        "  jointseg audit replay results/yreb                       # five jobs of five rules\n"
        "  jointseg audit replay results/yreb --sample all\n"
        "  jointseg audit replay results/yreb --rule composite --rule predict --sample 4\n"
        "  jointseg audit replay results/yreb --windows 20          # 250 m blocks of random maps\n\n"
        "The results are not changed. Outputs go to a folder in $TMPDIR that is deleted at the end. A difference is\n"
        "explained if code, a package or the device differ from the manifest.\n\n"
        "exit status: 0 no unexplained difference, 1 unexplained differences, 2 the folder cannot be read",
    )
    parser.add_argument("results", type=Path, help="results folder of a run; it may have been moved")
    parser.add_argument(
        "--sample", type=_count, metavar="N", help=f"jobs to replay, or `all` (default: {SAMPLE}, 0 with --windows)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the sample (default: 0)")
    parser.add_argument("--rule", action="append", default=[], help="only jobs of this rule; can be repeated")
    parser.add_argument("--windows", type=positive, metavar="N", help="map blocks to recompute")
    parser.add_argument(
        "--tolerance",
        type=_fraction,
        default=0.0,
        metavar="FRACTION",
        help="fraction of a raster's pixels that may differ on another device (default: 0, equal bytes)",
    )
    parser.add_argument("--network", action="store_true", help="also replay jobs that read from the network")
    parser.add_argument("--keep", action="store_true", help="keep outputs that differ, and print their folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _count(text: str) -> float:
    return float("inf") if text == "all" else positive(text)


def _fraction(text: str) -> float:
    fraction = float(text)
    if not 0 <= fraction <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a fraction between 0 and 1")
    return fraction


def run(args: argparse.Namespace) -> int:
    from jointseg.audit.lineage import Lineage
    from jointseg.audit.replay.sample import FINDINGS as DIFFERENT
    from jointseg.audit.replay.sample import as_json, sample_jobs

    lineage = Lineage(args.results)
    count = args.sample if args.sample is not None else 0 if args.windows and not args.rule else SAMPLE
    jobs = sample_jobs(lineage, None if count == float("inf") else int(count), args.seed, args.rule)
    scratch = Path(tempfile.mkdtemp(prefix="jointseg-replay-"))
    kept = scratch / "kept"
    try:
        replays = _replay(args, lineage, jobs, scratch)
    finally:
        for path in scratch.iterdir():
            if path != kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not kept.exists():
            scratch.rmdir()
    if args.json:
        print(json.dumps(as_json(args.results, replays) | {"seed": args.seed}, indent=1, sort_keys=True))
    else:
        _print_replays(replays, args.seed, kept if kept.exists() else None)
    return FINDINGS if any(replay.outcome in DIFFERENT for replay in replays) else OK


def _replay(args: argparse.Namespace, lineage: Any, jobs: list[Any], scratch: Path) -> list[Any]:
    """Replay jobs and map blocks, with a progress bar on standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    from jointseg.audit.replay.sample import replay_jobs
    from jointseg.run.console import stderr_progress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with stderr_progress(*columns) as progress:
        task = progress.add_task("replaying", total=len(jobs) + (args.windows or 0))

        def advance(done: Any) -> None:
            progress.update(task, advance=1, description=done.job)

        tolerance = args.tolerance
        replays: list[Any] = list(
            replay_jobs(
                lineage, jobs, scratch, tolerance=tolerance, network=args.network, keep=args.keep, on_result=advance
            )
        )
        if args.windows:
            from jointseg.audit.replay.windows import replay_windows

            replays += replay_windows(lineage, args.windows, args.seed, tolerance=tolerance, on_result=advance)
    return replays


def _print_replays(replays: list[Any], seed: int, kept: Path | None) -> None:
    from jointseg.audit.replay.sample import OUTCOMES, Replay, as_json
    from jointseg.run.console import first_of, text_console, text_table

    console = text_console()
    columns = ("job", "outcome", "equal", "seconds", "difference", "differs from manifest")
    table = text_table(*columns, right=("seconds",))
    for replay in replays:
        if isinstance(replay, Replay):
            equal = f"{replay.files - replay.differing} of {replay.files} files" if replay.files else ""
        elif replay.bounds:
            west, south = replay.bounds[:2]
            equal = f"{replay.pixels - replay.differing} of {replay.pixels} pixels from {west} E {south} N"
        else:
            equal = "block"
        seconds = "" if replay.seconds is None else f"{replay.seconds:.1f}"
        # The code digest covers what matters of a commit.
        changes = [change for change in replay.changes if change.kind != "commit"]
        lines = [f"{change.kind} {change.what} {change.before}->{change.after}" for change in changes]
        table.add_row(replay.job, replay.outcome, equal, seconds, replay.detail, first_of(lines, MAX_CHANGES))
    console.print(table)
    console.print()
    counts = as_json(Path(), replays)["counts"]
    for outcome in (outcome for outcome in OUTCOMES if outcome in counts):
        console.print(f"{counts[outcome]:6d} {outcome}: {OUTCOMES[outcome]}")
    console.print(f"sampled with --seed {seed}")
    if kept is not None:
        console.print(f"outputs that differ are in {kept}")
