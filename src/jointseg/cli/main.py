"""The command `jointseg`: its verbs are in `jointseg.cli.commands`."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from jointseg.cli.commands import (
    IN_USE,
    OK,
    USAGE,
    add_command,
    add_subcommands,
    bench,
    config,
    dataset,
    diff,
    estimate,
    explain,
    outdated,
    plan,
    prune,
    release,
    replay,
    run,
    serve,
    status,
    verify,
)
from jointseg.runtime.errors import DataError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the verb and returns its exit status."""
    parser = build_parser()
    given, rest = parser.parse_known_args(arguments)
    if rest and given.handler is not run.run:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    given.rest = rest
    try:
        return given.handler(given)
    except DataError as error:
        print(f"jointseg: {error}", file=sys.stderr)
        from jointseg.run.lock import InUseError

        return IN_USE if isinstance(error, InUseError) else USAGE
    except FileNotFoundError as error:
        print(f"jointseg: there is no {error.filename}", file=sys.stderr)
        return USAGE


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jointseg",
        description="1-m impervious surface maps from 10-m Sentinel-2 imagery.",
        epilog="Start with:  jointseg run examples/synthetic/config.yaml",
    )
    verbs = add_subcommands(parser)
    run.add(verbs)
    audit = add_command(
        verbs,
        "audit",
        None,
        "Ask the manifests of a run: is it still what was made, from what, and can it be made again.",
        "",
    )
    audits = add_subcommands(audit)
    for each in (verify, explain, outdated, diff, replay, prune):
        each.add(audits)
    status.add(verbs)
    serve.add(verbs)
    estimate.add(verbs)
    plan.add(verbs)
    bench.add(verbs)
    release.add(verbs)
    config.add(verbs)
    dataset.add(verbs)
    add_command(verbs, "version", _version, "Print the version.", "")
    return parser


def _version(given: argparse.Namespace) -> int:
    print(version("jointseg"))
    return OK


if __name__ == "__main__":
    sys.exit(main())
