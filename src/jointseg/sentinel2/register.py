"""Co-register the scenes of a tile, to each other or to another year's composite, with subpixel accuracy."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from jointseg.runtime.errors import DataError
from jointseg.sentinel2.cell_shifts import (
    CELL_PX,
    CORRELATED_PX,
    MIN_CELLS,
    MIN_COVERAGE,
    ShiftEstimate,
    combine_cells,
    fit_cells,
)
from jointseg.sentinel2.local_contrast import (
    MAX_LAG_PX,
    NO_SHIFT_PX,
    Contrast,
    contrast,
    correlation,
    medians_of_others,
)
from jointseg.sentinel2.scene_windows import RES_M

# Registration uses square windows of this side, at most this many along an axis of the tile.
WINDOW_PX, WINDOWS = 192, 4
CHANCE_SIGMAS = 5.0  # standard errors that the maximum of a few thousand correlations reaches by chance
EQUAL_CORRELATION = 0.99  # ratio of correlations that differ only by rounding
ROUNDS, CONVERGED_PX = 10, 0.01  # a round reduces a shift tenfold, less if few scenes depend on each other
MAX_ERROR_PX = 0.07  # standard error of a shift, from the spread among its cells
MIN_QUALITY = 0.15


@dataclass(frozen=True)
class Registration:
    """Registration result of one scene."""

    x_m: float  # metres to add to the scene's eastings to align it with the reference; 0 if not usable
    y_m: float  # the same for its northings
    # Correlation of local contrast with the shifted scene, 0..1, per block and of either sign: the root of the fraction
    # of its power that the reference explains.
    quality: float
    cells: int  # number of cells of 640 m that agree on the shift
    spread_m: float  # robust standard deviation of the shift among the cells
    reason: str = ""  # why the scene could not be registered; empty if it could

    @property
    def usable(self) -> bool:
        return not self.reason

    def record(self) -> dict[str, float | int | bool | str]:
        """Return the result for the manifest and the tags of the composite; `why` is the reason."""
        record = asdict(self) | {"usable": self.usable}
        return record | {"why": record.pop("reason")}


@dataclass
class _Alignment:
    """Shifts of the scenes during registration, in pixels (x east, y south)."""

    stacks: Sequence[np.ndarray]  # for each window uint16 [scenes, bands, rows, columns], unshifted
    clears: Sequence[np.ndarray]  # for each window bool [scenes, rows, columns]
    targets: list[Contrast] | None  # contrast of the reference for each window; None without a reference
    shifts: np.ndarray  # float64 [scenes, 2]
    outliers: np.ndarray  # float64 [scenes, 2], the shift of scenes with a shift above the limit; else 0

    @property
    def windows(self) -> range:
        return range(len(self.stacks))

    @property
    def damping(self) -> float:
        """Fraction of a measured shift to apply: two scenes that are aligned to each other both move."""
        return 1.0 if self.targets is not None else (len(self.shifts) - 1) / len(self.shifts)

    def pairs(self, window: int) -> list[tuple[Contrast, Contrast]]:
        """Return (scene, its reference) in a window, for every scene."""
        scenes = [contrast(*view) for view in zip(self.stacks[window], self.clears[window], self.shifts)]
        if self.targets is not None:
            return [(scene, self.targets[window]) for scene in scenes]
        return list(zip(scenes, medians_of_others(scenes, np.logical_not(self.outliers.any(axis=1)))))


def windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Return the windows of a tile for `register`, evenly spaced: at most 16 of 192 x 192 pixels."""
    rows, cols = (_space_evenly(size) for size in shape)
    return [(row, col) for row in rows for col in cols]


