"""Execution environment of a job: commit, package versions, processor, CPU time and memory."""

import json
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from jointseg.provenance.code_digest import LOCK_FILE, SOURCE
from jointseg.provenance.digest import file_digest

COMMIT_FILE = "commit.json"  # in a snapshot of the code: commit and dirty flag of the original checkout
# Packages that affect pixel values.
MAIN_PACKAGES = (
    *("jointseg", "python", "numpy", "scipy", "torch", "transformers", "safetensors", "rasterio", "gdal (rasterio)"),
    *("gdal (tools)", "pyproj", "shapely", "geopandas"),
)


def software() -> dict[str, Any]:
    """Return the commit, the lock file and the versions of all packages that this process has loaded."""
    home = SOURCE.parent
    lock = home / LOCK_FILE
    versions = _loaded_versions() | {"python": platform.python_version()}
    if "rasterio" in sys.modules:
        versions["gdal (rasterio)"] = sys.modules["rasterio"].__gdal_version__
    if "jointseg.raster.gdal_cli" in sys.modules:
        versions["gdal (tools)"] = _output_of(["gdalinfo", "--version"], home) or "none"
    return {
        **commit(home),
        "lock": {"file": lock.name, "sha256": file_digest(lock)} if lock.is_file() else None,
        "versions": versions,
    }


def commit(home: Path) -> dict[str, Any]:
    """Return {"commit", "dirty"} of a checkout or a snapshot of one; both are None outside a repository."""
    snapshot = home / COMMIT_FILE
    if snapshot.is_file():
        return json.loads(snapshot.read_text(encoding="utf-8"))
    changes = _output_of(["git", "status", "--porcelain", "--untracked-files=no"], home)
    return {
        "commit": _output_of(["git", "rev-parse", "HEAD"], home) or None,
        "dirty": None if changes is None else bool(changes),
    }


def _loaded_versions() -> dict[str, str]:
    """Versions of the loaded distributions, sorted by name.

    `importlib.metadata.packages_distributions` is slow: it parses the file list of every installed distribution. The
    first path component of each file is sufficient.
    """
    loaded = {name.partition(".")[0] for name in sys.modules}
    owners: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        names = (distribution.read_text("top_level.txt") or "").split()
        if not names:
            lines = (distribution.read_text("RECORD") or "").splitlines()
            names = list({line.partition(",")[0].partition("/")[0].removesuffix(".py") for line in lines})
        for name in loaded.intersection(names):
            owners.setdefault(name, distribution)
    return dict(sorted({owner.metadata["Name"]: owner.version for owner in owners.values()}.items()))


def _output_of(command: list[str], home: Path) -> str | None:
    """Standard output of a command; None if it is not installed or fails."""
    try:
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.strip()


def processor() -> str | None:
    """Return the processor model of this machine, None if /proc/cpuinfo does not contain it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def device() -> dict[str, Any]:
    """Return processor, number of CPUs and, if torch is loaded, its threads and GPU."""
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "processor": processor(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_threads"] = torch.get_num_threads()
        found["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_initialized() else None
    return found


def usage() -> dict[str, Any]:
    """Return CPU seconds and peak memory (bytes) of this process and its children."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "user_seconds": round(own.ru_utime + children.ru_utime, 3),
        "system_seconds": round(own.ru_stime + children.ru_stime, 3),
        "peak_memory_bytes": max(own.ru_maxrss, children.ru_maxrss) * 1024,
    }
