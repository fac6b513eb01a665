"""Arguments, exit statuses and errors of the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jointseg.cli import commands
from jointseg.cli.commands import run
from jointseg.cli.main import DEPRECATED, build_parser, main

ROOT = Path(__file__).parents[2]


def test_config_check(tmp_path, capsys):
    good = ROOT / "config.yaml"
    assert main(["config", "check", str(good)]) == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.read_text() + "\ntile_kilometres: 30\n")
    assert main(["config", "check", str(bad)]) == commands.USAGE
    assert "tile_kilometres" in capsys.readouterr().err
    assert main(["config", "check", "absent.yaml"]) == commands.USAGE
    assert "absent.yaml" in capsys.readouterr().err


def test_schema_and_version(capsys):
    assert main(["schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)
    assert main(["version"]) == 0
    assert capsys.readouterr().out.count(".") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["audit"],
        ["audit", "x"],
        ["audit", "verify", "x", "--workers", "0"],
        ["audit", "verify", "x", "y"],
        ["config"],
    ],
)
def test_invalid_arguments_exit_with_2(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == commands.USAGE


@pytest.mark.parametrize(("old", "new"), DEPRECATED.items(), ids=" ".join)
def test_deprecated_name_runs_the_new_command_with_a_notice(old, new, tmp_path, capsys):
    assert main([*old, str(tmp_path / "absent")]) == commands.USAGE
    error = capsys.readouterr().err
    assert f"`{' '.join(old)}` is deprecated; use `{' '.join(new)}`\n" in error and "absent" in error
    assert main([*new, str(tmp_path / "absent")]) == commands.USAGE
    assert "is deprecated" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build_parser().parse_args([*old, "x"])


def test_help_and_version_import_nothing_heavy():
    heavy = {"numpy", "rich", "pydantic", "snakemake", "torch", "yaml"}
    for arguments in (["--help"], ["run", "--help"], ["version"]):
        code = f"import sys, jointseg.cli.main as cli\ntry: cli.main({arguments})\nexcept SystemExit: pass\n"
        code += f"assert not {heavy} & set(sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_config_that_is_not_yaml_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text("a: [1\nb: 2")
    assert main(["run", str(path)]) == commands.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_overrides_are_parsed_as_by_snakemake():
    assert run._overrides(["--config", "results=x", "n=3", "-p", "a=b"]) == {"results": "x", "n": 3}
