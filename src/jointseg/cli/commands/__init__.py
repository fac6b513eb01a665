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
    """Add a command to those of `add_subcommands`; `run` is None for a command that only has subcommands.

    The help consists of `about`, one sentence, the options, and `epilog`, examples and exit statuses.
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


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys of a YAML file, without validation. Raises DataError if it is not a YAML mapping."""
    import yaml

    from jointseg.runtime.errors import DataError

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} has no keys; expected a YAML config with `key: value` lines")
    return content


def positive(text: str) -> int:
    """Parse a count of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number; expected at least 1")
    return number
