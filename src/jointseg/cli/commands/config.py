"""`jointseg config check` and `jointseg schema`."""

import argparse
from pathlib import Path

from jointseg.cli.commands import OK, Subparsers, add_command, add_subcommands


def add(verbs: Subparsers) -> None:
    schema = add_command(
        verbs,
        "schema",
        print_schema,
        "Print the JSON schema of a config.",
        "examples:\n"
        "  jointseg schema > config.schema.json     editors complete and check a config with it\n"
        "  jointseg schema --markdown               the same as a table",
    )
    schema.add_argument("--markdown", action="store_true", help="a table for reading")
    config = add_command(verbs, "config", None, "Work with configs.", "example:  jointseg config check config.yaml")
    about = "Name every key of a config that is wrong, and what is allowed."
    checking = add_command(add_subcommands(config), "check", check, about, "exit status: 0 valid, 2 not")
    checking.add_argument("config", type=Path)


def print_schema(given: argparse.Namespace) -> int:
    from jointseg.config import docs

    print(docs.markdown() if given.markdown else docs.json_schema(), end="")
    return OK


def check(given: argparse.Namespace) -> int:
    from jointseg.config.load import read_config

    read_config(given.config)
    print(f"{given.config} is valid")
    return OK
