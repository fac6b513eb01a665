"""Observations of each Sentinel-2 scene of a composite at one 10 m pixel, computed with the code of the composite."""

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

# Class names by type of cloud mask.
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
    "CS": {0: "no data", 7: "no cloud", 9: "cloud by score"},
    "S2C": {0: "no data", 3: "cloud shadow", 7: "no cloud", 9: "cloud"},
}

# Fields of an observation from its scene.
_SCENE_FIELDS = ("id", "datetime", "level", "platform", "mgrs", "relative_orbit", "baseline", "cloud_percent", "mask")


@dataclass(frozen=True)
class SceneObservation:
    """The observation of one scene of the scene list at the pixel."""

    number: int  # position in the scene list, from 1
    id: str
    datetime: str | None
    level: str
    platform: str | None
    mgrs: str | None
    relative_orbit: int | None
    baseline: str | None
    cloud_percent: float | None
    mask: str | None
    clear: bool | None  # whether it is clear; None if the scenes could not be read
    used: bool | None  # whether the composite uses it; clear observations of the padded season may be unused
    # why it is not clear: "no data", "saturated", "edge", "masked", "buffer", or "pass" (an earlier granule of the list
    # has the same pass); None if it is clear
    reason: str | None
    scene_class: int | None  # class of the pixel; for "buffer" the class of the nearest masked pixel
    distance_m: float | None  # distance to the centre of that pixel, for "buffer"
    detail: str
    values: dict[str, int] | None  # reflectance x 10000 by band, as used in the composite
    shift: dict[str, Any] | None  # result of the registration (x_m, y_m, usable, ...); None without registration
    # normalisation by band (band, kind, gain, offset_dn, ...); None without normalisation
    lines: list[dict[str, Any]] | None
    selected: bool | None  # whether the medoid selected it; None for other methods


@dataclass(frozen=True)
class PixelStack:
    """Observations of all scenes within bounds."""

    stack: np.ndarray  # uint16 [scenes, bands, rows, columns], normalised reflectance x 10000
    clear: np.ndarray  # bool [scenes, rows, columns]
    used: np.ndarray  # bool [scenes, rows, columns], clear and used in the composite
    observations: list[Observation]


