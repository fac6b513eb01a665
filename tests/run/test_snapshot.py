"""The copy of code and config that a run works from."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jointseg.provenance.code_digest import SOURCE, code_digest
from jointseg.run.snapshot import take_snapshot
from jointseg.runtime.errors import DataError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A checkout with the package, a workflow of one rule, and a config."""
    home = tmp_path / "home"
    shutil.copytree(SOURCE / "jointseg", home / "src/jointseg", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("rules", "envs", "profiles", "docs/captions"):
        (home / name).mkdir(parents=True)
    (home / "Snakefile").write_text("rule all:\n    output: 'made.txt'\n    shell: 'echo {config[word]} > {output}'\n")
    (home / "requirements.lock").write_text("")
    (home / "config.yaml").write_text("word: early\n")
    return home


def test_the_copy_is_the_code_and_stays_what_it_was(home: Path, tmp_path: Path) -> None:
    frozen = take_snapshot(home / "config.yaml", tmp_path / "r", home)
    assert code_digest("jointseg.area.tiles", frozen.source) == code_digest("jointseg.area.tiles", home / "src")
    (home / "src/jointseg/area/tiles.py").write_text("raise SystemExit\n")
    (home / "config.yaml").write_text("word: late\n")
    (home / "Snakefile").write_text("rule all:\n    output: 'nothing'\n")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            frozen.snakefile,
            "--configfile",
            frozen.config,
            "--cores",
            "1",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(frozen.source)},
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "made.txt").read_text() == "early\n"


def test_one_copy_is_kept_and_the_same_code_is_not_copied_again(home: Path, tmp_path: Path) -> None:
    first = take_snapshot(home / "config.yaml", tmp_path / "r", home)
    made = first.snakefile.stat()
    assert take_snapshot(home / "config.yaml", tmp_path / "r", home) == first
    assert first.snakefile.stat() == made
    assert not list(first.home.rglob("__pycache__"))
    (home / "config.yaml").write_text("word: late\n")
    second = take_snapshot(home / "config.yaml", tmp_path / "r", home)
    assert second.home != first.home and list(first.home.parent.iterdir()) == [second.home]


def test_the_copy_knows_its_commit(home: Path, tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(home)]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    frozen = take_snapshot(home / "config.yaml", tmp_path / "r", home)
    asked = "import json; from jointseg.provenance import machine; print(json.dumps(machine.software()))"
    environment = os.environ | {"PYTHONPATH": str(frozen.source)}
    (home / "Snakefile").write_text("# edited since\n")
    told = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True, env=environment)
    assert {key: json.loads(told.stdout)[key] for key in ("commit", "dirty")} == {"commit": head, "dirty": False}


def test_without_a_workflow_there_is_nothing_to_freeze(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no Snakefile; run from a checkout of the repository, or give --snakefile"):
        take_snapshot(tmp_path / "config.yaml", tmp_path / "r", tmp_path)
