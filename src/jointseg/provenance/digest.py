"""Digests of files and folders: what a manifest says that something was."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
# Snakemake writes this into every output folder after the job, with the time in it.
TIMESTAMP = ".snakemake_timestamp"


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal; memory does not grow with the file."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, lambda: hashlib.sha256(usedforsecurity=False)).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One file of a folder: its posix path in the folder, its size in bytes and its sha256."""

    path: str
    size: int
    sha256: str


def tree_files(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by its posix path in it; Snakemake's own time stamp is left out."""
    found = [
        Path(here, name) for here, _, names in os.walk(folder, followlinks=True) for name in names if name != TIMESTAMP
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def tree_hash(entries: Iterable[Entry]) -> str:
    """One sha256 for a folder: that of the text which `sha256sum` prints for its files, sorted by path."""
    lines = "".join(f"{entry.sha256}  {entry.path}\n" for entry in sorted(entries, key=lambda entry: entry.path))
    return hashlib.sha256(lines.encode()).hexdigest()


def tree_digest(folder: Path, workers: int | None = None) -> tuple[list[Entry], str]:
    """The files of a folder, sorted by path, and one sha256 for all of them."""
    files = tree_files(folder)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        digests = list(pool.map(file_digest, files))
    entries = [
        Entry(path.relative_to(folder).as_posix(), path.stat().st_size, digest) for path, digest in zip(files, digests)
    ]
    return entries, tree_hash(entries)
