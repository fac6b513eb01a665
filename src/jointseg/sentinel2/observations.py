"""What the scenes of a list saw of the ground: reflectance, and which of it is clear."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jointseg.sentinel2 import cloudless, clouds, offset_check
from jointseg.sentinel2.scene import SATURATED_DN, SCALE, Scene
from jointseg.sentinel2.scene_windows import NO_SHIFT, RES_M, Bounds, Shift, bounds_shape

CHECK_STEP = 8  # the offset of a scene is checked on every eighth pixel of every eighth row


class SceneReader(Protocol):
    """Delivers windows of scenes on the tile's 10 m lattice (see `pixels.Files`).

    Attributes:
        epsg: CRS that it delivers.
        warped: by scene id, from where it had to be warped.
        graphs: by scene id, sha256 of the expression that a server was asked to compute.
        workers: threads that it may be asked by.
    """

    epsg: int
    warped: dict[str, str]
    graphs: dict[str, str]
    workers: int

    def check(self, scene: Scene, keys: Sequence[str]) -> None: ...

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray: ...

    def close(self, scene: Scene) -> None:
        """Lets go of a scene's files, that this thread has read."""


@dataclass(frozen=True)
class MaskSettings:
    """What counts as clear ground.

    Attributes:
        scl_mask_classes: classes of the scene classification that do not count.
        mask_dilation_m: nor does what is nearer than this to one of them.
        swath_edge_buffer_m: nor what is nearer than this to the edge of a granule or an orbit.
        cloud_score_plus_threshold: Cloud Score+ from which a pixel is clear, 0..1.
        s2cloudless_threshold: of s2cloudless from which a pixel is cloud, 0..1.
    """

    scl_mask_classes: Sequence[int]
    mask_dilation_m: float
    swath_edge_buffer_m: float = 0.0
    cloud_score_plus_threshold: float = clouds.CLOUD_SCORE_PLUS_THRESHOLD
    s2cloudless_threshold: float = cloudless.CLOUD_PROBABILITY


@dataclass(frozen=True)
class Observation:
    """What one scene saw in bounds.

    Attributes:
        reflectance: uint16 [bands, rows, columns], x 10000, at least 1.
        data: bool [rows, columns], seen in every band and not saturated.
        inner: bool [rows, columns], that and not at an edge.
        classes: uint8 [rows + 2 n, columns + 2 n], scene classes as far around as clouds reach by their buffer of n
            pixels; None for a scene without mask.
        clear: bool [rows, columns].
        saturated: bool [rows, columns].
    """

    reflectance: np.ndarray
    valid: np.ndarray
    inside_swath: np.ndarray
    scene_classes: np.ndarray | None
    clear: np.ndarray
    saturated: np.ndarray


