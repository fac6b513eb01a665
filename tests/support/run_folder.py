"""A copy of the repository with a small config, for whole runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from support.planned import planned_jobs
from support.tree_digest import tree_digest

from jointseg.audit.verify import UNDECLARED
from jointseg.provenance.digest import TIMESTAMP

NOT_COMPARED = (*UNDECLARED, "manifests")  # folders of results that differ between equal runs
ROOT = Path(__file__).parents[2]
COPIED = ["Snakefile", "rules", "src", "profiles", "envs", "docs", "pyproject.toml", "requirements.lock", "examples"]
CONFIG = "mini.yaml"


class RunFolder:
    """A folder with the code of the repository and the config mini.yaml, in which commands are run."""

    def __init__(self, root: Path, environment: dict[str, str] | None = None) -> None:
        """Use the folder `root`; `environment` has additional environment variables of the commands."""
        self.root, self.config, self.environment = root, root / CONFIG, environment or {}
        self.results = root / yaml.safe_load(self.config.read_text())["results"]
        self.results_name = self.results.relative_to(root).as_posix()

    def _call(self, command: list[str]) -> subprocess.CompletedProcess:
        # Tests of the object store in the same process leave the endpoint of their server in the environment.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment = inherited | {"PYTHONPATH": str(self.root / "src"), "NO_COLOR": "1", **self.environment}
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
        """Return the number of jobs by rule that a dry run lists, without the target rule."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return planned_jobs(done.stdout + done.stderr)

    def copy(self, root: Path, environment: dict[str, str] | None = None) -> "RunFolder":
        """Return a folder with the same code and config, without results."""
        copy_code(self.root, root)
        shutil.copy(self.config, root / CONFIG)
        return RunFolder(root, environment)

    def changed_config(self, name: str, change: Callable[[dict], None]) -> Path:
        """Write a changed config beside the first one."""
        config = yaml.safe_load(self.config.read_text())
        change(config)
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path


def create_run_folder(root: Path) -> RunFolder:
    """Copy the code and write mini.yaml, without running anything."""
    copy_code(ROOT, root)
    config = mini_config(yaml.safe_load((ROOT / "examples/synthetic/config.yaml").read_text()))
    (root / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    return RunFolder(root)


def mini_config(config: dict) -> dict:
    """Shrink the config of the synthetic scene to a run of one or two minutes, for tests of the workflow, not of maps."""
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
    """Return the sha256 of every comparable output of a results folder by its path."""
    entries = tree_digest(results)[0] if results.exists() else []
    return comparable({entry.path: entry.sha256 for entry in entries})


def comparable(hashes_by_path: dict[str, str]) -> dict[str, str]:
    """Drop the files that differ between equal runs, such as logs and manifests."""
    return {
        path: digest
        for path, digest in hashes_by_path.items()
        if path.partition("/")[0] not in NOT_COMPARED and not path.endswith(TIMESTAMP)
    }


def copy_code(source: Path, target: Path) -> None:
    """Copy code, examples and documentation, without results."""
    target.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        path = source / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, target / name)
