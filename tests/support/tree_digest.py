"""Checksum of a folder, computed without the hash cache of a run."""

from pathlib import Path

from jointseg.provenance.digest import Entry, file_digest, tree_files, tree_hash


def tree_digest(folder: Path) -> tuple[list[Entry], str]:
    """Return the entries of a folder, sorted by path, and its checksum."""
    entries = [
        Entry(path.relative_to(folder).as_posix(), path.stat().st_size, file_digest(path))
        for path in tree_files(folder)
    ]
    return entries, tree_hash(entries)
