"""`jointseg config check` and `jointseg schema`."""

import argparse
from pathlib import Path

from jointseg.cli.commands import OK, Subparsers, add_command, add_subcommands


def add(commands: Subparsers) -> None:
    schema = add_command(
        commands,
        "schema",
        print_schema,
        "Print the JSON schema of a config.",
        "examples:\n"
        "  jointseg schema > config.schema.json     for completion and validation in an editor\n"
        "  jointseg schema --markdown               the same as a table",
    )
    schema.add_argument("--markdown", action="store_true", help="print a Markdown table")
    config = add_command(commands, "config", None, "Work with configs.", "example:  jointseg config check config.yaml")
    about = "Validate a config: list every invalid key with the values that are allowed."
    parser = add_command(
        add_subcommands(config),
        "check",
        check,
        about,
        "example:  jointseg config check my_area.yaml\n\nexit status: 0 valid, 2 invalid",
    )
    parser.add_argument("config", type=Path, help="YAML config")


def print_schema(args: argparse.Namespace) -> int:
    from jointseg.config import docs

    print(docs.markdown() if args.markdown else docs.json_schema(), end="")
    return OK


def check(args: argparse.Namespace) -> int:
    from jointseg.config.load import read_config

    read_config(args.config)
    print(f"{args.config} is valid")
    return OK
