"""`jointseg release`: add a release to the release history of a results folder."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from jointseg.cli.commands import FINDINGS, OK, Subparsers, add_command
from jointseg.cli.commands.verify import INTERRUPTED


def add(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "release",
        run,
        "Verify a results folder and add a release to its history: the Merkle root of all manifests, linked to the "
        "previous release and optionally signed.",
        "examples:\n"
        '  jointseg release results/yreb --message "2017 to 2023, first edition"\n'
        "  jointseg release results/yreb --key ~/.ssh/id_ed25519\n\n"
        "Writes releases/0001.json, 0002.json and so on, and with --key a signature, 0001.json.sig. Releases are never\n"
        "overwritten. Back them up, and publish the root or the signature: anyone who can replace all releases can\n"
        "replace the history. All files are hashed first; a folder with findings is not released. Jobs that ran since\n"
        "the last release are not a finding: the new release lists them.\n\n"
        "exit status: 0 released, 1 there are findings and nothing is released, 2 the folder cannot be released,\n"
        "3 a run is using the folder, 130 interrupted",
    )
    parser.add_argument("results", type=Path, help="results folder of a run")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private SSH key to sign with, by ssh-keygen")
    parser.add_argument("--message", default="", metavar="TEXT", help="description of the release")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def run(args: argparse.Namespace) -> int:
    from jointseg.audit import releases, signature
    from jointseg.cli.commands.verify import audit_results, print_report

    releases.refuse_if_in_use(args.results)
    if args.key:
        signature.fingerprint(args.key)  # hashing can take an hour: detect an unreadable key before it
    try:
        report = audit_results(args.results)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was released", file=sys.stderr)
        return INTERRUPTED
    # Manifests that no release lists yet are the reason for this one.
    report.findings = [finding for finding in report.findings if finding.kind != "unreleased"]
    if report.findings:
        if args.json:
            print(json.dumps({**report.as_json(), "released": None}, indent=1, sort_keys=True))
        else:
            print_report(report)
        print("nothing was released", file=sys.stderr)
        return FINDINGS
    release = releases.write(args.results, report.hashes, args.message, args.key).summary()
    if args.json:
        print(json.dumps({**report.as_json(), "released": release}, indent=1, sort_keys=True))
    else:
        _print_release(release, report)
    return OK


def _print_release(release: dict[str, Any], report: Any) -> None:
    from jointseg.run.console import text_console

    console = text_console()
    console.print(f"{release['file']}: {report.manifests} manifests, {report.files} files, {report.bytes / 1e9:.2f} GB")
    console.print(f"root    {release['root']}\nsha256  {release['sha256']}")
    console.print(f"signed  {release['key'] or 'no (to sign, pass --key)'}")
    if release["previous"]:
        since, previous = release["since"], release["previous"]["file"]
        counts = f"{since['added']} added, {len(since['changed'])} changed, {len(since['removed'])} removed"
        console.print(f"since {previous}: {counts}")
        for kind in ("changed", "removed"):
            for path in since[kind]:
                console.print(f"  {kind:7s} {path}")
