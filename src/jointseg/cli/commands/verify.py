"""`jointseg audit verify`: check every file of a run against its recorded checksum."""

import argparse
import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command, positive, read_yaml
from jointseg.runtime.errors import DataError

CONFIG = Path("config.yaml")
INTERRUPTED = 128 + signal.SIGINT


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "verify",
        run,
        "Check every file against its recorded checksum, every manifest against those of its inputs, and the release "
        "history.",
        "examples:\n"
        "  jointseg audit verify                                the results of ./config.yaml\n"
        "  jointseg audit verify results/yreb --json > audit.json\n"
        "  jointseg audit verify results/yreb --resume          after an interrupted check\n"
        "  jointseg audit verify results/yreb --allowed-signers signers --signer alice@example.org\n"
        "  jointseg audit verify results/yreb --root 5f1c...    the root that `jointseg release` printed\n\n"
        "Every byte is read each time, because dates and sizes do not reveal bit rot or tampering. An interrupted check\n"
        "keeps its checksums in .jointseg/verify.sqlite; --resume reuses those of files with the same size, times and\n"
        "inode, and so misses later changes that keep all three. A completed check deletes them.\n\n"
        "A line of the file of allowed signers is a name and a public key, such as `alice@example.org ssh-ed25519\n"
        "AAAA...` (see `man ssh-keygen`). Without it a signature shows which key signed, but not whose it is.\n\n"
        "exit status: 0 no findings, 1 findings, 2 the folder cannot be audited, 130 interrupted",
    )
    parser.add_argument(
        "results",
        type=Path,
        nargs="?",
        help="results folder of a run; it may have been moved (default: the key `results` of ./config.yaml)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--workers", type=positive, metavar="N", help="hashing threads (default: one per CPU)")
    parser.add_argument("--resume", action="store_true", help="resume an interrupted check")
    parser.add_argument("--allowed-signers", type=Path, metavar="FILE", help="accepted signers of releases")
    parser.add_argument("--signer", metavar="NAME", help="accept only this one of the allowed signers")
    root = "root of a release that must exist, from a copy outside the results folder"
    parser.add_argument("--root", type=_root, metavar="HEX", help=root)


def run(args: argparse.Namespace) -> int:
    from jointseg.audit.signature import AllowedSigners

    if args.signer and not args.allowed_signers:
        raise DataError(f"--signer {args.signer} needs --allowed-signers FILE, which lists the key of that name")
    signers = AllowedSigners(args.allowed_signers, args.signer) if args.allowed_signers else None
    results = args.results or _results_of(CONFIG)
    try:
        report = audit_results(results, args.workers, args.resume, signers, args.root)
    except KeyboardInterrupt:
        print(f"\ninterrupted; to resume: jointseg audit verify {results} --resume", file=sys.stderr)
        return INTERRUPTED
    if args.json:
        print(json.dumps(report.as_json(), indent=1, sort_keys=True))
    else:
        print_report(report)
    return FINDINGS if report.findings else OK


def audit_results(
    results: Path, workers: int | None = None, resume: bool = False, signers: Any = None, root: str | None = None
) -> Any:
    """Audit a results folder with a progress bar on standard error, and return the report.

    Raises KeyboardInterrupt on SIGINT and SIGTERM.
    """
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    from jointseg.audit.verify import verify_results
    from jointseg.run.console import stderr_progress

    columns = ("hashing", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _sigterm_as_interrupt(), stderr_progress(*columns) as progress:
        task = progress.add_task("hashing")
        return verify_results(
            results,
            workers,
            on_start=lambda total: progress.update(task, total=total),
            advance=lambda count: progress.advance(task, count),
            resume=resume,
            signers=signers,
            root=root,
        )


def print_report(report: Any) -> None:
    from rich.text import Text

    from jointseg.audit.verify import KINDS
    from jointseg.run.console import text_console, text_table

    console = text_console()
    if report.findings:
        table = text_table("finding", "file", "manifest", "detail")
        for finding in report.findings:
            table.add_row(*map(Text, (finding.kind, finding.path, finding.manifest, finding.detail)))
        console.print(table)
        console.print()
        for kind, count in report.as_json()["counts"].items():
            console.print(f"{count:6d} {kind}: {KINDS[kind]}")
        if report.descendants:
            console.print(f"{len(report.descendants):6d} further outputs derive from these (--json lists them)")
    else:
        console.print("every file matches its manifest, and every input matches the output of its producer")
    console.print(
        f"{report.files} files, {report.bytes / 1e9:.2f} GB, {report.manifests} manifests; "
        f"{report.outside_inputs} inputs outside the folder were not hashed"
    )
    if report.pruned:
        console.print(f"{report.pruned} files are missing because they were pruned")
    if report.resumed:
        console.print(f"{report.resumed} files were hashed before the interruption")
    for line in _release_lines(report.release):
        console.print(line)


def _release_lines(release: Any) -> Iterator[str]:
    """Yield lines on the last release and the signatures."""
    if release is None:
        yield "there is no release, so an edited manifest with a new seal would not be detected"
        return
    yield f"release {release.number} of {release.date}, root {release.root}"
    if release.changes is None:
        yield "it is defective, so the manifests were not compared with it"
    elif release.changes.added:
        yield f"{len(release.changes.added)} manifests were added since"
    for signature in release.signatures:
        signer = signature["signer"] or "unknown signer; pass --allowed-signers"
        yield f"{signature['release']} is signed with {signature['key']} ({signer})"
    if release.unchecked:
        yield f"{release.unchecked} signatures were not checked: ssh-keygen is not installed"


def _results_of(config: Path) -> Path:
    """Return the results folder of a config, which may be invalid otherwise."""
    if not config.is_file():
        raise DataError(f"{config} does not exist in the working directory; pass the results folder of a run")
    settings = read_yaml(config)
    if not isinstance(settings.get("results"), str):
        raise DataError(f"{config} has no key `results`; pass the results folder of a run")
    return Path(settings["results"])


def _root(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text.lower()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a root: 64 hexadecimal digits, as `jointseg release` prints")
    return text.lower()


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C, so that the checksums are kept."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