class CompositeScenes:
    """The scenes of one composite.

    Attributes:
        lines: normalisation fits by scene id; empty without normalisation.
        shifts: registration results by scene id; empty without registration.
        read_error: why the scene files cannot be read; None if they can.
        damaged: whether the reason is a file of the archive that differs from the scene list.
    """

    def __init__(self, lineage: Lineage, job: Manifest) -> None:
        """Read the scene list of a composite's job. Raises DataError if the list does not exist."""
        self.params: dict[str, Any] = job.record["params"]
        paths = {artefact.name: lineage.path(job, artefact.path) for artefact in job.inputs}
        if not paths["scenes"].is_file():
            raise DataError(f"the scene list {paths['scenes']} of {job.name} does not exist; restore it")
        self.scenes = scene_list.load_scenes(paths["scenes"])
        self.tile = parse_tile(job.record["wildcards"]["tile"], self.params["tile_km"])
        self.lines = {
            scene_id: [normalise.Fit(**line) for line in lines]
            for scene_id, lines in job.record["facts"].get("normalisation", {}).items()
        }
        self.shifts: dict[str, dict[str, Any]] = job.record["facts"].get("registration", {})
        self.read_error: str | None = None
        self.damaged = False
        self._reader = self._open(paths.get("archive"))

    def _open(self, archive: Path | None) -> SceneReader | None:
        source, local = self.params["source"], self.params["source"]["kind"] == "archive"
        opened = False
        try:
            reader = open_reader(source, archive, self.tile, self.scenes[0].level)
            opened = local
            if local:
                self._observation_reader(reader, self.tile.bounds).check()
        except (DataError, OSError, RasterioError, requests.RequestException) as error:
            self._set_error(error, opened)
            return None
        return reader

    def _observation_reader(self, reader: SceneReader, area: Bounds) -> ObservationReader:
        shifts = [self.shifts.get(scene.id) for scene in self.scenes]
        # Settings that an older run did not record have their default.
        names = {setting.name for setting in fields(MaskSettings)} & self.params.keys()
        settings = MaskSettings(**{name: self.params[name] for name in sorted(names)})
        shifts_m = [(shift["x_m"], shift["y_m"]) if shift else NO_SHIFT for shift in shifts]
        return ObservationReader(reader, self.scenes, self.params["bands"], settings, area, shifts_m)

    def _set_error(self, error: Exception, damaged: bool) -> None:
        self.read_error, self.damaged = str(error) or type(error).__name__, damaged

    def read(self, bounds: Bounds) -> PixelStack | None:
        """Read the observations within bounds on the 10 m lattice; return None and set `read_error` on failure."""
        if self._reader is None:
            return None
        observations: dict[int, Observation] = {}
        try:
            reader = self._observation_reader(self._reader, bounds)
            stack, clear = reader.read(bounds, observations.__setitem__)
        except (DataError, OSError, RasterioError, requests.RequestException) as error:
            self._reader = None
            self._set_error(error, self.params["source"]["kind"] == "archive")
            return None
        if self.lines:
            adjusted = [normalise.apply_fits(layer, self.lines[scene.id]) for scene, layer in zip(self.scenes, stack)]
            stack = np.stack(adjusted)
        used, _ = select_observations(clear, self.scenes, max(self.params["min_clear_observations"], 1))
        return PixelStack(stack, clear, used, [observations[number] for number in range(len(self.scenes))])

    def composite(self, pixels: PixelStack) -> np.ndarray:
        """Return the composite of observations, uint16 [bands + 1 to 3, rows, columns]."""
        method, minimum = self.params["method"], self.params["min_clear_observations"]
        return compositing.combine(pixels.stack, pixels.clear, self.scenes, method, minimum)

    def observations(self, pixels: PixelStack | None, selected: int | None) -> list[SceneObservation]:
        """Return the observation of every scene of the list at one pixel; `pixels` is None if they could not be read.

        `selected` is the position in the list of the scene that the medoid selected, 0 for none; None for other methods.
        """
        return [self._observation(number, scene, pixels, selected) for number, scene in enumerate(self.scenes)]

    def _observation(
        self, number: int, scene: Scene, pixels: PixelStack | None, selected: int | None
    ) -> SceneObservation:
        clear = used = reason = scene_class = distance = values = None
        if pixels is not None:
            observation = pixels.observations[number]
            clear, used = bool(pixels.clear[number, 0, 0]), bool(pixels.used[number, 0, 0])
            if observation.valid[0, 0]:
                values = {name: int(value) for name, value in zip(self.params["bands"], pixels.stack[number, :, 0, 0])}
            classes = observation.scene_classes
            if clear and classes is not None:  # the pixel is in the middle of the mask
                scene_class = int(classes[classes.shape[0] // 2, classes.shape[1] // 2])
            elif not clear:
                reason, scene_class, distance = self._reason(observation)
        return SceneObservation(
            number=number + 1,
            **{name: getattr(scene, name) for name in _SCENE_FIELDS},
            clear=clear,
            used=used,
            reason=reason,
            scene_class=scene_class,
            distance_m=distance,
            detail=_describe(scene, clear, used, reason, scene_class, distance),
            values=values,
            shift=self.shifts.get(scene.id),
            lines=[line.record() for line in self.lines[scene.id]] if self.lines else None,
            selected=None if selected is None else number + 1 == selected,
        )

    def _reason(self, observation: Observation) -> tuple[str, int | None, float | None]:
        """Reason why an observation is not clear, the masked class and the distance to it in metres."""
        if observation.saturated[0, 0]:
            return "saturated", None, None
        if not observation.valid[0, 0]:
            return "no data", None, None
        if not observation.inside_swath[0, 0]:
            return "edge", None, None
        if observation.clear[0, 0]:
            return "pass", None, None
        classes, masked = observation.scene_classes, self.params["scl_mask_classes"]
        assert classes is not None  # without a mask, every valid pixel is clear
        middle = classes.shape[0] // 2
        if classes[middle, middle] in masked:
            return "masked", int(classes[middle, middle]), None
        rows, cols = np.nonzero(np.isin(classes, [value for value in masked if value != clouds.NO_DATA]))
        distances = np.hypot(rows - middle, cols - middle)
        nearest = int(distances.argmin())
        return "buffer", int(classes[rows[nearest], cols[nearest]]), round(float(distances[nearest]) * RES_M, 1)


def _describe(
    scene: Scene,
    clear: bool | None,
    used: bool | None,
    reason: str | None,
    scene_class: int | None,
    distance: float | None,
) -> str:
    if clear is None:
        return "not read"
    name = "" if scene_class is None else CLASS_NAMES[scene.mask or ""].get(scene_class, "unknown class")
    labelled = f"{name} ({scene.mask} {scene_class})" if scene.mask == "SCL" else f"{name} ({scene.mask})"
    if clear:
        description = labelled if name else "no cloud mask in this scene"
        return description if used else f"{description}; not used, the season has enough clear observations"
    if reason == "masked":
        return f"masked: {labelled}"
    if reason == "buffer":
        return f"only {distance:g} m from {labelled}"
    return {
        "no data": "no data, or outside the scene",
        "saturated": "saturated",
        "edge": "too close to the edge of the granule or the swath",
        "pass": "an earlier scene of the list has the same pass",
    }[reason or ""]
