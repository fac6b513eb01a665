"""Atomic writes: a temporary file beside the final path, renamed on success. A killed job leaves no partial output."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jointseg.runtime.errors import DataError

_PART, _STRIPS = ".part-", ".strips.tif"
_FULL_DISK_BYTES = 4 << 20  # a block that did not fit can leave up to this much free space


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` for a file or folder; rename it to `path` on success, remove it otherwise.

    Raises DataError when the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{_PART}{os.getpid()}-{path.name}")
    remove_path(part)
    try:
        yield part
        _replace(part, path)
    except Exception as error:
        # GDAL does not report the cause of a failed write. The partial file still fills the disk here.
        if getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(path.parent).free < _FULL_DISK_BYTES:
            raise DataError(
                f"no space left on the disk of {path.parent} to write {path.name}; free some space and rerun"
            ) from error
        raise
    finally:
        remove_path(part)
        remove_path(strips_path(part))


def strips_path(part: Path) -> Path:
    """Return the path where `cog.open_writer` stores its strips until they become a COG."""
    return part.with_name(part.name + _STRIPS)


def remove_partial_files(path: Path) -> None:
    """Remove the partial files that killed jobs left beside `path`. Call it only when no other job writes `path`."""
    path = Path(path)
    pattern = re.compile(rf"{re.escape(_PART)}\d+-(old-)?{re.escape(path.name)}({re.escape(_STRIPS)})?")
    for part in [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)]:
        remove_path(part)


def remove_path(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replace(part: Path, path: Path) -> None:
    if path.is_dir():  # rename() cannot replace a folder that is not empty
        old = path.with_name(f"{_PART}{os.getpid()}-old-{path.name}")
        path.rename(old)
        part.rename(path)
        remove_path(old)
    else:
        part.replace(path)
