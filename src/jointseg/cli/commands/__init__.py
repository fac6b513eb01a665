"""The verbs for people, a module each: `add` describes the verb, `run` does it and returns the exit status.

Only the standard library is imported at the top of a verb's module, so that `jointseg --help` answers at once.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Subparsers = Any  # what argparse's add_subparsers returns
OK, FINDINGS, USAGE, IN_USE = 0, 1, 2, 3


def add_command(
    verbs: Subparsers, name: str, run: Callable[[argparse.Namespace], int] | None, about: str, epilog: str
) -> argparse.ArgumentParser:
    """Adds a verb: a line on what it does, and examples and exit statuses below its options."""
    parser = verbs.add_parser(
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
    """Room for verbs below a verb."""
    return parser.add_subparsers(title="verbs", required=True, metavar="VERB")


def results_folder(run: Path) -> Path:
    """The results folder of a run that is named by it or by its config."""
    from jointseg.config.load import read_config

    return Path(read_config(run).results) if run.is_file() else run


def positive(text: str) -> int:
    """A count of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number
