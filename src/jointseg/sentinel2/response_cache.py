"""Answers of a server, kept in files until a composite is whole: a job that was stopped asks for the rest alone."""

import hashlib
import json
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from jointseg.runtime.files import atomic_write, remove_path
from jointseg.sentinel2.observations import SceneReader
from jointseg.sentinel2.scene import Scene
from jointseg.sentinel2.scene_windows import NO_SHIFT, Bounds, Shift, bounds_shape

log = logging.getLogger(__name__)

# Part of every name: what was kept by an older way of reading is asked for again.
FORMAT = 1
_DTYPE = "<u2"


class CachingReader:
    """A reader that keeps every answer of another one, and gives back what it has; threads may share it.

    A piece is one file: a line of JSON (shape, sha256 of the rest, from where its scene was warped), then the values,
    uint16, compressed by zlib. One that is not whole counts as missing.

    Args:
        reader: asked for what is not kept.
        folder: of the pieces of one composite.

    Attributes:
        asked: answers that the reader gave.
        kept: answers that came from files.
    """

    def __init__(self, reader: SceneReader, folder: Path) -> None:
        self.reader, self.folder = reader, Path(folder)
        self.epsg, self.warped, self.graphs, self.workers = reader.epsg, reader.warped, reader.graphs, reader.workers
        self.asked = self.kept = 0
        self._lock = Lock()

    def check(self, scene: Scene, keys: Sequence[str]) -> None:
        self.reader.check(scene, keys)

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray:
        """As the reader's own.

        Raises:
            DataError: the reader's, or the disk has no room for the answer.
        """
        path = self.folder / self._name(scene, keys, bounds, shift_m)
        shape = (len(keys), *bounds_shape(bounds))
        array = self._whole(path, scene, shape)
        if array is None:
            array = self.reader.read(scene, keys, bounds, shift_m)
            self._keep(path, scene, array)
            with self._lock:
                self.asked += 1
        else:
            with self._lock:
                self.kept += 1
        return array

    def close(self, scene: Scene) -> None:
        """As the reader's own."""
        self.reader.close(scene)

    def drop(self) -> None:
        """Removes the pieces: the composite is whole."""
        if self.folder.exists():
            remove_path(self.folder)

    def _name(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift) -> str:
        asked: dict[str, Any] = {
            "format": FORMAT,
            "scene": scene.id,
            "hrefs": [scene.assets[key].href for key in keys],
            "keys": list(keys),
            "bounds": [float(edge) for edge in bounds],
            "shift_m": [float(part) for part in shift_m],
            "epsg": self.epsg,
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def _whole(self, path: Path, scene: Scene, shape: tuple[int, ...]) -> np.ndarray | None:
        """The values of a piece, uint16; None where it is missing or damaged."""
        try:
            line, _, packed = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        try:
            header = json.loads(line)
            sound = header["sha256"] == hashlib.sha256(packed).hexdigest()
            sound = sound and (header["shape"], header["dtype"]) == (list(shape), _DTYPE)
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            log.warning("%s is damaged: it is asked for again", path)
            return None
        if header["warped"] is not None:
            self.warped[scene.id] = header["warped"]
        return np.frombuffer(zlib.decompress(packed), dtype=_DTYPE).astype(np.uint16).reshape(shape)

    def _keep(self, path: Path, scene: Scene, array: np.ndarray) -> None:
        packed = zlib.compress(array.astype(_DTYPE).tobytes(), 1)
        header = {
            "shape": list(array.shape),
            "dtype": _DTYPE,
            "sha256": hashlib.sha256(packed).hexdigest(),
            "warped": self.warped.get(scene.id),
        }
        with self._lock, atomic_write(path) as part:  # two threads may be given the same answer
            part.write_bytes(json.dumps(header, sort_keys=True).encode() + b"\n" + packed)
