"""`jointseg release`: the next entry of a results folder's release history."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command
from jointseg.cli.commands.verify import STOPPED


def add(verbs: Subparsers) -> None:
    parser = add_command(
        verbs,
        "release",
        run,
        "Verify a results folder and write the next entry of its release history: one Merkle root over all manifests, "
        "linked to the release before and, with a key, signed.",
        "examples:\n"
        '  jointseg release results/yreb --message "2017 to 2023, first edition"\n'
        "  jointseg release results/yreb --key ~/.ssh/id_ed25519\n\n"
        "Writes releases/0001.json, 0002.json and so on, and with --key 0001.json.sig beside it. Nothing that was\n"
        "released is ever written again: keep these files, and publish the root or the signature, for whoever can\n"
        "replace all of them can replace the history. Everything is hashed first, and nothing is released while\n"
        "something is wrong. Jobs that ran again since the last release are not wrong: the new release names them.\n\n"
        "exit status: 0 released, 1 something was found and nothing released, 2 the folder cannot be released,\n"
        "3 a run works in it, 130 interrupted",
    )
    parser.add_argument("results", type=Path, help="results folder of a run")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private SSH key to sign with, by ssh-keygen")
    parser.add_argument("--message", default="", metavar="TEXT", help="what this release is")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def run(given: argparse.Namespace) -> int:
    from jointseg.audit import releases, signature
    from jointseg.cli.commands.verify import audit_results, print_report

    releases.refuse_if_in_use(given.results)
    if given.key:
        signature.fingerprint(given.key)  # before an hour of hashing, not after it
    try:
        report = audit_results(given.results)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was released", file=sys.stderr)
        return STOPPED
    # What the last release does not say yet is what a new one is for.
    report.findings = [finding for finding in report.findings if finding.kind != "unreleased"]
    if report.findings:
        if given.json:
            print(json.dumps({**report.as_json(), "released": None}, indent=1, sort_keys=True))
        else:
            print_report(report)
        print("nothing was released", file=sys.stderr)
        return FINDINGS
    written = releases.write(given.results, report.hashes, given.message, given.key)
    if given.json:
        print(json.dumps({**report.as_json(), "released": written.summary()}, indent=1, sort_keys=True))
    else:
        _tell(written.summary(), report)
    return OK


def _tell(written: dict[str, Any], report: Any) -> None:
    """Prints a new release for people."""
    from jointseg.run.console import text_console

    console = text_console()
    since = written["since"]
    console.print(f"{written['file']}: {report.manifests} manifests, {report.files} files, {report.bytes / 1e9:.2f} GB")
    console.print(f"root    {written['root']}\nsha256  {written['sha256']}")
    console.print(f"signed  {written['key'] or 'no: give --key'}")
    if written["previous"]:
        before = written["previous"]["file"]
        counts = f"{since['added']} added, {len(since['changed'])} changed, {len(since['gone'])} gone"
        console.print(f"since {before}: {counts}")
        for kind in ("changed", "removed"):
            for path in since[kind]:
                console.print(f"  {kind:7s} {path}")
