"""GDAL's command-line tools; their library never meets rasterio's in one process."""

import subprocess

from jointseg.runtime.errors import DataError


def run(command: list[str]) -> str:
    """Runs a GDAL tool, for example ["gdalwarp", "-r", "near", a, b], and returns what it printed.

    Raises DataError with the tool's own words when it fails or is not installed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DataError(
            f"{command[0]} is not installed; install GDAL's tools (Debian: apt-get install gdal-bin)"
        ) from None
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise DataError(f"{command[0]} failed: {words[-1]} (command: {' '.join(command)})")
    return done.stdout
