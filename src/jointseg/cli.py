"""The verbs for people: run the flow, audit a results folder, check a config."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jointseg.errors import DataError

FINDINGS, USAGE, IN_USE = 1, 2, 3
POLL_SECONDS = 0.2
FORWARD_SECONDS = 1.0
# Options of Snakemake with which it makes nothing: it then speaks for itself, and needs no lock.
TALK_ONLY = {
    *("-n", "--dry-run", "--dryrun", "--lint", "--report", "--dag", "--rulegraph", "--filegraph", "--d3dag"),
    *("-l", "--list", "--list-rules", "--list-target-rules", "--list-changes", "-S", "--summary"),
    *("-D", "--detailed-summary", "--unlock", "--archive", "--generate-unit-tests"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the verb and returns its exit status."""
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    if rest and given.verb is not _run:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    given.rest = rest
    try:
        return given.verb(given)
    except DataError as error:
        print(f"jointseg: {error}", file=sys.stderr)
        from jointseg.lock import InUseError

        return IN_USE if isinstance(error, InUseError) else USAGE
    except FileNotFoundError as error:
        print(f"jointseg: there is no {error.filename}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jointseg",
        description="1-m impervious surface maps from 10-m Sentinel-2 imagery.",
        epilog="Start with:  jointseg run examples/rehearsal/config.yaml",
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def add(name: str, verb: Any, about: str, epilog: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name,
            help=about,
            description=about,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(verb=verb)
        return made

    run = add(
        "run",
        _run,
        "Run the flow of a config, or resume it, with bars and one line for each failure.",
        "examples:\n"
        "  jointseg run config.yaml                      all of it, on all CPUs\n"
        "  jointseg run config.yaml --cores 8            on eight\n"
        "  jointseg run config.yaml -n                   what would run, and why\n"
        "  jointseg run config.yaml --until composite    up to the composites\n\n"
        "Further arguments go to Snakemake. One run at a time works in a results folder. Its exit status is\n"
        "Snakemake's, or 3 when another run holds the folder. Snakemake's output is kept in logs/snakemake.log\n"
        "of the results folder.",
    )
    run.add_argument("config", type=Path, help="YAML config, such as examples/rehearsal/config.yaml")
    run.add_argument(
        "--cores", default=str(os.cpu_count()), metavar="N", help="CPUs to use (default: all, %(default)s)"
    )
    run.add_argument("--snakefile", type=Path, metavar="FILE", help="another Snakefile than the one in this folder")

    audit = add(
        "audit",
        _audit,
        "Hash a results folder again and name every file that is missing, changed or made by nobody.",
        "examples:\n"
        "  jointseg audit results/yreb\n"
        "  jointseg audit results/yreb --json > audit.json\n\n"
        "exit status: 0 nothing found, 1 something found, 2 the folder cannot be audited",
    )
    audit.add_argument("results", type=Path, help="results folder of a run; it may have been moved")
    audit.add_argument("--json", action="store_true", help="print JSON instead of a table")
    audit.add_argument("--workers", type=_count, metavar="N", help="threads that hash (default: one a CPU)")

    schema = add(
        "schema",
        _schema,
        "Print the JSON schema of a config.",
        "examples:\n"
        "  jointseg schema > config.schema.json     editors complete and check a config with it\n"
        "  jointseg schema --markdown               the same as a table",
    )
    schema.add_argument("--markdown", action="store_true", help="a table for reading")

    config = add("config", None, "Work with configs.", "example:  jointseg config check config.yaml")
    check = config.add_subparsers(title="verbs", required=True, metavar="VERB").add_parser(
        "check", help="name every key of a config that is wrong, and what is allowed"
    )
    check.add_argument("config", type=Path)
    check.set_defaults(verb=_check)

    add("version", _version, "Print the version.", "")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def _version(given: argparse.Namespace) -> int:
    from importlib.metadata import version

    print(version("jointseg"))
    return 0


def _schema(given: argparse.Namespace) -> int:
    from jointseg import config_docs

    print(config_docs.markdown() if given.markdown else config_docs.schema(), end="")
    return 0


def _check(given: argparse.Namespace) -> int:
    from jointseg import settings

    settings.read(given.config)
    print(f"{given.config} is valid")
    return 0


def _audit(given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from jointseg.provenance.audit import audit

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
    return FINDINGS if report.findings else 0


def _tell(report: Any) -> None:
    """Prints an audit for people."""
    from rich.console import Console
    from rich.table import Table

    from jointseg.provenance.audit import KINDS

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


def _run(given: argparse.Namespace) -> int:
    snakefile = ["--snakefile", str(given.snakefile)] if given.snakefile else []
    command = [sys.executable, "-m", "snakemake", *snakefile, "--configfile", str(given.config)]
    command += ["--cores", given.cores, "--rerun-incomplete", *given.rest]
    results = _results(given)
    if TALK_ONLY & set(given.rest):
        return subprocess.call(command)

    from rich.console import Console

    from jointseg import lock, progress
    from jointseg.console import Display

    folder = results / ".jointseg" / "progress"
    log = results / "logs" / "snakemake.log"
    with lock.hold(results, ["jointseg", "run", str(given.config), *given.rest]) as held:
        lock.clear_stale(held, results)
        folder.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            left.unlink()
        # Into the file and not through a pipe: Snakemake then survives this process.
        with open(log, "ab") as out, open(log, encoding="utf-8", errors="replace") as heard:
            heard.seek(0, os.SEEK_END)
            environment = {**os.environ, progress.FOLDER: str(folder.absolute()), "PYTHONUNBUFFERED": "1"}
            flow = subprocess.Popen(command, stdin=held.descriptor, stdout=out, stderr=out, env=environment)
            with Display(Console(), folder) as display:
                _follow(flow, heard, display)
        display.conclude(flow.returncode, log)
    return flow.returncode


def _results(given: argparse.Namespace) -> Path:
    """The results folder of a run, `--config results=...` among Snakemake's arguments included."""
    import yaml

    try:
        config = yaml.safe_load(given.config.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise DataError(f"{given.config} is not YAML: {' '.join(str(error).split())}") from error
    config |= _overrides(given.rest)
    if given.snakefile is None:
        from jointseg import settings

        settings.load(config)
    if not isinstance(config.get("results"), str):
        raise DataError(f"{given.config} has no key `results`; give the folder that the run is to make")
    return Path(config["results"])


def _overrides(rest: list[str]) -> dict[str, Any]:
    """What `--config KEY=VALUE ...` sets."""
    import yaml

    found: dict[str, Any] = {}
    inside = False
    for word in rest:
        if word.startswith("-"):
            inside = word in ("--config", "-C")
        elif inside and "=" in word:
            key, _, value = word.partition("=")
            found[key] = yaml.safe_load(value)
    return found


def _follow(flow: subprocess.Popen, heard: Any, display: Any) -> None:
    """Shows what Snakemake says until it ends; Ctrl-C and TERM stop it in order."""
    told = 0.0
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    rest = ""
    while True:
        try:
            ended = flow.poll() is not None
            rest += heard.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                display.hear(line)
            display.draw()
            if ended:
                return
            if told and time.monotonic() - told > FORWARD_SECONDS:
                # A terminal tells the whole foreground group; a signal sent to this process alone is passed on.
                if not display.flow.stopping:
                    _interrupt(flow.pid)
                told = 0.0
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            told = told or time.monotonic()


def _interrupt(pid: int) -> None:
    """SIGINT to a process and everything it started."""
    family, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        family.append(each)
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            waiting += map(int, children.read_text().split())
    for each in reversed(family):
        try:
            os.kill(each, signal.SIGINT)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    sys.exit(main())
