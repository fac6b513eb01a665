"""Finds and hashes many files at the speed of the machine, and remembers how far it came."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event

from jointseg.provenance.digest import CHUNK_BYTES, TIMESTAMP
from jointseg.provenance.hash_cache import SETTLE_SECONDS
from jointseg.runtime.errors import DataError

# Small files go to a thread many at a time: handing one over costs more than hashing it.
BATCH_FILES, BATCH_BYTES = 64, 8 << 20
KEEP_SECONDS = 1.0
_TABLE = """create table if not exists hashes (path text primary key, size integer, mtime_ns integer,
    ctime_ns integer, inode integer, sha256 text) without rowid"""


@dataclass(frozen=True)
class HashedFile:
    """One file that was read: its sha256 in hexadecimal, its size in bytes and its date; or why it was not read."""

    sha256: str
    size: int = 0
    mtime_ns: int = 0
    error: str = ""


class HashingPass:
    """What one pass over a results folder has hashed so far, in a file that outlives a kill and not the pass.

    It is written once a second, so that a short pass leaves no trace, and where it cannot be written, such as in a
    folder that may only be read, the pass goes on without.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        """Starts a pass at the file `path`, or goes on with the one that was interrupted."""
        self.path = path
        self.known: dict[str, tuple] = {}
        self.believed = 0  # files of which the interrupted pass had told
        self._rows: list[tuple] = []
        self._kept = time.monotonic()
        with suppress(OSError, sqlite3.DatabaseError):
            if resume and path.is_file():
                with sqlite3.connect(path) as base:
                    self.known = {row[0]: row[1:] for row in base.execute("select * from hashes")}
                base.close()
            else:
                path.unlink(missing_ok=True)

    def keep(self, rows: list[tuple]) -> None:
        """Takes rows of (path, size, mtime_ns, ctime_ns, inode, sha256) in, and writes them now and then."""
        self._rows += rows
        if time.monotonic() - self._kept > KEEP_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes what has not been written yet."""
        with suppress(OSError, sqlite3.DatabaseError):
            if self._rows:
                self.path.parent.mkdir(exist_ok=True)
                with sqlite3.connect(self.path) as base:
                    base.execute(_TABLE)
                    base.executemany("insert or replace into hashes values (?, ?, ?, ?, ?, ?)", self._rows)
                base.close()
        self._rows, self._kept = [], time.monotonic()

    def end(self) -> None:
        """Forgets the pass: it is over."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()  # only when nothing else is in it


def scan(folder: Path, left_out: tuple[str, ...] = ()) -> dict[str, int]:
    """Sizes in bytes of all files below a folder, by path in it; Snakemake's own time stamps are left out.

    Links to folders are followed, as they are when a job is recorded.

    Args:
        folder: the folder.
        left_out: names of folders directly in it that are not looked into.
    """
    found: dict[str, int] = {}
    waiting, entered = [""], set()
    while waiting:
        inside = waiting.pop()
        try:
            entries = list(os.scandir(folder / inside))
        except OSError as error:
            raise DataError(f"{folder / inside} cannot be read: {error.strerror}; ask for access to it") from error
        for entry in entries:
            if entry.is_dir():
                real = os.path.realpath(entry) if entry.is_symlink() else None
                if (inside or entry.name not in left_out) and (real is None or real not in entered):
                    entered.add(real)
                    waiting.append(f"{inside}{entry.name}/")
            elif entry.name != TIMESTAMP:
                dangling = entry.is_symlink() and not os.path.exists(entry)
                found[inside + entry.name] = entry.stat(follow_symlinks=not dangling).st_size
    return found


def hash_files(
    root: Path,
    sizes: dict[str, int],
    done: HashingPass,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, HashedFile]:
    """Hashes files with threads, the largest first, so that all threads end together.

    Args:
        root: the folder of the files.
        sizes: their sizes in bytes, by path in the folder.
        done: what the pass has hashed already and need not be hashed again.
        workers: threads; one a CPU when None.
        advance: called, from any thread, with the number of bytes just hashed.
    """
    found = _resumed(root, sizes, done)
    advance(sum(each.size for each in found.values()))
    stop = Event()
    pool = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)))
    try:
        waiting = [path for path in sizes if path not in found]
        tasks = [pool.submit(_hash_batch, root, batch, advance, stop) for batch in _batches(waiting, sizes)]
        for task in as_completed(tasks):
            hashed, rows = task.result()
            found |= hashed
            done.keep(rows)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        done.write()
    return found


def _resumed(root: Path, sizes: dict[str, int], done: HashingPass) -> dict[str, HashedFile]:
    found = {}
    for path in sizes.keys() & done.known.keys():
        *key, digest = done.known[path]
        with suppress(OSError):
            if tuple(key) == _key(os.stat(root / path)):
                found[path] = HashedFile(digest, key[0], key[1])
    done.believed = len(found)
    return found


def _batches(paths: list[str], sizes: dict[str, int]) -> Iterator[list[str]]:
    batch: list[str] = []
    room = BATCH_BYTES
    for path in sorted(paths, key=lambda path: (-sizes[path], path)):
        if batch and (len(batch) == BATCH_FILES or sizes[path] > room):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(path)
        room -= sizes[path]
    if batch:
        yield batch


def _hash_batch(
    root: Path, paths: list[str], advance: Callable[[int], None], stop: Event
) -> tuple[dict[str, HashedFile], list[tuple]]:
    """The files of a batch, and rows on those that a resumed pass may believe."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    found: dict[str, HashedFile] = {}
    rows: list[tuple] = []
    for path in paths:
        if stop.is_set():
            break
        try:
            found[path], row = _hash(f"{root}/{path}", buffer, advance, stop)
        except OSError as error:  # one bad sector is a finding, not the end of the audit
            found[path] = HashedFile("", error=f"cannot be read: {error.strerror}")
        else:
            rows += [(path, *row)] if row else []
    return found, rows


def _hash(
    path: str, buffer: memoryview, advance: Callable[[int], None], stop: Event
) -> tuple[HashedFile, tuple | None]:
    started = time.time_ns()
    # Without waiting for a writer, had somebody put a pipe there.
    with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            return HashedFile("", error="not a file"), None
        whole = sha256(usedforsecurity=False)
        while not stop.is_set() and (count := file.readinto(buffer)):
            whole.update(buffer[:count])
            advance(count)
        key = _key(os.fstat(file.fileno()))
    settled = max(key[1:3]) < started - SETTLE_SECONDS * 1e9
    whole_read = key == _key(before) and not stop.is_set()
    digest = whole.hexdigest()
    return HashedFile(digest, key[0], key[1]), (*key, digest) if settled and whole_read else None


def _key(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
