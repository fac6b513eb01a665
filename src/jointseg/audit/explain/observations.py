"""What each Sentinel-2 scene of a composite saw at one 10 m pixel, by the very code that made the composite."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import requests
from rasterio.errors import RasterioError

from jointseg.area.grid import parse_tile
from jointseg.audit.lineage import Lineage
from jointseg.provenance.manifest import Manifest
from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import clouds, normalise
from jointseg.sentinel2 import composite as compositing
from jointseg.sentinel2 import scene as scene_list
from jointseg.sentinel2.observations import (
    MaskSettings,
    Observation,
    ObservationReader,
    SceneReader,
    select_observations,
)
from jointseg.sentinel2.readers import open_reader
from jointseg.sentinel2.scene import Scene
from jointseg.sentinel2.scene_windows import NO_SHIFT, RES_M, Bounds

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
    "S2C": {0: "no data", 3: "cloud shadow", 7: "no cloud", 9: "cloud"},
}


@dataclass(frozen=True)
class SceneObservation:
    """One scene of the frozen list, and whether it was clear at the pixel.

    Attributes:
        number: place in the list, from 1.
        clear: None where the scenes could not be read again.
        used: whether it went into the composite; a clear look of the widened season may not be needed.
        why: "no data", "saturated", "edge", "masked", "buffer", "pass" (a granule before it in the list shows the same
            pass), or None for a clear look.
        scene_class: the class at the pixel; for "buffer" that of the nearest dropped pixel.
        distance_m: to that pixel's centre, for "buffer".
        detail: all that in words.
        values: reflectance x 10000 by band, as it went into the composite.
        shift: what registered the scene: x_m, y_m, usable, why, ...; None where dates are not registered.
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
    used: bool | None
    reason: str | None
    scene_class: int | None
    distance_m: float | None
    detail: str
    values: dict[str, int] | None
    shift: dict[str, Any] | None
    lines: list[dict[str, Any]] | None
    selected: bool | None


@dataclass(frozen=True)
class PixelStack:
    """What the scenes saw in bounds.

    Attributes:
        stack: uint16 [scenes, bands, rows, columns], reflectance x 10000, brought to the reference.
        clear: bool [scenes, rows, columns].
        used: bool [scenes, rows, columns], clear and needed.
        seen: of each scene by itself.
    """

    stack: np.ndarray
    clear: np.ndarray
    used: np.ndarray
    seen: list[Observation]


