"""Checksums of files and folders."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
# Snakemake writes this file, which contains the time, into every output folder.
TIMESTAMP = ".snakemake_timestamp"


def file_digest(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits; memory is independent of the file size."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, lambda: hashlib.sha256(usedforsecurity=False)).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One file of a folder: POSIX path in the folder, size in bytes and sha256."""

    path: str
    size: int
    sha256: str


def tree_files(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted by its POSIX path in it, without Snakemake's timestamp file."""
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name != TIMESTAMP
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def tree_hash(entries: Iterable[Entry]) -> str:
    """Return the checksum of a folder: the sha256 of what `sha256sum` prints for its files, sorted by path."""
    lines = "".join(f"{entry.sha256}  {entry.path}\n" for entry in sorted(entries, key=lambda entry: entry.path))
    return hashlib.sha256(lines.encode()).hexdigest()
