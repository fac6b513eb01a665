"""Commands, one module each: `add` defines the arguments, `run` executes the command and returns the exit status.

Top-level imports are limited to the standard library, so that `jointseg --help` is fast.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Subparsers = Any  # returned by argparse's add_subparsers
OK, FINDINGS, USAGE, IN_USE = 0, 1, 2, 3


def add_command(
    commands: Subparsers, name: str, run: Callable[[argparse.Namespace], int] | None, about: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: where to add it, from `add_subcommands`.
        name: its name on the command line.
        run: its function; None for a command that only has subcommands.
        about: one sentence on what it does.
        epilog: examples and exit statuses, printed below its options.
    """
    parser = commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=run)
    return parser


def add_subcommands(parser: argparse.ArgumentParser) -> Subparsers:
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def results_folder(run: Path) -> Path:
    """Return the results folder of a run, from the folder itself or the run's config."""
    from jointseg.config.load import read_config

    return Path(read_config(run).results) if run.is_file() else run


def positive(text: str) -> int:
    """Parse a count of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number
