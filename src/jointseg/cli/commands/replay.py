"""`jointseg audit replay`: jobs and blocks of maps computed again, and compared byte by byte."""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command, positive

SAMPLE = 5
TOLD = 6


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "replay",
        run,
        "Compute random jobs of a run again from their manifests, in a scratch folder, and compare the bytes.",
        "examples:\n"
        "  jointseg audit replay results/yreb                       # five jobs of five rules\n"
        "  jointseg audit replay results/yreb --sample all\n"
        "  jointseg audit replay results/yreb --rule composite --rule isa --sample 4\n"
        "  jointseg audit replay results/yreb --windows 20          # blocks of 250 m of random maps\n\n"
        "The results are only read. Outputs go to a folder in $TMPDIR that is deleted in the end.\n"
        "A difference is explained when the code, a package or the device is another than was recorded.\n\n"
        "exit status: 0 no difference that is unexplained, 1 some, 2 the folder cannot be read",
    )
    parser.add_argument("results", type=Path, help="results folder of a run; it may have been moved")
    parser.add_argument(
        "--sample", type=_count, metavar="N", help=f"jobs to replay, or all (default: {SAMPLE}, 0 with --windows)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the sample (default: 0)")
    parser.add_argument("--rule", action="append", default=[], help="only jobs of this rule; may be given again")
    parser.add_argument("--windows", type=positive, metavar="N", help="blocks of maps to compute again")
    parser.add_argument(
        "--tolerance",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of a raster's pixels that may differ on another device (default: 0, the same bytes)",
    )
    parser.add_argument("--network", action="store_true", help="also replay jobs that read from the network")
    parser.add_argument("--keep", action="store_true", help="keep outputs that differ, and say where")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _count(text: str) -> float:
    return float("inf") if text == "all" else positive(text)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1")
    return share


def run(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from jointseg.audit.lineage import Lineage
    from jointseg.audit.replay.sample import FINDINGS as FOUND
    from jointseg.audit.replay.sample import as_json, replay_jobs, sample_jobs

    lineage = Lineage(given.results)
    wanted = given.sample if given.sample is not None else 0 if given.windows and not given.rule else SAMPLE
    jobs = sample_jobs(lineage, None if wanted == float("inf") else int(wanted), given.seed, given.rule)
    scratch = Path(tempfile.mkdtemp(prefix="jointseg-replay-"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("replaying", total=len(jobs) + (given.windows or 0))

            def told(done: Any) -> None:
                progress.update(task, advance=1, description=done.job)

            found: list[Any] = list(
                replay_jobs(
                    lineage,
                    jobs,
                    scratch,
                    tolerance=given.tolerance,
                    network=given.network,
                    keep=given.keep,
                    on_result=told,
                )
            )
            if given.windows:
                from jointseg.audit.replay.windows import replay_windows

                found += replay_windows(lineage, given.windows, given.seed, tolerance=given.tolerance, on_result=told)
    finally:
        kept = scratch / "kept"
        for path in scratch.iterdir():
            if path != kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not kept.exists():
            scratch.rmdir()
    if given.json:
        print(json.dumps(as_json(given.results, found) | {"seed": given.seed}, indent=1, sort_keys=True))
    else:
        _tell(found, given.seed, kept if kept.exists() else None)
    return FINDINGS if any(each.outcome in FOUND for each in found) else OK


def _tell(found: list[Any], seed: int, kept: Path | None) -> None:
    """Prints outcomes for people."""
    from rich.table import Table

    from jointseg.audit.replay.sample import OUTCOMES, Replay, as_json
    from jointseg.run.console import text_console

    console = text_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("job", "outcome", "what", "seconds", "how", "other than recorded"):
        table.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    for each in found:
        if isinstance(each, Replay):
            what = f"{each.files - each.differing} of {each.files} files" if each.files else ""
        elif each.bounds:
            what = f"{each.pixels - each.differing} of {each.pixels} pixels from {each.bounds[0]} E {each.bounds[1]} N"
        else:
            what = "block"
        seconds = "" if each.seconds is None else f"{each.seconds:.1f}"
        changes = [change for change in each.changes if change.kind != "commit"]  # the code digest tells what counts
        others = [f"{change.kind} {change.what} {change.before}->{change.after}" for change in changes]
        more = f" and {len(others) - TOLD} more" if len(others) > TOLD else ""
        table.add_row(each.job, each.outcome, what, seconds, each.detail, ", ".join(others[:TOLD]) + more)
    console.print(table)
    console.print()
    counts = as_json(Path(), found)["counts"]
    for outcome in (outcome for outcome in OUTCOMES if outcome in counts):
        console.print(f"{counts[outcome]:6d} {outcome}: {OUTCOMES[outcome]}")
    console.print(f"drawn with --seed {seed}")
    if kept is not None:
        console.print(f"outputs that differ are kept in {kept}")
