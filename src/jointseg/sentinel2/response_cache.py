"""Cache the responses of a server in files until a composite is complete, so that a stopped job can resume."""

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
from jointseg.sentinel2.scene import Scene
from jointseg.sentinel2.scene_windows import NO_SHIFT, Bounds, SceneReader, Shift, bounds_shape

log = logging.getLogger(__name__)

# Part of every file name; increase it to invalidate the files of an earlier format.
FORMAT = 1
_DTYPE = "<u2"


class CachingReader:
    """A thread-safe reader that caches every response of another reader in a file.

    A file is one line of JSON (shape, sha256 of the rest, source grid of the scene if it is resampled), then the
    values, uint16, compressed by zlib. A damaged file counts as missing. `hits` and `misses` count the windows that
    were read from files and from `reader`.
    """

    def __init__(self, reader: SceneReader, folder: Path) -> None:
        self.reader, self.folder = reader, Path(folder)
        self.epsg, self.warped, self.graphs, self.workers = reader.epsg, reader.warped, reader.graphs, reader.workers
        self.misses = self.hits = 0
        self._lock = Lock()

    def check(self, scene: Scene, keys: Sequence[str]) -> None:
        self.reader.check(scene, keys)

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray:
        """Return the cached response, or that of `reader`. Raises its errors, and DataError if the disk is full."""
        path = self.folder / self._name(scene, keys, bounds, shift_m)
        array = self._load(path, scene, (len(keys), *bounds_shape(bounds)))
        if array is None:
            array = self.reader.read(scene, keys, bounds, shift_m)
            self._save(path, scene, array)
            with self._lock:
                self.misses += 1
        else:
            with self._lock:
                self.hits += 1
        return array

    def close(self, scene: Scene) -> None:
        self.reader.close(scene)

    def clear(self) -> None:
        """Remove the files, after the composite is complete."""
        if self.folder.exists():
            remove_path(self.folder)

    def _name(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift) -> str:
        request: dict[str, Any] = {
            "format": FORMAT,
            "scene": scene.id,
            "hrefs": [scene.assets[key].href for key in keys],
            "keys": list(keys),
            "bounds": [float(edge) for edge in bounds],
            "shift_m": [float(part) for part in shift_m],
            "epsg": self.epsg,
        }
        return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()

    def _load(self, path: Path, scene: Scene, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the values of a file, uint16; None if it is missing or damaged."""
        try:
            line, _, compressed = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        try:
            header = json.loads(line)
            intact = header["sha256"] == hashlib.sha256(compressed).hexdigest()
            intact = intact and (header["shape"], header["dtype"]) == (list(shape), _DTYPE)
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            log.warning("%s is damaged; repeating its request", path)
            return None
        if header["warped"] is not None:
            self.warped[scene.id] = header["warped"]
        return np.frombuffer(zlib.decompress(compressed), dtype=_DTYPE).astype(np.uint16).reshape(shape)

    def _save(self, path: Path, scene: Scene, array: np.ndarray) -> None:
        compressed = zlib.compress(array.astype(_DTYPE).tobytes(), 1)
        header = {
            "shape": list(array.shape),
            "dtype": _DTYPE,
            "sha256": hashlib.sha256(compressed).hexdigest(),
            "warped": self.warped.get(scene.id),
        }
        with self._lock, atomic_write(path) as part:  # two threads may save the same response
            part.write_bytes(json.dumps(header, sort_keys=True).encode() + b"\n" + compressed)
