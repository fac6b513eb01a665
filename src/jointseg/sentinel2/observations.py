"""Clear observations of the scenes of a list: reflectance and cloud masks on the 10 m lattice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jointseg.sentinel2 import cloudless, clouds, offset_check
from jointseg.sentinel2.scene import SATURATED_DN, SCALE, Scene
from jointseg.sentinel2.scene_windows import NO_SHIFT, RES_M, Bounds, SceneReader, Shift, bounds_shape

CHECK_STEP = 8  # the offset check samples every eighth pixel of every eighth row


@dataclass(frozen=True)
class MaskSettings:
    """Criteria of a clear observation, from the config section `sentinel2`."""

    scl_mask_classes: Sequence[int]
    mask_dilation_m: float
    swath_edge_buffer_m: float = 0.0
    cloud_score_plus_threshold: float = clouds.CLOUD_SCORE_PLUS_THRESHOLD
    s2cloudless_threshold: float = cloudless.CLOUD_PROBABILITY

    @property
    def dilation_px(self) -> float:
        return self.mask_dilation_m / RES_M

    @property
    def dilation_halo(self) -> int:
        """Whole pixels around an area that affect its mask."""
        return int(np.ceil(self.dilation_px))


@dataclass(frozen=True)
class Observation:
    """One scene in bounds."""

    reflectance: np.ndarray  # uint16 [bands, rows, columns], x 10000, at least 1
    valid: np.ndarray  # bool [rows, columns], valid in every band and not saturated
    inside_swath: np.ndarray  # bool [rows, columns], valid and not near an edge of the granule or swath
    # uint8 [rows + 2 n, columns + 2 n], with a halo for the mask dilation; None without mask or valid pixels
    scene_classes: np.ndarray | None
    clear: np.ndarray  # bool [rows, columns]
    saturated: np.ndarray  # bool [rows, columns]


class ObservationReader:
    """Reads the observations of a scene list in any windows; the windows do not affect the pixels.

    `area` contains all bounds that are read; `shifts` are the registration shifts of the scenes, metres.
    """

    def __init__(
        self,
        reader: SceneReader,
        scenes: list[Scene],
        bands: list[str],
        masking: MaskSettings,
        area: Bounds,
        shifts: Sequence[Shift] | None = None,
    ) -> None:
        self.reader, self.scenes, self.bands, self.masking = reader, scenes, bands, masking
        self.shifts = list(shifts or [NO_SHIFT] * len(scenes))
        self._area = area
        self._same_pass = _earlier_scenes_of_pass(scenes)
        self._cloudless: dict[int, cloudless.ClassifiedCells] = {}

    def set_shifts(self, shifts: Sequence[Shift]) -> None:
        self.shifts = list(shifts)
        self._cloudless.clear()  # computed with other shifts

    def passes(self) -> list[list[int]]:
        """Return the scene indices grouped by satellite pass, in the order of the list."""
        groups: dict[int, list[int]] = {}
        for index, earlier in enumerate(self._same_pass):
            groups.setdefault(earlier[0] if earlier else index, []).append(index)
        return list(groups.values())

    def check(self) -> None:
        """Raise DataError if a file of a scene is missing, or its bands have different grids."""
        for scene in self.scenes:
            self.reader.check(scene, [*self.bands, *scene.mask_keys])

    def read(
        self, bounds: Bounds, on_observation: Callable[[int, Observation], None] = lambda index, observation: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (reflectance x 10000, uint16 [scenes, bands, rows, columns]; clear, bool [scenes, rows, columns]).

        Where granules of one pass overlap, only the first counts as an observation. For small areas, bounds in
        multiples of 10 m; `row_spool.RowSpool` reads whole tiles. `on_observation` is called with the index and the
        observation of each scene.
        """
        rows, cols = bounds_shape(bounds)
        stack = np.zeros((len(self.scenes), len(self.bands), rows, cols), dtype=np.uint16)
        inside, clear = np.zeros((2, len(self.scenes), rows, cols), dtype=bool)
        for index, scene in enumerate(self.scenes):
            observation = self.observe(index, bounds)
            stack[index] = observation.reflectance
            inside[index], clear[index] = observation.inside_swath, observation.clear
            on_observation(index, observation)
            self.reader.close(scene)
        for index, earlier in enumerate(self._same_pass):
            for other in earlier:
                clear[index] &= ~inside[other]
        return stack, clear

    def observe(self, index: int, bounds: Bounds) -> Observation:
        """Return the observation of one scene in bounds. Raises DataError if its pixels contradict its offset."""
        scene, shift_m, masking = self.scenes[index], self.shifts[index], self.masking
        edge_px = masking.swath_edge_buffer_m / RES_M
        halo = int(np.ceil(edge_px))
        dn = self.reader.read(scene, self.bands, expand_bounds(bounds, halo), shift_m)
        valid = np.logical_and.reduce(dn > 0)
        saturated = np.logical_or.reduce(dn >= SATURATED_DN)
        inside = _crop(clouds.inside_swath(valid, edge_px) & ~saturated, halo)
        unsaturated, dn = _crop(valid & ~saturated, halo), _crop(dn, halo)
        clear, classes = inside, None
        if scene.mask is not None:
            classes = self._scene_classes(index, bounds) if inside.any() else None
            if classes is not None:
                unmasked = clouds.clear_mask(classes, masking.scl_mask_classes, masking.dilation_px)
                clear = inside & _crop(unmasked, masking.dilation_halo)
        sample = (..., slice(None, None, CHECK_STEP), slice(None, None, CHECK_STEP))
        offset_check.check_offset(dn[sample], self.bands, clear[sample], scene)
        return Observation(reflectance(dn, scene), unsaturated, inside, classes, clear, _crop(saturated, halo))

    def _scene_classes(self, index: int, bounds: Bounds) -> np.ndarray:
        """Return the scene classes of bounds with a halo for the dilation, so that windows do not affect the mask."""
        scene, masking = self.scenes[index], self.masking
        assert scene.mask is not None
        wide = expand_bounds(bounds, masking.dilation_halo)
        if scene.mask == "S2C":
            if index not in self._cloudless:
                area = expand_bounds(self._area, masking.dilation_halo)
                self._cloudless[index] = cloudless.classify_scene(
                    self.reader, scene, area, self.shifts[index], masking.s2cloudless_threshold
                )
            return self._cloudless[index].at(wide)
        values = self.reader.read(scene, [scene.mask], wide, self.shifts[index])[0]
        return clouds.scene_classes(scene.mask, values, f"scene {scene.id}", masking.cloud_score_plus_threshold)


