"""Parallel hashing of all files of a folder, with resume after an interruption."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event

from jointseg.provenance.digest import CHUNK_BYTES, TIMESTAMP
from jointseg.provenance.hash_cache import INSERT, SETTLE_SECONDS, TABLE, file_key
from jointseg.runtime.errors import DataError

# Small files are submitted in batches: submitting one takes longer than hashing it.
BATCH_FILES, BATCH_BYTES = 64, 8 << 20
SAVE_INTERVAL_S = 1.0


@dataclass(frozen=True)
class HashedFile:
    """One file: sha256 as hexadecimal digits, size in bytes and modification time; or the reason why it was not read."""

    sha256: str
    size: int = 0
    mtime_ns: int = 0
    error: str = ""


class HashingPass:
    """State of one pass over a results folder: the files hashed so far, in a file that exists only during the pass.

    The state is saved once per second, so a short pass writes no file. If it cannot be saved, for example in a read-only
    folder, the pass continues without it.

    Attributes:
        saved: rows (size, mtime_ns, ctime_ns, inode, sha256) of the interrupted pass, by path.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        """Start a pass with the state file `path`, or resume the interrupted one."""
        self.path = path
        self.saved: dict[str, tuple] = {}
        self.resumed = 0
        self._rows: list[tuple] = []
        self._last_save = time.monotonic()
        with suppress(OSError, sqlite3.DatabaseError):
            if resume and path.is_file():
                with closing(sqlite3.connect(path)) as base:
                    self.saved = {row[0]: row[1:] for row in base.execute("select * from hashes")}
            else:
                path.unlink(missing_ok=True)

    def add(self, rows: list[tuple]) -> None:
        """Add rows (path, size, mtime_ns, ctime_ns, inode, sha256) and save them at intervals."""
        self._rows += rows
        if time.monotonic() - self._last_save > SAVE_INTERVAL_S:
            self.save()

    def save(self) -> None:
        """Save the rows added since the last save."""
        with suppress(OSError, sqlite3.DatabaseError):
            if self._rows:
                self.path.parent.mkdir(exist_ok=True)
                with closing(sqlite3.connect(self.path)) as base, base:
                    base.execute(TABLE)
                    base.executemany(INSERT, self._rows)
        self._rows, self._last_save = [], time.monotonic()

    def finish(self) -> None:
        """Delete the state file."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()  # only if empty


def scan(folder: Path, excluded: tuple[str, ...] = ()) -> dict[str, int]:
    """Return the sizes in bytes of all files below a folder, by path in it, without Snakemake's timestamp files.

    Links to folders are followed, as in `provenance.digest.tree_files`. Top-level folders named in `excluded` are skipped.
    """
    sizes: dict[str, int] = {}
    queue, entered = [""], set()
    while queue:
        parent = queue.pop()
        try:
            entries = list(os.scandir(folder / parent))
        except OSError as error:
            raise DataError(f"cannot read {folder / parent}: {error.strerror}; check its permissions") from error
        for entry in entries:
            if entry.is_dir():
                real = os.path.realpath(entry) if entry.is_symlink() else None
                if (parent or entry.name not in excluded) and (real is None or real not in entered):
                    entered.add(real)
                    queue.append(f"{parent}{entry.name}/")
            elif entry.name != TIMESTAMP:
                dangling = entry.is_symlink() and not os.path.exists(entry)
                sizes[parent + entry.name] = entry.stat(follow_symlinks=not dangling).st_size
    return sizes


def hash_files(
    root: Path,
    sizes: dict[str, int],
    state: HashingPass,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, HashedFile]:
    """Hash files with threads, the largest first to balance the load.

    Args:
        sizes: file sizes in bytes, by path in the folder.
        state: the pass; files that it has already hashed are skipped.
        workers: number of threads; one per CPU if None.
        advance: called, from any thread, with the number of bytes just hashed.
    """
    found = _resumed(root, sizes, state)
    advance(sum(file.size for file in found.values()))
    stop = Event()
    pool = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)))
    try:
        remaining = [path for path in sizes if path not in found]
        tasks = [pool.submit(_hash_batch, root, batch, advance, stop) for batch in _batches(remaining, sizes)]
        for task in as_completed(tasks):
            hashed, rows = task.result()
            found |= hashed
            state.add(rows)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        state.save()
    return found


def _resumed(root: Path, sizes: dict[str, int], state: HashingPass) -> dict[str, HashedFile]:
    found = {}
    for path in sizes.keys() & state.saved.keys():
        *key, digest = state.saved[path]
        with suppress(OSError):
            if tuple(key) == file_key(os.stat(root / path)):
                found[path] = HashedFile(digest, key[0], key[1])
    state.resumed = len(found)
    return found


def _batches(paths: list[str], sizes: dict[str, int]) -> Iterator[list[str]]:
    batch: list[str] = []
    free_bytes = BATCH_BYTES
    for path in sorted(paths, key=lambda path: (-sizes[path], path)):
        if batch and (len(batch) == BATCH_FILES or sizes[path] > free_bytes):
            yield batch
            batch, free_bytes = [], BATCH_BYTES
        batch.append(path)
        free_bytes -= sizes[path]
    if batch:
        yield batch


def _hash_batch(
    root: Path, paths: list[str], advance: Callable[[int], None], stop: Event
) -> tuple[dict[str, HashedFile], list[tuple]]:
    """The files of a batch, and rows of those whose checksum a resumed pass may use."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    found: dict[str, HashedFile] = {}
    rows: list[tuple] = []
    for path in paths:
        if stop.is_set():
            break
        try:
            found[path], row = _hash(f"{root}/{path}", buffer, advance, stop)
        except OSError as error:  # reported as a finding
            found[path] = HashedFile("", error=f"cannot be read: {error.strerror}")
        else:
            rows += [(path, *row)] if row else []
    return found, rows


def _hash(
    path: str, buffer: memoryview, advance: Callable[[int], None], stop: Event
) -> tuple[HashedFile, tuple | None]:
    started = time.time_ns()
    # O_NONBLOCK: opening a named pipe must not block.
    with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            return HashedFile("", error="not a file"), None
        checksum = sha256(usedforsecurity=False)
        while not stop.is_set() and (count := file.readinto(buffer)):
            checksum.update(buffer[:count])
            advance(count)
        key = file_key(os.fstat(file.fileno()))
    settled = max(key[1:3]) < started - SETTLE_SECONDS * 1e9
    complete = key == file_key(before) and not stop.is_set()
    digest = checksum.hexdigest()
    return HashedFile(digest, key[0], key[1]), (*key, digest) if settled and complete else None
