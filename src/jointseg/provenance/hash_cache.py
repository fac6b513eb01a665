"""A cache of file checksums that all jobs of a run share, so that each unchanged file is hashed once."""

import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from jointseg.provenance.digest import Entry, file_digest, tree_files, tree_hash
from jointseg.runtime.errors import DataError

log = logging.getLogger(__name__)

# A file rewritten within one tick of the kernel's clock keeps its timestamps, so a checksum is cached only once they
# are this old.
SETTLE_SECONDS = 0.02
LOCK_SECONDS = 30
TABLE = """create table if not exists hashes (path text primary key, size integer, mtime_ns integer,
    ctime_ns integer, inode integer, sha256 text) without rowid"""
INSERT = "insert or replace into hashes values (?, ?, ?, ?, ?, ?)"
FileKey = tuple[int, int, int, int]


class HashCache:
    """sha256 of files by path, size, timestamps and inode, in one SQLite file.

    Jobs use it to write manifests. An audit does not use it: size and timestamps can be forged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def file(self, path: Path) -> Entry:
        """Return the entry of one file, with the path as passed. Raises DataError if the file changes while it is read."""
        return self.files([path])[0]

    def tree(self, folder: Path) -> list[Entry]:
        """Return the sorted entries of all files below a folder, with paths in the folder."""
        found = self.files(tree_files(folder))
        return [Entry(Path(entry.path).relative_to(folder).as_posix(), entry.size, entry.sha256) for entry in found]

    def digest(self, path: Path) -> str:
        """Return the checksum of a file or folder, as in a manifest."""
        return tree_hash(self.tree(path)) if path.is_dir() else self.file(path).sha256

    def files(self, paths: list[Path]) -> list[Entry]:
        """Return the entries of several files, with one transaction for the new checksums."""
        keys = [file_key(os.stat(path)) for path in paths]
        cached = self._cached(paths)
        entries: list[Entry] = []
        fresh: list[tuple] = []
        for path, key in zip(paths, keys):
            row = cached.get(str(path.absolute()))
            if row and row[:4] == key:
                entries.append(Entry(path.as_posix(), key[0], row[4]))
                continue
            age = time.time() - max(key[1], key[2]) / 1e9
            if 0 <= age < SETTLE_SECONDS:
                time.sleep(SETTLE_SECONDS - age)
            digest = file_digest(path)
            if file_key(os.stat(path)) != key:
                raise DataError(f"{path} changed while it was read; rerun when no other process writes it")
            entries.append(Entry(path.as_posix(), key[0], digest))
            fresh.append((str(path.absolute()), *key, digest))
        self._store(fresh)
        return entries

    def _cached(self, paths: list[Path]) -> dict[str, tuple]:
        names = [str(path.absolute()) for path in paths]
        query = "select path, size, mtime_ns, ctime_ns, inode, sha256 from hashes where path = ?"
        try:
            with closing(self._open()) as base:
                rows = (base.execute(query, (name,)).fetchone() for name in names)
                return {row[0]: row[1:] for row in rows if row}
        except sqlite3.DatabaseError as error:
            log.warning("cannot read the hash cache %s (%s); all files are hashed", self.path, error)
            return {}

    def _store(self, fresh: list[tuple]) -> None:
        if not fresh:
            return
        try:
            with closing(self._open()) as base, base:
                base.executemany(INSERT, fresh)
        except sqlite3.DatabaseError as error:
            log.warning("cannot write the hash cache %s (%s)", self.path, error)

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=LOCK_SECONDS)
        base.execute(TABLE)
        return base


def file_key(status: os.stat_result) -> FileKey:
    """Return size, modification time, change time and inode of a file: if they are equal, so is its content."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
