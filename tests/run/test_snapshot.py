"""Snapshot of code and config that a run uses."""

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


def test_snapshot_equals_the_code_and_later_edits_do_not_affect_it(home: Path, tmp_path: Path) -> None:
    snapshot = take_snapshot(home / "config.yaml", tmp_path / "r", home)
    assert code_digest("jointseg.area.tiles", snapshot.source) == code_digest("jointseg.area.tiles", home / "src")
    (home / "src/jointseg/area/tiles.py").write_text("raise SystemExit\n")
    (home / "config.yaml").write_text("word: late\n")
    (home / "Snakefile").write_text("rule all:\n    output: 'nothing'\n")
    command = [sys.executable, "-m", "snakemake", "--snakefile", snapshot.snakefile]
    subprocess.run(
        [*command, "--configfile", snapshot.config, "--cores", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(snapshot.source)},
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "made.txt").read_text() == "early\n"


def test_one_snapshot_is_kept_and_unchanged_code_is_not_copied(home: Path, tmp_path: Path) -> None:
    first = take_snapshot(home / "config.yaml", tmp_path / "r", home)
    written = first.snakefile.stat()
    assert take_snapshot(home / "config.yaml", tmp_path / "r", home) == first
    assert first.snakefile.stat() == written
    assert not list(first.home.rglob("__pycache__"))
    (home / "config.yaml").write_text("word: late\n")
    second = take_snapshot(home / "config.yaml", tmp_path / "r", home)
    assert second.home != first.home and list(first.home.parent.iterdir()) == [second.home]


def test_snapshot_records_its_commit(home: Path, tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(home)]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    snapshot = take_snapshot(home / "config.yaml", tmp_path / "r", home)
    code = "import json; from jointseg.provenance import machine; print(json.dumps(machine.software()))"
    environment = os.environ | {"PYTHONPATH": str(snapshot.source)}
    (home / "Snakefile").write_text("# edited since\n")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert {key: json.loads(done.stdout)[key] for key in ("commit", "dirty")} == {"commit": head, "dirty": False}


def test_error_without_a_workflow(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no Snakefile; run from a checkout of the repository, or pass --snakefile"):
        take_snapshot(tmp_path / "config.yaml", tmp_path / "r", tmp_path)
