"""What a job ran on and with: commit, packages, processor, times, memory."""

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jointseg.provenance.code_digest import LOCK_FILE, SOURCE
from jointseg.provenance.digest import file_digest

COMMIT_FILE = (
    "commit.json"  # beside the package where it is a copy that a run froze: of what commit, and whether changed
)
# Packages that pixels pass through.
MAIN_PACKAGES = (
    *("jointseg", "python", "numpy", "scipy", "torch", "transformers", "safetensors", "rasterio", "gdal (rasterio)"),
    *("gdal (tools)", "pyproj", "shapely", "geopandas"),
)


def software() -> dict[str, Any]:
    """Commit, lock file and versions of whatever this process has loaded."""
    home = SOURCE.parent
    lock = home / LOCK_FILE
    loaded = {name.partition(".")[0] for name in sys.modules}
    owners = _owners()
    used = sorted({owners[name][0] for name in loaded if name in owners})
    versions = {name: metadata.version(name) for name in used} | {"python": platform.python_version()}
    if "rasterio" in loaded:
        versions["gdal (rasterio)"] = sys.modules["rasterio"].__gdal_version__
    if "jointseg.raster.gdal_cli" in sys.modules:
        versions["gdal (tools)"] = _said(["gdalinfo", "--version"], home) or "none"
    return {
        **commit(home),
        "lock": {"file": lock.name, "sha256": file_digest(lock)} if lock.is_file() else None,
        "versions": versions,
    }


def commit(home: Path) -> dict[str, Any]:
    """{"commit", "dirty"} of a checkout, or of the one that a frozen copy was taken from; None where it is not known."""
    frozen = home / COMMIT_FILE
    if frozen.is_file():
        return json.loads(frozen.read_text(encoding="utf-8"))
    changes = _said(["git", "status", "--porcelain", "--untracked-files=no"], home)
    return {
        "commit": _said(["git", "rev-parse", "HEAD"], home) or None,
        "dirty": None if changes is None else bool(changes),
    }


@cache
def _owners() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _said(command: list[str], home: Path) -> str | None:
    """What a command printed, None when it is not there or fails."""
    try:
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.strip()


def processor() -> str | None:
    """Model of this machine's processor, None where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def device() -> dict[str, Any]:
    """Processor, CPUs of this process, and what torch uses where it is loaded."""
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
    """Seconds of processor and peak memory of this process and its children, bytes."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "user_seconds": round(own.ru_utime + children.ru_utime, 3),
        "system_seconds": round(own.ru_stime + children.ru_stime, 3),
        "peak_memory_bytes": max(own.ru_maxrss, children.ru_maxrss) * 1024,
    }