def _space_evenly(size: int) -> list[slice]:
    count = min(math.ceil(size / WINDOW_PX), WINDOWS)
    side = min(size // count, WINDOW_PX)
    starts = [((2 * k + 1) * size // count - side) // 2 for k in range(count)]
    return [slice(start, start + side) for start in starts]


def register(
    stacks: Sequence[np.ndarray],
    clears: Sequence[np.ndarray],
    references: Sequence[np.ndarray] | None,
    max_shift_m: float,
) -> list[Registration]:
    """Return the shift of every scene to a reference, or to the median position of all scenes.

    Without a reference a scene is aligned to the median of the other scenes under their current shifts; then all
    shifts are moved to a median of zero, as the true position is unknown.

    A shift is found by Gauss-Newton on the local contrast of all bands (Lucas and Kanade 1981, An iterative image
    registration technique, IJCAI), with a separate gain for every block and band: fields whose crop changes between
    dates, even to the opposite contrast, still contribute their edges. Cells are averaged robustly. Raises DataError if
    there is no window.

    Args:
        stacks: for each window uint16 [scenes, bands, rows, columns], unshifted.
        clears: for each window bool [scenes, rows, columns].
        references: for each window uint16 [bands, rows, columns]; 0 is nodata.
        max_shift_m: larger shifts along x or y are rejected.
    """
    if not stacks:
        raise DataError("registration requires at least one window of the tile; read those of register.windows")
    count, max_px = len(stacks[0]), max_shift_m / RES_M
    targets = None
    if references is not None:
        targets = [contrast(base, np.asarray((base > 0).all(axis=0))) for base in references]
    alignment = _Alignment(stacks, clears, targets, np.zeros((count, 2)), np.zeros((count, 2)))
    _estimate_coarse(alignment, max_px)
    estimates = _refine(alignment, max_px)
    shifts, outliers = alignment.shifts, alignment.outliers
    if targets is None:
        good = [not _rejection(each, far, NO_SHIFT_PX, max_px) for each, far in zip(estimates, outliers)]
        if any(good):
            weight = np.array([estimate.quality for estimate in estimates])[good]
            shifts -= [_weighted_median(shifts[good, axis], weight) for axis in (0, 1)]
    return [_registration(*result, max_px) for result in zip(estimates, outliers, shifts)]


def _estimate_coarse(alignment: _Alignment, max_px: float) -> None:
    """Set the shifts to whole pixels by cross-correlation, and detect outliers."""
    outliers, damping = alignment.outliers, alignment.damping
    for _ in range(len(outliers)):
        surfaces = ([correlation(*pair) for pair in alignment.pairs(window)] for window in alignment.windows)
        peaks = [_peak(scene) for scene in zip(*surfaces)]
        coarse, values = damping * np.array([peak for peak, _ in peaks]), np.array([value for _, value in peaks])
        far = (np.abs(coarse).max(axis=1) > max_px + 1) & ~outliers.any(axis=1)
        if not far.any():
            break
        # An outlier biases the median of a few other scenes: exclude the clearest one and correlate again.
        if alignment.targets is None:
            far &= values > EQUAL_CORRELATION * values[far].max()
        outliers[far] = coarse[far] / damping
        if alignment.targets is not None:
            break
    alignment.shifts[:] = np.where(np.abs(coarse).max(axis=1, keepdims=True) > max_px + 1, 0, coarse)


def _refine(alignment: _Alignment, max_px: float) -> list[ShiftEstimate]:
    """Refine the shifts by Gauss-Newton until they converge; return the estimates of the last round."""
    shifts, damping = alignment.shifts, alignment.damping
    estimates = [ShiftEstimate(NO_SHIFT_PX)] * len(shifts)
    for _ in range(ROUNDS):
        fits = [[fit_cells(*pair) for pair in alignment.pairs(window)] for window in alignment.windows]
        estimates = [combine_cells(cells) for cells in zip(*fits)]
        steps = np.clip([estimate.step for estimate in estimates], -1, 1)
        shifts[:] = np.clip(shifts + damping * steps, -max_px - 1, max_px + 1)
        good = [estimate.quality >= MIN_QUALITY for estimate in estimates]
        if np.abs(steps).max(axis=1)[good].max(initial=0) < CONVERGED_PX:
            break
    return estimates


def _registration(estimate: ShiftEstimate, outlier: np.ndarray, shift: np.ndarray, max_px: float) -> Registration:
    reason = _rejection(estimate, outlier, shift, max_px)
    x, y = (0.0, 0.0) if reason else (round(float(pixels) * RES_M, 3) + 0.0 for pixels in (shift[0], -shift[1]))
    spread_m = round(estimate.spread * RES_M, 3)
    return Registration(x, y, round(estimate.quality, 4), estimate.agreeing, spread_m, reason)


def _rejection(estimate: ShiftEstimate, outlier: np.ndarray, shift: np.ndarray, max_px: float) -> str:
    """Return why a scene cannot be registered; empty if it can."""
    cells = f"cells of {CELL_PX * RES_M} m"
    shift = outlier if outlier.any() else shift
    if np.abs(shift).max() > max_px:
        metres = float(np.hypot(*shift)) * RES_M
        return f"the shift is {metres:.0f} m; the maximum along an axis is {max_px * RES_M:g} m"
    if estimate.covered < MIN_CELLS:
        return f"too few clear pixels: {estimate.covered} {cells}, at least {MIN_CELLS} are required"
    if estimate.textured < MIN_CELLS:
        return f"no texture: {estimate.textured} of {estimate.covered} {cells} contain edges, at least {MIN_CELLS} are required"
    if estimate.quality < MIN_QUALITY:
        return f"unlike the reference: the contrast correlation is {estimate.quality:.2f}, at least {MIN_QUALITY} is required"
    error = max(estimate.spread / math.sqrt(max(estimate.agreeing, 1)), float(np.abs(estimate.step).max()))
    if error > MAX_ERROR_PX or 2 * estimate.agreeing < estimate.textured:
        return f"the {cells} disagree: {estimate.agreeing} of {estimate.textured} agree, within {error * RES_M:.1f} m"
    return ""


def _peak(windows: Sequence[tuple[np.ndarray, float]]) -> tuple[np.ndarray, float]:
    """Return (shift in whole pixels, x east and y south; correlation) of the maximum; zeros if not significant."""
    weights = np.array([pixels for _, pixels in windows])
    if weights.sum() < MIN_CELLS * MIN_COVERAGE * CELL_PX**2:
        return NO_SHIFT_PX, 0.0
    mean = np.average([surface for surface, _ in windows], axis=0, weights=weights)
    south, east = np.unravel_index(int(mean.argmax()), mean.shape)
    chance = CHANCE_SIGMAS * math.sqrt(CORRELATED_PX / weights.sum())
    if mean.max() < MIN_QUALITY + chance:
        return NO_SHIFT_PX, 0.0
    return np.array([east - MAX_LAG_PX, south - MAX_LAG_PX], dtype=float), float(mean.max())


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted median, interpolated between the midpoints of the cumulative weights."""
    order = np.argsort(values, kind="stable")
    midpoints = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(weights.sum() / 2, midpoints, values[order]))