class ObservationReader:
    """Reads the scenes of a list block by block; how the blocks are cut changes no pixel."""

    def __init__(
        self,
        reader: SceneReader,
        scenes: list[Scene],
        bands: list[str],
        clearness: MaskSettings,
        area: Bounds,
        shifts: Sequence[Shift] | None = None,
    ) -> None:
        """An observer of `area`, in which all bounds to be read lie; `shifts` (m) bring each scene to its place."""
        self.reader, self.scenes, self.bands, self.clearness = reader, scenes, bands, clearness
        self.shifts = list(shifts or [NO_SHIFT] * len(scenes))
        self._area = area
        self._passes = _passes(scenes)
        self._cloudless: dict[int, cloudless.ClassifiedCells] = {}

    def move(self, shifts: Sequence[Shift]) -> None:
        """Gives the scenes other shifts."""
        self.shifts = list(shifts)
        self._cloudless.clear()  # what was found before lies elsewhere now

    def passes(self) -> list[list[int]]:
        """The scenes by pass of the satellite, in the order of the list."""
        groups: dict[int, list[int]] = {}
        for number, earlier in enumerate(self._passes):
            groups.setdefault(earlier[0] if earlier else number, []).append(number)
        return list(groups.values())

    def check(self) -> None:
        """DataError when a file of a scene is missing, or its bands do not fit each other."""
        for scene in self.scenes:
            self.reader.check(scene, [*self.bands, *scene.mask_keys])

    def read(
        self, bounds: Bounds, note: Callable[[int, Observation], None] = lambda number, seen: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(reflectance x 10000 uint16 [scenes, bands, rows, columns], clear bool [scenes, rows, columns]).

        Where granules of one pass overlap, the ground was seen once: the first of them counts. `note` is called with
        what each scene saw by itself. For a few pixels; `spool.Spool` reads whole tiles.
        """
        rows, cols = bounds_shape(bounds)
        stack = np.zeros((len(self.scenes), len(self.bands), rows, cols), dtype=np.uint16)
        inner, clear = np.zeros((2, len(self.scenes), rows, cols), dtype=bool)
        for number, scene in enumerate(self.scenes):
            seen = self.scene(number, bounds)
            stack[number], inner[number], clear[number] = seen.reflectance, seen.inside_swath, seen.clear
            note(number, seen)
            self.reader.close(scene)
        for number, earlier in enumerate(self._passes):
            for other in earlier:
                clear[number] &= ~inner[other]
        return stack, clear

    def scene(self, number: int, bounds: Bounds) -> Observation:
        """What one scene saw in bounds. Raises DataError where its pixels contradict its offset."""
        scene, shift_m = self.scenes[number], self.shifts[number]
        halo = int(np.ceil(self.clearness.swath_edge_buffer_m / RES_M))
        dn = self.reader.read(scene, self.bands, expand_bounds(bounds, halo), shift_m)
        seen = np.logical_and.reduce(dn > 0)
        saturated = np.logical_or.reduce(dn >= SATURATED_DN)
        inner = _cut(clouds.inside_swath(seen, self.clearness.swath_edge_buffer_m / RES_M) & ~saturated, halo)
        data, dn = _cut(seen & ~saturated, halo), _cut(dn, halo)
        clear, classes = inner, None
        if scene.mask is not None:
            classes = self._classes(number, bounds) if inner.any() else None
            if classes is not None:
                reach = self.clearness.mask_dilation_m / RES_M
                free = clouds.clear_mask(classes, self.clearness.scl_mask_classes, reach)
                clear = inner & _cut(free, int(np.ceil(reach)))
        every = (..., slice(None, None, CHECK_STEP), slice(None, None, CHECK_STEP))
        offset_check.check_offset(dn[every], self.bands, clear[every], scene)
        return Observation(reflectance(dn, scene), data, inner, classes, clear, _cut(saturated, halo))

    def _classes(self, number: int, bounds: Bounds) -> np.ndarray:
        """Scene classes of bounds; clouds outside them count by their buffer, so that the cut does not matter."""
        scene = self.scenes[number]
        assert scene.mask is not None
        wide = expand_bounds(bounds, int(np.ceil(self.clearness.mask_dilation_m / RES_M)))
        if scene.mask == "S2C":
            if number not in self._cloudless:
                reach = expand_bounds(self._area, int(np.ceil(self.clearness.mask_dilation_m / RES_M)))
                self._cloudless[number] = cloudless.classify_scene(
                    self.reader, scene, reach, self.shifts[number], self.clearness.s2cloudless_threshold
                )
            return self._cloudless[number].at(wide)
        values = self.reader.read(scene, [scene.mask], wide, self.shifts[number])[0]
        return clouds.scene_classes(scene.mask, values, f"scene {scene.id}", self.clearness.cloud_score_plus_threshold)


def select_observations(
    clear: np.ndarray, scenes: list[Scene], min_clear_observations: int
) -> tuple[np.ndarray, np.ndarray]:
    """(looks to use, bool [scenes, rows, columns]; where the season was widened, bool [rows, columns]).

    Scenes of the widened season are used where the season itself leaves fewer than `min_clear_observations` looks.
    """
    wider = np.array([scene.wider for scene in scenes])
    short = clear[~wider].sum(axis=0) < min_clear_observations
    used = clear & (short | ~wider[:, None, None])
    return used, short & used[wider].any(axis=0)


def reflectance(dn: np.ndarray, scene: Scene) -> np.ndarray:
    """Reflectance x 10000, uint16, of DN, at least 1: a dark pixel is not an unknown one."""
    if scene.scale == SCALE and scene.offset_dn <= 0:  # nearly all scenes; in one type, which is faster
        value = np.clip(dn, 1 - scene.offset_dn, SATURATED_DN - 1)
        value -= np.uint16(-scene.offset_dn)
        return value
    wide = dn.astype(np.int32) + scene.offset_dn
    if scene.scale != SCALE:
        wide = np.rint(wide * (scene.scale / SCALE)).astype(np.int32)
    return np.clip(wide, 1, SATURATED_DN - 1).astype(np.uint16)


def expand_bounds(bounds: Bounds, pixels: int) -> Bounds:
    """Bounds with so many 10 m pixels more on every side."""
    by = pixels * RES_M
    return bounds[0] - by, bounds[1] - by, bounds[2] + by, bounds[3] + by


def _cut(array: np.ndarray, halo: int) -> np.ndarray:
    return array[..., halo : array.shape[-2] - halo, halo : array.shape[-1] - halo]


def _passes(scenes: list[Scene]) -> list[list[int]]:
    """For each scene the earlier ones of the list that the satellite took in the same pass."""
    found: list[list[int]] = []
    keys = [(scene.platform, scene.relative_orbit, (scene.datetime or "")[:10]) for scene in scenes]
    for number, key in enumerate(keys):
        found.append([other for other in range(number) if keys[other] == key] if all(key) else [])
    return found
