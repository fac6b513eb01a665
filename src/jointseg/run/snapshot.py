"""Snapshot of code and config, taken when a run starts, so that later edits do not affect the run."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from jointseg.provenance import machine
from jointseg.provenance.code_digest import LOCK_FILE, SOURCE
from jointseg.provenance.digest import file_digest
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write, remove_path

FOLDER = Path(".jointseg", "snapshot")  # in a results folder
CONFIG = "config.yaml"
WORKFLOW = ("Snakefile", "rules", "envs", "profiles", "docs/captions")
SKIPPED = ("__pycache__", ".egg-info")
DIGITS = 16


@dataclass(frozen=True)
class Snapshot:
    """A folder with the layout of the repository, and the config of the run."""

    home: Path

    @property
    def snakefile(self) -> Path:
        return self.home / "Snakefile"

    @property
    def config(self) -> Path:
        return self.home / CONFIG

    @property
    def source(self) -> Path:
        return self.home / "src"


def take_snapshot(config: Path, results: Path, home: Path | None = None) -> Snapshot:
    """Copy workflow, package and config into the results folder, and remove the snapshots of earlier runs.

    The folder is named by the digest of its files. Hold the lock of the results folder (see `jointseg.run.lock`).

    `home` is the repository, by default the one that contains this package. Raises DataError if it has no Snakefile.
    """
    home = home or SOURCE.parent
    if not (home / "Snakefile").is_file():
        raise DataError(f"{home} has no Snakefile; run from a checkout of the repository, or pass --snakefile")
    files = {**_files(home), CONFIG: config}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        digest.update(f"{name}\0{file_digest(file)}\n".encode())
    folder = results / FOLDER / digest.hexdigest()[:DIGITS]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as part:
            for name, file in files.items():
                target = part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)
            (part / machine.COMMIT_FILE).write_text(json.dumps(machine.commit(home)), encoding="utf-8")
    for other in folder.parent.iterdir():
        if other != folder:
            remove_path(other)
    return Snapshot(folder)


def _files(home: Path) -> dict[str, Path]:
    """Return the files of the workflow and of the package by their path in the repository."""
    roots = [home / name for name in (*WORKFLOW, LOCK_FILE, "src") if (home / name).exists()]
    found = [path for root in roots for path in ([root] if root.is_file() else sorted(root.rglob("*")))]
    return {
        path.relative_to(home).as_posix(): path
        for path in found
        if path.is_file() and not any(part.endswith(SKIPPED) for part in path.relative_to(home).parts)
    }