class CompositeScenes:
    """The scenes behind one composite.

    Attributes:
        listed: of the frozen list.
        lines: by scene id, the fits of the normalisation; empty where there was none.
        shifts: by scene id, what registered it; empty where dates are not registered.
        unread: why the scene files cannot be read any more, None while they can.
        damaged: whether that is because a file of the archive is not what the list says.
    """

    def __init__(self, lineage: Lineage, made: Manifest) -> None:
        """Reads the list; `made` is the manifest of the composite. DataError when the list is not there."""
        self.params: dict[str, Any] = made.record["params"]
        paths = {each.name: lineage.path(made, each.path) for each in made.inputs}
        if not paths["scenes"].is_file():
            raise DataError(f"{paths['scenes']}, the scene list of {made.name}, is not there; restore it")
        self.listed = scene_list.load_scenes(paths["scenes"])
        self.tile = parse_tile(made.record["wildcards"]["tile"], self.params["tile_km"])
        self.lines = {
            name: [normalise.Fit(**line) for line in lines]
            for name, lines in made.record["facts"].get("normalisation", {}).items()
        }
        self.shifts: dict[str, dict[str, Any]] = made.record["facts"].get("registration", {})
        self.read_error: str | None = None
        self.damaged = False
        self._reader = self._open(paths.get("archive"))

    def _open(self, archive: Path | None) -> SceneReader | None:
        source, kept = self.params["source"], self.params["source"]["kind"] == "archive"
        there = False
        try:
            reader = open_reader(source, archive, self.tile, self.listed[0].level)
            there = kept
            if kept:
                self._observer(reader, self.tile.bounds).check()
        except (DataError, OSError, RasterioError, requests.RequestException) as error:
            self._lost(error, there)
            return None
        return reader

    def _observer(self, reader: SceneReader, area: Bounds) -> ObservationReader:
        params, shifts = self.params, [self.shifts.get(scene.id) for scene in self.listed]
        # A run of an earlier version did not know every rule, and did as the defaults do.
        rules = {each.name for each in fields(MaskSettings)} & params.keys()
        clearness = MaskSettings(**{name: params[name] for name in sorted(rules)})
        moved = [(shift["x_m"], shift["y_m"]) if shift else NO_SHIFT for shift in shifts]
        return ObservationReader(reader, self.listed, params["bands"], clearness, area, moved)

    def _lost(self, error: Exception, damaged: bool) -> None:
        self.read_error, self.damaged = str(error) or type(error).__name__, damaged

    def see(self, bounds: Bounds) -> PixelStack | None:
        """What the scenes saw in bounds on the 10 m lattice; None, and `unread` says why, when they cannot be read."""
        if self._reader is None:
            return None
        seen: dict[int, Observation] = {}
        try:
            stack, clear = self._observer(self._reader, bounds).read(bounds, seen.__setitem__)
        except (DataError, OSError, RasterioError, requests.RequestException) as error:
            self._reader = None
            self._lost(error, self.params["source"]["kind"] == "archive")
            return None
        if self.lines:
            adjusted = [normalise.apply_fits(layer, self.lines[scene.id]) for scene, layer in zip(self.listed, stack)]
            stack = np.stack(adjusted)
        used, _ = select_observations(clear, self.listed, max(self.params["min_clear_observations"], 1))
        return PixelStack(stack, clear, used, [seen[number] for number in range(len(self.listed))])

    def combined(self, sight: PixelStack) -> np.ndarray:
        """The composite of what was seen, uint16 [bands + 1 to 3, rows, columns]."""
        params = self.params
        return compositing.combine(
            sight.stack, sight.clear, self.listed, params["method"], params["min_clear_observations"]
        )

    def observations(self, sight: PixelStack | None, taken: int | None) -> list[SceneObservation]:
        """Every scene of the list at one pixel.

        Args:
            sight: at that pixel; None where the scenes could not be read.
            taken: place in the list of the look that the medoid took, 0 for none; None for other methods.
        """
        return [self._look(number, scene, sight, taken) for number, scene in enumerate(self.listed)]

    def _look(self, number: int, scene: Scene, sight: PixelStack | None, taken: int | None) -> SceneObservation:
        clear = used = why = place = distance = values = None
        if sight is not None:
            seen = sight.seen[number]
            clear, used = bool(sight.clear[number, 0, 0]), bool(sight.used[number, 0, 0])
            if seen.valid[0, 0]:
                values = {name: int(value) for name, value in zip(self.params["bands"], sight.stack[number, :, 0, 0])}
            why, place, distance = (None, _class_at(seen), None) if clear else self._why(seen)
        return SceneObservation(
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
            used=used,
            reason=why,
            scene_class=place,
            distance_m=distance,
            detail=_words(scene, clear, used, why, place, distance),
            values=values,
            shift=self.shifts.get(scene.id),
            lines=[line.record() for line in self.lines[scene.id]] if self.lines else None,
            selected=None if taken is None else number + 1 == taken,
        )

    def _why(self, seen: Observation) -> tuple[str, int | None, float | None]:
        """Why a look is not clear, the class that says so, and how far off that is."""
        if seen.saturated[0, 0]:
            return "saturated", None, None
        if not seen.valid[0, 0]:
            return "no data", None, None
        if not seen.inside_swath[0, 0]:
            return "edge", None, None
        if seen.clear[0, 0]:
            return "pass", None, None
        found, drop = seen.scene_classes, self.params["scl_mask_classes"]
        assert found is not None  # without a mask, whatever holds data is clear
        middle = found.shape[0] // 2
        if found[middle, middle] in drop:
            return "masked", int(found[middle, middle]), None
        rows, cols = np.nonzero(np.isin(found, [value for value in drop if value != clouds.NO_DATA]))
        apart = np.hypot(rows - middle, cols - middle)
        near = int(apart.argmin())
        return "buffer", int(found[rows[near], cols[near]]), round(float(apart[near]) * RES_M, 1)


def _class_at(seen: Observation) -> int | None:
    """The class of the pixel itself, in the middle of what was read of the mask."""
    found = seen.scene_classes
    return None if found is None else int(found[found.shape[0] // 2, found.shape[1] // 2])


def _words(
    scene: Scene, clear: bool | None, used: bool | None, why: str | None, place: int | None, distance: float | None
) -> str:
    known = "" if place is None else CLASS_NAMES[scene.mask or ""].get(place, "unknown class")
    named = f"{known} ({scene.mask} {place})" if scene.mask == "SCL" else f"{known} ({scene.mask})"
    if clear is None:
        return "not read again"
    if clear:
        said = named if known else "no cloud mask in this scene"
        return said if used else f"{said}; not needed, the season has enough looks"
    if why == "masked":
        return f"masked: {named}"
    if why == "buffer":
        return f"only {distance:g} m from {named}"
    return {
        "no data": "outside the scene, or no data there",
        "saturated": "saturated",
        "edge": "too near to the edge of the granule or the orbit",
        "pass": "the same pass is in an earlier scene of the list",
    }[why or ""]
