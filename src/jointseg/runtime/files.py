"""Files written beside their final name and renamed: a killed job leaves nothing half-written."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jointseg.runtime.errors import DataError

_PART, _STRIPS = ".part-", ".strips.tif"
_FULL_BYTES = 4 << 20  # a block that found no room may leave this much


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file or a folder to; renamed to `path` on success, removed otherwise.

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
        # GDAL says that a write failed, not why; what was half-written still lies there.
        if getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(path.parent).free < _FULL_BYTES:
            raise DataError(
                f"no space left on the disk of {path.parent} to write {path.name}; free some and run again"
            ) from error
        raise
    finally:
        remove_path(part)
        remove_path(strips_path(part))


def strips_path(part: Path) -> Path:
    """Where a Writer keeps its row bands until they become a COG."""
    return part.with_name(part.name + _STRIPS)


def remove_partial_files(path: Path) -> None:
    """Removes what killed jobs left half-written beside `path`; call only when no other job writes it."""
    path = Path(path)
    own = re.compile(rf"{re.escape(_PART)}\d+-(old-)?{re.escape(path.name)}({re.escape(_STRIPS)})?")
    for part in [beside for beside in path.parent.iterdir() if own.fullmatch(beside.name)]:
        remove_path(part)


def remove_path(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replace(part: Path, path: Path) -> None:
    if path.is_dir():  # a folder cannot be renamed over a folder that holds files
        old = path.with_name(f"{_PART}{os.getpid()}-old-{path.name}")
        path.rename(old)
        part.rename(path)
        remove_path(old)
    else:
        part.replace(path)
