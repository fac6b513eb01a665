"""Half-made rasters kept as row bands: what a killed job has finished is not computed again."""

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


class Bands:
    """Rows of several rasters of one width, appended from north to south in bands, in plain files of one folder.

    The journal of the folder tells the rows and the sha256 of every band that is whole, after a first line that tells
    what the work is. Opened again for the same work, the bands that agree with it count as done.

    Args:
        folder: where they are kept, removed on leaving without an error; None keeps them in a folder that goes in any
            case.
        key: what the work depends on, as text; bands of another key are thrown away.
        row_bytes: by name, bytes of one row of all bands of that raster.
    """

    def __init__(self, folder: Path | None, key: str, row_bytes: dict[str, int]) -> None:
        self._stack = ExitStack()
        self._lasting = folder is not None
        self.folder = Path(folder) if folder is not None else Path(self._stack.enter_context(_passing()))
        self.row_bytes = row_bytes
        self._head = {"key": key, "row_bytes": row_bytes}
        self.rows = 0
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> "Bands":
        self.folder.mkdir(parents=True, exist_ok=True)
        whole, self.rows = self._whole()
        for name, size in self.row_bytes.items():
            file = self._stack.enter_context(open(self.path(name), "r+b" if self.rows else "w+b"))
            file.truncate(self.rows * size)
            file.seek(0, 2)
            self._files[name] = file
        lines = [json.dumps(self._head), *whole]
        with atomic_write(self.folder / _JOURNAL) as part:
            part.write_text("".join(f"{line}\n" for line in lines))
        self._journal = self._stack.enter_context(open(self.folder / _JOURNAL, "a", encoding="utf-8"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None and self._lasting:
            remove_path(self.folder)

    def path(self, name: str) -> Path:
        """The file of one raster: rows one after another, in each the rows of its bands."""
        return self.folder / f"{name}.bin"

    def append(self, arrays: dict[str, np.ndarray]) -> None:
        """Adds the next rows of every raster, [bands, rows, columns]; they are flushed before the journal tells of them."""
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

    def _whole(self) -> tuple[list[str], int]:
        """The lines of the journal whose bands are whole, and how many rows these have."""
        try:
            head, *lines = (self.folder / _JOURNAL).read_text(encoding="utf-8").splitlines()
            if json.loads(head) != self._head:
                log.warning("the bands in %s are of other inputs, settings or code: they are made afresh", self.folder)
                return [], 0
            with ExitStack() as stack:
                files = {name: stack.enter_context(open(self.path(name), "rb")) for name in self.row_bytes}
                return self._agreeing(lines, files)
        except (OSError, ValueError):
            return [], 0

    def _agreeing(self, lines: Sequence[str], files: Mapping[str, BinaryIO]) -> tuple[list[str], int]:
        kept: list[str] = []
        rows = 0
        for line in lines:
            try:
                told = json.loads(line)
                found = {name: _digest(files[name], told["rows"] * size) for name, size in self.row_bytes.items()}
                agrees = found == told["sha256"]
            except (ValueError, KeyError, TypeError):
                agrees = False
            if not agrees:
                log.warning("band %d in %s is damaged: it and what follows are made again", len(kept) + 1, self.folder)
                break
            kept.append(line)
            rows += told["rows"]
        return kept, rows


def _digest(file: BinaryIO, size: int) -> str:
    """sha256 of the next `size` bytes, or of fewer where the file ends."""
    digest = hashlib.sha256(usedforsecurity=False)
    while size > 0 and (chunk := file.read(min(size, _CHUNK_BYTES))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def _passing() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="jointseg-bands-")
