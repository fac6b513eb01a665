"""MkDocs hook: generate the command-line and configuration reference from the code."""

import argparse
from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from jointseg.cli.main import build_parser
from jointseg.config import docs as config_docs


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = {"reference/cli.md": cli_reference(), "reference/config.md": config_docs.markdown()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def cli_reference() -> str:
    """Return the reference of every command as Markdown, from the argument parser."""
    head = (
        "# Command line\n\nGenerated from the argument parser: the same text as `jointseg COMMAND --help`.\n\n"
        "Exit status: 0 success, 1 findings (an audit or a check found something), 2 invalid usage or configuration, "
        "3 the results folder is in use.\n\n"
    )
    return head + "\n".join(_sections(build_parser()))


def _sections(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            shown = {choice.dest for choice in action._choices_actions}
            for name, command in action.choices.items():
                if name not in shown:  # an alias of an earlier version
                    continue
                if not any(isinstance(each, argparse._SubParsersAction) for each in command._actions):
                    yield f"## {command.prog}\n\n```text\n{command.format_help().rstrip()}\n```\n"
                yield from _sections(command)
