"""Storage of unfinished rasters as row bands, so that an interrupted job can resume."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from jointseg.runtime.files import atomic_write, remove_path

log = logging.getLogger(__name__)

_JOURNAL = "bands.jsonl"
_CHUNK_BYTES = 16 << 20


class RowBandStore:
    """Rows of several rasters of one width, appended in bands from north to south, in uncompressed files of one folder.

    The folder's journal has a first line that identifies the job, then the number of rows and the SHA-256 of every
    complete band. When the store is opened again for the same job, the bands that match the journal count as done.

    Args:
        folder: removed on exit without an error. None uses a temporary folder.
        key: text that identifies the job's inputs, settings and code; bands of another key are discarded.
        row_bytes: bytes of one row of all bands of each raster, by name.
    """

    def __init__(self, folder: Path | None, key: str, row_bytes: dict[str, int]) -> None:
        self._stack = ExitStack()
        self._persistent = folder is not None
        if folder is None:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="jointseg-bands-")))
        self.folder = Path(folder)
        self.row_bytes = row_bytes
        self._head = {"key": key, "row_bytes": row_bytes}
        self.rows = 0
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> "RowBandStore":
        self.folder.mkdir(parents=True, exist_ok=True)
        complete, self.rows = self._complete_bands()
        for name, size in self.row_bytes.items():
            file = self._stack.enter_context(open(self.path(name), "r+b" if self.rows else "w+b"))
            file.truncate(self.rows * size)
            file.seek(0, 2)
            self._files[name] = file
        lines = [json.dumps(self._head), *complete]
        with atomic_write(self.folder / _JOURNAL) as part:
            part.write_text("".join(f"{line}\n" for line in lines))
        self._journal = self._stack.enter_context(open(self.folder / _JOURNAL, "a", encoding="utf-8"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None and self._persistent:
            remove_path(self.folder)

    def path(self, name: str) -> Path:
        """Return the file of one raster: its rows in sequence, each with the rows of its bands."""
        return self.folder / f"{name}.bin"

    def append(self, arrays: dict[str, np.ndarray]) -> None:
        """Append the next rows of every raster, [bands, rows, columns]; flush them before the journal entry is written."""
        digests = {}
        for name, array in arrays.items():
            by_row = np.ascontiguousarray(array.transpose(1, 0, 2))
            file = self._files[name]
            file.write(by_row.data)
            file.flush()
            digests[name] = hashlib.sha256(by_row.data, usedforsecurity=False).hexdigest()
            rows = array.shape[1]
        self.rows += rows
        self._journal.write(json.dumps({"rows": rows, "sha256": digests}) + "\n")
        self._journal.flush()

    def _complete_bands(self) -> tuple[list[str], int]:
        """Return the journal lines of complete bands, and their number of rows."""
        try:
            head, *lines = (self.folder / _JOURNAL).read_text(encoding="utf-8").splitlines()
            if json.loads(head) != self._head:
                log.warning("discarding the bands in %s: they have other inputs, settings or code", self.folder)
                return [], 0
            with ExitStack() as stack:
                files = {name: stack.enter_context(open(self.path(name), "rb")) for name in self.row_bytes}
                return self._matching(lines, files)
        except (OSError, ValueError):
            return [], 0

    def _matching(self, lines: Sequence[str], files: Mapping[str, BinaryIO]) -> tuple[list[str], int]:
        matching: list[str] = []
        rows = 0
        for line in lines:
            try:
                entry = json.loads(line)
                digests = {name: _digest(files[name], entry["rows"] * size) for name, size in self.row_bytes.items()}
                matches = digests == entry["sha256"]
            except (ValueError, KeyError, TypeError):
                matches = False
            if not matches:
                log.warning("band %d in %s is damaged: resuming before it", len(matching) + 1, self.folder)
                break
            matching.append(line)
            rows += entry["rows"]
        return matching, rows


def _digest(file: BinaryIO, size: int) -> str:
    """Return the SHA-256 of the next `size` bytes, or of fewer at the end of the file."""
    digest = hashlib.sha256(usedforsecurity=False)
    while size > 0 and (chunk := file.read(min(size, _CHUNK_BYTES))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()
