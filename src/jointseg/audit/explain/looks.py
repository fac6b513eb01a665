"""What each Sentinel-2 scene of a composite saw at one 10 m pixel, by the very code that made the composite."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
from rasterio.errors import RasterioError

from jointseg.audit.lineage import Lineage
from jointseg.errors import DataError
from jointseg.grid import parse_tile
from jointseg.provenance.manifest import Manifest
from jointseg.sentinel2 import clouds, normalise
from jointseg.sentinel2 import composite as compositing
from jointseg.sentinel2 import scene as scene_list
from jointseg.sentinel2.combine import METHODS
from jointseg.sentinel2.composite import SATURATED_DN
from jointseg.sentinel2.pixels import RES_M, Bounds
from jointseg.sentinel2.scene import Scene

# What the classes mean, by the mask that tells them.
CLASS_NAMES = {
    "SCL": {
        0: "no data",
        1: "saturated or defective",
        2: "dark area",
        3: "cloud shadow",
        4: "vegetation",
        5: "bare ground",
        6: "water",
        7: "unclassified",
        8: "cloud, medium probability",
        9: "cloud, high probability",
        10: "thin cirrus",
        11: "snow or ice",
    },
    "CLASSI": {7: "no cloud", 9: "opaque cloud", 10: "cirrus", 11: "snow or ice"},
    "CS": {0: "no data", 7: "no cloud", 9: "cloud by its score"},
}


@dataclass(frozen=True)
class Look:
    """One scene of the frozen list, and whether it was clear at the pixel.

    Attributes:
        number: place in the list, from 1.
        clear: None where the scenes could not be read again.
        why: "no data", "saturated", "masked", "buffer", or None for a clear look.
        scene_class: the class at the pixel; for "buffer" that of the nearest dropped pixel.
        distance_m: to that pixel's centre, for "buffer".
        detail: all that in words.
        values: reflectance x 10000 by band, as it went into the composite.
        lines: by band, the line that brought the scene to the reference: band, kind, gain, offset_dn, ...
        taken: whether the medoid took this look; None for other methods.
    """

    number: int
    id: str
    datetime: str | None
    level: str
    platform: str | None
    mgrs: str | None
    relative_orbit: int | None
    baseline: str | None
    cloud_percent: float | None
    mask: str | None
    clear: bool | None
    why: str | None
    scene_class: int | None
    distance_m: float | None
    detail: str
    values: dict[str, int] | None
    lines: list[dict[str, Any]] | None
    taken: bool | None


@dataclass(frozen=True)
class Seen:
    """What the scenes saw in bounds.

    Attributes:
        stack: uint16 [scenes, bands, rows, columns], reflectance x 10000, brought to the reference.
        clear: bool [scenes, rows, columns].
        raw: what was read of each scene, by scene id and keys.
    """

    stack: np.ndarray
    clear: np.ndarray
    raw: dict[tuple[str, tuple[str, ...]], np.ndarray]


class _Noting:
    """A reader that keeps what it has read."""

    def __init__(self, reader: compositing.Reader) -> None:
        self._reader = reader
        self.warped, self.workers = reader.warped, reader.workers
        self.raw: dict[tuple[str, tuple[str, ...]], np.ndarray] = {}

    def check(self, scene: Scene, bands: list[str]) -> None:
        self._reader.check(scene, bands)

    def read(self, scene: Scene, keys: list[str], bounds: Bounds) -> np.ndarray:
        values = self._reader.read(scene, keys, bounds)
        self.raw[scene.id, tuple(keys)] = values
        return values


class Scenes:
    """The scenes behind one composite.

    Attributes:
        listed: of the frozen list.
        lines: by scene id, the fits of the normalisation; empty where there was none.
        unread: why the scene files cannot be read any more, None while they can.
        damaged: whether that is because a file of the archive is not what the list says.
    """

    def __init__(self, lineage: Lineage, made: Manifest) -> None:
        """Reads the list; `made` is the manifest of the composite. DataError when the list is not there."""
        self.params: dict[str, Any] = made.written["params"]
        paths = {each.name: lineage.path(made, each.path) for each in made.inputs}
        if not paths["scenes"].is_file():
            raise DataError(f"{paths['scenes']}, the scene list of {made.name}, is not there; restore it")
        self.listed = scene_list.load(paths["scenes"])
        self.tile = parse_tile(made.written["wildcards"]["tile"], self.params["tile_km"])
        self.lines = {
            name: [normalise.Fit(**line) for line in lines]
            for name, lines in made.written["facts"].get("normalisation", {}).items()
        }
        self.unread: str | None = None
        self.damaged = False
        self._reader = self._open(paths.get("archive"))

    def _open(self, archive: Path | None) -> compositing.Reader | None:
        source, kept = self.params["source"], self.params["source"]["kind"] == "archive"
        there = False
        try:
            reader = compositing._reader(source, archive, self.tile, self.listed[0].level)
            there = kept
            for scene in self.listed if kept else ():
                reader.check(scene, self.params["bands"])
        except (DataError, OSError, RasterioError, requests.RequestException) as error:
            self._lost(error, there)
            return None
        return reader

    def _lost(self, error: Exception, damaged: bool) -> None:
        self.unread, self.damaged = str(error) or type(error).__name__, damaged

    def see(self, bounds: Bounds) -> Seen | None:
        """What the scenes saw in bounds on the 10 m lattice; None, and `unread` says why, when they cannot be read."""
        if self._reader is None:
            return None
        noting, params = _Noting(self._reader), self.params
        try:
            stack, clear = compositing._observations(
                noting, self.listed, params["bands"], bounds, params["scl_drop"], params["scl_buffer_m"]
            )
        except (DataError, OSError, RasterioError, requests.RequestException) as error:
            self._reader = None
            self._lost(error, params["source"]["kind"] == "archive")
            return None
        if self.lines:
            adjusted = [normalise.apply(layer, self.lines[scene.id]) for scene, layer in zip(self.listed, stack)]
            stack = np.stack(adjusted)
        return Seen(stack, clear, noting.raw)

    def combined(self, seen: Seen) -> np.ndarray:
        """The composite of what was seen, uint16 [bands + 1 or 2, rows, columns]."""
        return METHODS[self.params["method"]](seen.stack, seen.clear, max(self.params["min_clear"], 1))

    def looks(self, seen: Seen | None, taken: int | None) -> list[Look]:
        """Every scene of the list at one pixel.

        Args:
            seen: of that pixel; None where the scenes could not be read.
            taken: place in the list of the look that the medoid took, 0 for none; None for other methods.
        """
        return [self._look(number, scene, seen, taken) for number, scene in enumerate(self.listed)]

    def _look(self, number: int, scene: Scene, seen: Seen | None, taken: int | None) -> Look:
        clear = why = place = distance = values = None
        if seen is not None:
            clear = bool(seen.clear[number, 0, 0])
            dn = seen.raw[scene.id, tuple(self.params["bands"])][:, 0, 0]
            if not (dn == 0).any():
                values = {name: int(value) for name, value in zip(self.params["bands"], seen.stack[number, :, 0, 0])}
            why, place, distance = self._why(scene, dn, seen) if not clear else (None, self._at(scene, seen), None)
        return Look(
            number=number + 1,
            id=scene.id,
            datetime=scene.datetime,
            level=scene.level,
            platform=scene.platform,
            mgrs=scene.mgrs,
            relative_orbit=scene.relative_orbit,
            baseline=scene.baseline,
            cloud_percent=scene.cloud_percent,
            mask=scene.mask,
            clear=clear,
            why=why,
            scene_class=place,
            distance_m=distance,
            detail=_words(scene, clear, why, place, distance),
            values=values,
            lines=[line.record() for line in self.lines[scene.id]] if self.lines else None,
            taken=None if taken is None else number + 1 == taken,
        )

    def _classes(self, scene: Scene, seen: Seen) -> np.ndarray | None:
        """uint8, the classes at the pixel and as far around it as clouds reach by their buffer."""
        values = seen.raw.get((scene.id, (scene.mask,))) if scene.mask else None
        return None if values is None else clouds.classes(scene.mask or "", values[0], f"scene {scene.id}")

    def _at(self, scene: Scene, seen: Seen) -> int | None:
        found = self._classes(scene, seen)
        return None if found is None else int(found[found.shape[0] // 2, found.shape[1] // 2])

    def _why(self, scene: Scene, dn: np.ndarray, seen: Seen) -> tuple[str, int | None, float | None]:
        """Why a look is not clear, the class that says so, and how far off that is."""
        if (dn == 0).any():
            return "no data", None, None
        if (dn >= SATURATED_DN).any():
            return "saturated", None, None
        found = self._classes(scene, seen)
        assert found is not None  # without a mask, whatever holds data is clear
        middle, drop = found.shape[0] // 2, self.params["scl_drop"]
        if found[middle, middle] in drop:
            return "masked", int(found[middle, middle]), None
        rows, cols = np.nonzero(np.isin(found, [value for value in drop if value != clouds.NO_DATA]))
        apart = np.hypot(rows - middle, cols - middle)
        near = int(apart.argmin())
        return "buffer", int(found[rows[near], cols[near]]), round(float(apart[near]) * RES_M, 1)


def _words(scene: Scene, clear: bool | None, why: str | None, place: int | None, distance: float | None) -> str:
    known = "" if place is None else CLASS_NAMES[scene.mask or ""].get(place, "unknown class")
    named = f"{known} ({scene.mask} {place})" if scene.mask == "SCL" else f"{known} ({scene.mask})"
    if clear is None:
        return "not read again"
    if clear:
        return named if known else "no cloud mask in this scene"
    if why == "masked":
        return f"masked: {named}"
    if why == "buffer":
        return f"only {distance:g} m from {named}"
    return "outside the scene, or no data there" if why == "no data" else "saturated"
