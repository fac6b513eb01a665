"""`jointseg audit verify`: is every file still what was made."""

import argparse
import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command, positive
from jointseg.runtime.errors import DataError

CONFIG = Path("config.yaml")
STOPPED = 128 + signal.SIGINT


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "verify",
        run,
        "Hash a results folder again and name every file that is missing, changed, swapped or made by nobody, every "
        "manifest that was edited or does not fit the manifests it builds on, and every flaw of the release history.",
        "examples:\n"
        "  jointseg audit verify                                the results of ./config.yaml\n"
        "  jointseg audit verify results/yreb --json > audit.json\n"
        "  jointseg audit verify results/yreb --resume          after Ctrl-C, a kill or a power cut\n"
        "  jointseg audit verify results/yreb --allowed-signers signers --signer alice@example.org\n"
        "  jointseg audit verify results/yreb --root 5f1c...    the root that `jointseg release` printed, kept elsewhere\n\n"
        "Every byte is read, each time: dates and sizes can be set back, and a disk that rots changes neither. An\n"
        "interrupted pass keeps what it has hashed in .jointseg/verify.sqlite. --resume believes that for files of\n"
        "the same size, times and inode, so what went wrong behind a file's back since then is not seen; a pass\n"
        "without --resume hashes everything. A pass that ends forgets.\n\n"
        "A line of the file of allowed signers is a name and a public key, such as `alice@example.org ssh-ed25519\n"
        "AAAA...` (see `man ssh-keygen`). Without it a signature only shows which key has signed, not whose it is.\n\n"
        "exit status: 0 nothing found, 1 something found, 2 the folder cannot be audited, 130 interrupted",
    )
    parser.add_argument(
        "results",
        type=Path,
        nargs="?",
        help="results folder of a run; it may have been moved (default: the key `results` of ./config.yaml)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that hash (default: one a CPU)")
    parser.add_argument("--resume", action="store_true", help="go on with a pass that was interrupted")
    parser.add_argument("--allowed-signers", type=Path, metavar="FILE", help="whose signatures on releases count")
    parser.add_argument("--signer", metavar="NAME", help="only this one of the allowed signers")
    parser.add_argument(
        "--root", type=_root, metavar="HEX", help="root of a release that must be there, as you kept it elsewhere"
    )


def run(given: argparse.Namespace) -> int:
    from jointseg.audit.signature import AllowedSigners

    if given.signer and not given.allowed_signers:
        raise DataError(f"--signer {given.signer} needs --allowed-signers FILE, which tells the key of that name")
    signers = AllowedSigners(given.allowed_signers, given.signer) if given.allowed_signers else None
    results = given.results or _results(CONFIG)
    try:
        report = audit_results(results, given.workers, given.resume, signers, given.root)
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with: jointseg audit verify {results} --resume", file=sys.stderr)
        return STOPPED
    if given.json:
        print(json.dumps(report.as_json(), indent=1, sort_keys=True))
    else:
        print_report(report)
    return FINDINGS if report.findings else OK


def audit_results(
    results: Path, workers: int | None = None, resume: bool = False, signers: Any = None, root: str | None = None
) -> Any:
    """The report of an audit, with a bar on standard error. Raises KeyboardInterrupt when told to stop."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from jointseg.audit.verify import verify_results

    columns = ("hashing", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _stoppable(), Progress(*columns, console=Console(stderr=True), transient=True) as progress:
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
    """Prints an audit for people."""
    from rich.table import Table
    from rich.text import Text

    from jointseg.audit.verify import KINDS
    from jointseg.run.console import text_console

    console = text_console()
    if report.findings:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("what", "file", "by", "how"):
            table.add_column(column, overflow="fold")
        for finding in report.findings:
            table.add_row(*map(Text, (finding.kind, finding.path, finding.manifest, finding.detail)))
        console.print(table)
        console.print()
        for kind, count in report.as_json()["counts"].items():
            console.print(f"{count:6d} {kind}: {KINDS[kind]}")
        if report.descendants:
            console.print(f"{len(report.descendants):6d} further outputs descend from these (--json lists them)")
    else:
        console.print("every file is what its manifest says, and every input is what was made")
    console.print(
        f"{report.files} files, {report.bytes / 1e9:.2f} GB, {report.manifests} manifests; "
        f"{report.outside_inputs} inputs from outside the folder were not hashed"
    )
    if report.pruned:
        console.print(f"{report.pruned} files are gone because they were pruned")
    if report.resumed:
        console.print(f"{report.resumed} files were hashed before the interruption, and not again")
    for line in _standing(report.release):
        console.print(line)


def _standing(release: Any) -> Iterator[str]:
    """Lines on the last release and the signatures."""
    if release is None:
        yield "nothing was released yet: nobody who edits a manifest and seals it again would be found"
        return
    yield f"release {release.number} of {release.date}, root {release.root}"
    if release.changes is None:
        yield "it has a flaw, so the manifests were not compared with it"
    elif release.changes.added:
        yield f"{len(release.changes.added)} manifests were added since"
    for each in release.signatures:
        whose = each["signer"] or "unknown whose: give --allowed-signers"
        yield f"{each['release']} is signed with {each['key']} ({whose})"
    if release.unchecked:
        yield f"{release.unchecked} signatures were not checked: there is no ssh-keygen on this machine"


def _results(config: Path) -> Path:
    """The results folder that a config names."""
    import yaml

    if not config.is_file():
        raise DataError(f"there is no {config} here that names a results folder; give the results folder of a run")
    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"{config} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not isinstance(found.get("results"), str):
        raise DataError(f"{config} has no key `results`; give the results folder of a run")
    return Path(found["results"])


def _root(text: str) -> str:
    """The root of a release, for argparse."""
    if not re.fullmatch("[0-9a-f]{64}", text.lower()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a root: 64 hexadecimal digits, as `jointseg release` prints")
    return text.lower()


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM as Ctrl-C, so that what was hashed is kept."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
