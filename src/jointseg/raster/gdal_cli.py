"""GDAL's command-line tools, in their own process: their libgdal must not be loaded beside rasterio's."""

import subprocess

from jointseg.runtime.errors import DataError


def run(command: list[str]) -> str:
    """Run a GDAL tool, for example ["gdalwarp", "-r", "near", a, b], and return its standard output.

    Raises DataError with the tool's last error message if it fails or is not installed.
    """
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DataError(
            f"{command[0]} is not installed; install GDAL's tools (Debian: apt-get install gdal-bin)"
        ) from None
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        message = lines[-1] if lines else f"exit status {process.returncode}"
        raise DataError(f"{command[0]} failed: {message} (command: {' '.join(command)})")
    return process.stdout
