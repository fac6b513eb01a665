"""A copy of code and config, taken when a run starts: what is edited during a month-long run changes nothing of it."""

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

PLACE = Path(".jointseg", "frozen")  # in a results folder
CONFIG = "config.yaml"
WORKFLOW = ("Snakefile", "rules", "envs", "profiles", "docs/captions")
SKIPPED = ("__pycache__", ".egg-info")
DIGITS = 16


@dataclass(frozen=True)
class Snapshot:
    """The copy of one run: a folder like the repository, with the config of the run."""

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
    """Copies what a run is made by into its results folder, named by its digest, and removes the copies of earlier runs.

    Call it only where no other run works in the results folder (see `jointseg.run.lock`).

    Args:
        config: the config file.
        results: the results folder.
        home: the repository; where it is left out, the one that holds this package.

    Raises:
        DataError: there is no Snakefile beside the package.
    """
    home = home or SOURCE.parent
    if not (home / "Snakefile").is_file():
        raise DataError(f"{home} has no Snakefile; run from a checkout of the repository, or give --snakefile")
    files = {**_files(home), CONFIG: config}
    digest = hashlib.sha256()
    for place, file in sorted(files.items()):
        digest.update(f"{place}\0{file_digest(file)}\n".encode())
    kept = results / PLACE / digest.hexdigest()[:DIGITS]
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as part:
            for place, file in files.items():
                to = part / place
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, to)
            (part / machine.COMMIT_FILE).write_text(json.dumps(machine.commit(home)), encoding="utf-8")
    for other in kept.parent.iterdir():
        if other != kept:
            remove_path(other)
    return Snapshot(kept)


def _files(home: Path) -> dict[str, Path]:
    """The files of the workflow and of the package, by their place below the repository."""
    roots = [home / name for name in (*WORKFLOW, LOCK_FILE, "src") if (home / name).exists()]
    found = [path for root in roots for path in ([root] if root.is_file() else sorted(root.rglob("*")))]
    return {
        path.relative_to(home).as_posix(): path
        for path in found
        if path.is_file() and not any(part.endswith(SKIPPED) for part in path.relative_to(home).parts)
    }
