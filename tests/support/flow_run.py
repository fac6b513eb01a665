"""A copy of the repository with a small config, in which whole runs are made."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from support.planned import planned_jobs

from jointseg.audit.verify import UNDECLARED
from jointseg.provenance.digest import TIMESTAMP, tree_digest

NOT_FINAL = (*UNDECLARED, "manifests")
ROOT = Path(__file__).parents[2]
COPIED = ["Snakefile", "rules", "src", "profiles", "envs", "docs", "pyproject.toml", "requirements.lock", "examples"]


class Flow:
    """A folder with the repository's code and a config, in which Snakemake runs."""

    def __init__(self, root: Path, more: dict[str, str] | None = None) -> None:
        """A folder with the code, and the config mini.yaml; `more` goes into the environment of what runs there."""
        self.root, self.config, self.more = root, root / "mini.yaml", more or {}
        self.results = root / yaml.safe_load(self.config.read_text())["results"]

    def _call(self, command: list[str]) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(self.root / "src"), "NO_COLOR": "1", **self.more}
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def snakemake(self, *arguments: str, config: Path | None = None) -> subprocess.CompletedProcess:
        base = [sys.executable, "-m", "snakemake", "--configfile", str(config or self.config), "--cores", "2"]
        return self._call([*base, *arguments])

    def jointseg(self, *arguments: str) -> subprocess.CompletedProcess:
        return self._call([sys.executable, "-m", "jointseg.cli.main", *arguments])

    def jobs_to_run(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule a dry run would run, the target left out."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return planned_jobs(done.stdout + done.stderr)

    def beside(self, root: Path, more: dict[str, str] | None = None) -> "Flow":
        """The same code and config in another folder, with nothing made."""
        copy_code(self.root, root)
        shutil.copy(self.config, root / self.config.name)
        return Flow(root, more)

    def variant(self, name: str, change: Callable[[dict], None]) -> Path:
        """A config file beside the first one, with a change made to it."""
        config = yaml.safe_load(self.config.read_text())
        change(config)
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path


def mini(config: dict) -> dict:
    """The synthetic scene's config at a size that runs in a minute or two: what is shown is the flow, not the maps."""
    config["synthetic"] = {"reach_km": 2, "dates_per_year": 4}
    config |= {"tile_km": 2, "years": [2017, 2021]}
    config["dataset"] |= {"count": 45, "block_m": 700}
    superres, segmentation = config["superres"]["presets"]["small"], config["segmentation"]["presets"]["small"]
    superres["model"] = {
        "stage1": {"features": 8, "growth": 4, "blocks": 1, "upsampling": "shuffle", "tail": 8},
        "stage2": {"features": 8, "growth": 4, "blocks": 1, "unshuffle": 2, "upsampling": "shuffle", "tail": 4},
    }
    for stage in ("stage1", "stage2", "adversarial"):
        superres[stage] |= {"steps": 6, "batch": 2, "validation_chips": 2}
    segmentation["training"] |= {"steps": 12, "batch": 2, "warmup": 2, "validate_every": 12}
    return config


def hashes(results: Path) -> dict[str, str]:
    """sha256 of every final output of a results folder, by its path in it."""
    entries = tree_digest(results)[0] if results.exists() else []
    return final({entry.path: entry.sha256 for entry in entries})


def final(found: dict[str, str]) -> dict[str, str]:
    """What a run made for good: no records of runs."""
    return {
        path: digest
        for path, digest in found.items()
        if path.partition("/")[0] not in NOT_FINAL and not path.endswith(TIMESTAMP)
    }


def copy_code(source: Path, target: Path) -> None:
    """What a run is made by, without what was made."""
    for name in COPIED:
        each = source / name
        (shutil.copytree if each.is_dir() else shutil.copy)(each, target / name)