def select_observations(
    clear: np.ndarray, scenes: list[Scene], min_clear_observations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (used observations, bool [scenes, rows, columns]; pixels that use padding scenes, bool [rows, columns]).

    Scenes of the season padding are used where the season itself has fewer than `min_clear_observations` clear
    observations.
    """
    in_padding = np.array([scene.in_padding for scene in scenes])
    too_few = clear[~in_padding].sum(axis=0) < min_clear_observations
    used = clear & (too_few | ~in_padding[:, None, None])
    return used, too_few & used[in_padding].any(axis=0)


def reflectance(dn: np.ndarray, scene: Scene) -> np.ndarray:
    """Return reflectance x 10000 of DN, uint16, at least 1: 0 is reserved for nodata."""
    if scene.scale == SCALE and scene.offset_dn <= 0:  # nearly all scenes; staying in uint16 is faster
        value = np.clip(dn, 1 - scene.offset_dn, SATURATED_DN - 1)
        value -= np.uint16(-scene.offset_dn)
        return value
    wide = dn.astype(np.int32) + scene.offset_dn
    if scene.scale != SCALE:
        wide = np.rint(wide * (scene.scale / SCALE)).astype(np.int32)
    return np.clip(wide, 1, SATURATED_DN - 1).astype(np.uint16)


def expand_bounds(bounds: Bounds, pixels: int) -> Bounds:
    """Return bounds expanded by a number of 10 m pixels on every side."""
    by = pixels * RES_M
    return bounds[0] - by, bounds[1] - by, bounds[2] + by, bounds[3] + by


def _crop(array: np.ndarray, halo: int) -> np.ndarray:
    return array[..., halo : array.shape[-2] - halo, halo : array.shape[-1] - halo]


def _earlier_scenes_of_pass(scenes: list[Scene]) -> list[list[int]]:
    """Return, for each scene, the indices of the earlier scenes of the same satellite pass."""
    passes: list[list[int]] = []
    keys = [(scene.platform, scene.relative_orbit, (scene.datetime or "")[:10]) for scene in scenes]
    for index, key in enumerate(keys):
        passes.append([other for other in range(index) if keys[other] == key] if all(key) else [])
    return passes
