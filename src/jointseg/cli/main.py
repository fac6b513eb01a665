"""The command `jointseg`; its commands are in `jointseg.cli.commands`."""

import argparse
import sys
from collections.abc import Sequence

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

# Old names of commands; the next release removes them.
DEPRECATED = {
    ("audit", "stale"): ("audit", "outdated"),
    ("requests",): ("estimate", "requests"),
    ("view",): ("serve",),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = build_parser()
    args, rest = parser.parse_known_args(_current_names(sys.argv[1:] if arguments is None else arguments))
    if rest and args.handler is not run.run:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    try:
        return args.handler(args)
    except DataError as error:
        print(f"jointseg: {error}", file=sys.stderr)
        from jointseg.run.lock import InUseError

        return IN_USE if isinstance(error, InUseError) else USAGE
    except FileNotFoundError as error:
        print(f"jointseg: {error.filename} does not exist", file=sys.stderr)
        return USAGE


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jointseg",
        description="1-m impervious surface maps from 10-m Sentinel-2 imagery.",
        epilog="Start with:  jointseg run examples/synthetic/config.yaml",
    )
    commands = add_subcommands(parser)
    run.add(commands)
    about = "Check a run against its manifests: verify files, explain pixels, replay jobs, compare runs."
    audits = add_subcommands(add_command(commands, "audit", None, about))
    for audit in (verify, explain, outdated, diff, replay, prune):
        audit.add(audits)
    for command in (status, serve, estimate, plan, bench, release, config, dataset):
        command.add(commands)
    add_command(commands, "version", _print_version, "Print the version.")
    return parser


def _current_names(arguments: Sequence[str]) -> list[str]:
    """Replace the old name of a renamed command, with a notice on standard error."""
    for old, new in DEPRECATED.items():
        if tuple(arguments[: len(old)]) == old:
            old_name, new_name = " ".join(old), " ".join(new)
            print(f"jointseg: `{old_name}` is deprecated; use `{new_name}`", file=sys.stderr)
            return [*new, *arguments[len(old) :]]
    return list(arguments)


def _print_version(args: argparse.Namespace) -> int:
    from importlib.metadata import version

    print(version("jointseg"))
    return OK


if __name__ == "__main__":
    sys.exit(main())
