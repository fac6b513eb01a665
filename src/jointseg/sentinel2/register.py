"""Where the dates of a tile lie against each other, or against another year's composite: shifts below a pixel."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from jointseg.runtime.errors import DataError
from jointseg.sentinel2.local_contrast import (
    MAX_LAG_PX,
    NO_SHIFT_PX,
    SIGMA_PX,
    Contrast,
    contrast,
    correlation,
    medians_of_others,
)
from jointseg.sentinel2.scene_windows import RES_M

# Only windows of a tile are looked at: squares of this side, at most so many along an axis.
WINDOW_PX, WINDOWS = 192, 4
# Gain and noise are those of a block, about a field; a shift is that of a cell.
BLOCK_PX, CELL_PX = 32, 64
COVERED = 0.25  # share of a block or cell that has to be seen
SHARED_PX = 4 * math.pi * SIGMA_PX**2  # pixels that share their noise, by the Gaussian's own correlation
CHANCE = 5.0  # standard errors that the best of some thousand correlations has by chance
# Passes over a block, and noise, in standard deviations, at which a pixel weighs half in the next.
PASSES, HALF = 3, 1.5
SURE = 3.0  # standard errors from nothing at which a block's gain counts
UNLIKE = 0.03  # share of a block's variance that no fit explains, at least
ALIKE = 0.99  # correlations that are the same but for rounding
ROUNDS, SETTLED_PX = 10, 0.01  # a round leaves a tenth of a shift or less, more where few dates wait for each other
MIN_CELLS = 4
CELL_ERROR_PX = 0.4  # that a cell may be expected to have
FLOOR_PX = 0.1  # that each cell has: relief and the sensor's geometry move them
ERROR_PX = 0.07  # that a shift may have, by the spread among its cells
MIN_QUALITY = 0.15
TINY = 1e-30


@dataclass(frozen=True)
class Registration:
    """What was measured of one scene.

    Attributes:
        x_m: to add to the scene's eastings to land on the reference, metres; 0 where not usable.
        y_m: the same for its northings.
        quality: correlation of local contrast with the reference's after the shift, 0..1, block by block and of
            either sign: the root of the share of its power that the reference explains.
        cells: squares of 640 m that agreed.
        spread_m: robust standard deviation of the shift among the squares.
        why: empty, or why the scene could not be registered.
    """

    x_m: float
    y_m: float
    quality: float
    cells: int
    spread_m: float
    why: str = ""

    @property
    def usable(self) -> bool:
        return not self.why

    def record(self) -> dict[str, float | int | bool | str]:
        """All of it, for a manifest."""
        return asdict(self) | {"usable": self.usable}


@dataclass(frozen=True)
class _Cells:
    """What the cells of a window say of the shift still to be made, in pixels (x east, y south).

    Attributes:
        covered: how many cells are seen well enough.
        normal: float64 [cells, 2, 2], inverse covariance of each cell's shift.
        right: float64 [cells, 2], normal @ shift.
        powers: float64 [2, bands], summed squares of the scene's contrast, explained by the reference and in all.
    """

    covered: int
    normal: np.ndarray
    right: np.ndarray
    powers: np.ndarray


@dataclass(frozen=True)
class _Found:
    """What all cells agree on, in pixels (x east, y south)."""

    step: np.ndarray
    covered: int = 0
    told: int = 0
    cells: int = 0
    spread: float = 0.0
    quality: float = 0.0


def windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """The windows of a tile that `register` asks for, spread evenly: at most 16 of 192 x 192 pixels.

    Args:
        shape: (rows, columns) of the tile.
    """
    rows, cols = (_spread(size) for size in shape)
    return [(row, col) for row in rows for col in cols]


def _spread(size: int) -> list[slice]:
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
    """The shift of every scene to a reference, or to the place that the dates have in common.

    Without a reference a scene is measured against the median of the others, each of them after the shift found so
    far; then all shifts are moved so that their median is zero, for nobody knows which date is right.

    A shift is found by Gauss-Newton on the local contrast of all bands (Lucas and Kanade 1981, An iterative image
    registration technique, IJCAI), with a gain of its own for every block and band, so that fields whose crop changes
    between dates, even to the opposite contrast, still tell their edges; cells are averaged robustly.

    Args:
        stacks: for each window uint16 [scenes, bands, rows, columns], unshifted.
        clears: for each window bool [scenes, rows, columns].
        references: for each window uint16 [bands, rows, columns], 0 where unknown.
        max_shift_m: a larger shift along x or y is not believed.

    Raises:
        DataError: no window.
    """
    if not stacks:
        raise DataError("no window of the tile was read to register its dates; read those of register.windows")
    count, reach_px = len(stacks[0]), max_shift_m / RES_M
    fixed = None if references is None else [contrast(base, np.asarray((base > 0).all(axis=0))) for base in references]
    shifts, far = np.zeros((count, 2)), np.zeros((count, 2))

    def pairs(window: int) -> list[tuple[Contrast, Contrast]]:
        """(scene, what it is measured against) in a window, for every scene."""
        seen = [contrast(*view) for view in zip(stacks[window], clears[window], shifts)]
        if fixed is not None:
            return [(one, fixed[window]) for one in seen]
        return list(zip(seen, medians_of_others(seen, np.logical_not(far.any(axis=1)))))

    # Of two scenes that are measured against each other each goes half the way.
    share = 1.0 if fixed is not None else (count - 1) / count
    places = range(len(stacks))
    for _ in range(count):
        peaks = [_peak(each) for each in zip(*([correlation(*pair) for pair in pairs(place)] for place in places))]
        coarse, sure = share * np.array([peak for peak, _ in peaks]), np.array([value for _, value in peaks])
        out = (np.abs(coarse).max(axis=1) > reach_px + 1) & ~far.any(axis=1)
        # One that is far off draws the median of a few others to it: the surest goes first, then all are seen again.
        if not out.any():
            break
        gone = out if fixed is not None else out & (sure > ALIKE * sure[out].max())
        far[gone] = coarse[gone] / share
        if fixed is not None:
            break
    shifts[:] = np.where(np.abs(coarse).max(axis=1, keepdims=True) > reach_px + 1, 0, coarse)
    found = [_Found(NO_SHIFT_PX)] * count
    for _ in range(ROUNDS):
        told = [[_cells(*pair) for pair in pairs(place)] for place in places]
        found = [_agreed(cells) for cells in zip(*told)]
        steps = np.clip([each.step for each in found], -1, 1)
        shifts[:] = np.clip(shifts + share * steps, -reach_px - 1, reach_px + 1)
        if np.abs(steps).max(axis=1)[[each.quality >= MIN_QUALITY for each in found]].max(initial=0) < SETTLED_PX:
            break
    if fixed is None:
        good = [not _why(each, off, NO_SHIFT_PX, reach_px) for each, off in zip(found, far)]
        if any(good):
            weight = np.array([each.quality for each in found])[good]
            shifts -= [_median(shifts[good, axis], weight) for axis in (0, 1)]
    return [_shift(each, off, shift, reach_px) for each, off, shift in zip(found, far, shifts)]


def _shift(found: _Found, far: np.ndarray, shift: np.ndarray, reach_px: float) -> Registration:
    why = _why(found, far, shift, reach_px)
    x, y = (0.0, 0.0) if why else (round(float(way) * RES_M, 3) + 0.0 for way in (shift[0], -shift[1]))
    return Registration(x, y, round(found.quality, 4), found.cells, round(found.spread * RES_M, 3), why)


def _why(found: _Found, far: np.ndarray, shift: np.ndarray, reach_px: float) -> str:
    """Why a scene cannot be registered; empty if it can."""
    squares = f"squares of {CELL_PX * RES_M} m"
    off = far if far.any() else shift
    if np.abs(off).max() > reach_px:
        metres = float(np.hypot(*off)) * RES_M
        return f"it lies {metres:.0f} m off, and more than {reach_px * RES_M:g} m along an axis is not believed"
    if found.covered < MIN_CELLS:
        return f"too little clear ground: {found.covered} {squares}, {MIN_CELLS} are needed"
    if found.told < MIN_CELLS:
        return f"no texture: {found.told} of {found.covered} {squares} hold edges to measure by, {MIN_CELLS} are needed"
    if found.quality < MIN_QUALITY:
        return f"unlike the reference: its contrast correlates by {found.quality:.2f}, {MIN_QUALITY} is needed"
    error = max(found.spread / math.sqrt(max(found.cells, 1)), float(np.abs(found.step).max()))
    if error > ERROR_PX or 2 * found.cells < found.told:
        return f"the {squares} disagree: {found.cells} of {found.told} agree, within {error * RES_M:.1f} m"
    return ""


def _peak(windows: Sequence[tuple[np.ndarray, float]]) -> tuple[np.ndarray, float]:
    """(shift in whole pixels, x east and y south, correlation) where windows correlate best; zeros where by chance."""
    weights = np.array([pixels for _, pixels in windows])
    if weights.sum() < MIN_CELLS * COVERED * CELL_PX**2:
        return NO_SHIFT_PX, 0.0
    mean = np.average([surface for surface, _ in windows], axis=0, weights=weights)
    south, east = np.unravel_index(int(mean.argmax()), mean.shape)
    chance = CHANCE * math.sqrt(SHARED_PX / weights.sum())
    if mean.max() < MIN_QUALITY + chance:
        return NO_SHIFT_PX, 0.0
    return np.array([east - MAX_LAG_PX, south - MAX_LAG_PX], dtype=float), float(mean.max())


def _cells(scene: Contrast, base: Contrast) -> _Cells:
    """Least squares of scene = gain (reference + shift . slope) + offset in every block and band, by cells."""
    inner = base.seen.copy()
    inner[1:-1, 1:-1] &= base.seen[2:, 1:-1] & base.seen[:-2, 1:-1] & base.seen[1:-1, 2:] & base.seen[1:-1, :-2]
    inner[[0, -1]] = inner[:, [0, -1]] = False
    both = scene.seen & inner
    south, east = np.gradient(base.values, axis=(1, 2))
    fields = _blocks(np.stack([scene.values, base.values, east, south]) * both)
    inside = _blocks(both[None, None].astype(np.float32))[..., 0, :]
    pixels, weight = inside[0].sum(axis=-1), np.broadcast_to(inside, fields[..., 0, :].shape)
    for each in range(PASSES):
        # Weighted sums, over a block's pixels, of the products of the four fields, each less its mean.
        sums = weight.sum(axis=-1)
        mean = (fields @ weight[..., None]) / np.maximum(sums, 1)[..., None, None]
        apart = fields - mean
        gram = ((apart * weight[..., None, :]) @ apart.swapaxes(-1, -2)).astype(np.float64)
        ss, sb, bb = gram[..., 0, 0], gram[..., 0, 1], gram[..., 1, 1]
        gain = sb / np.maximum(bb, TINY)
        like = sb * gain / np.maximum(ss, TINY)
        noise = np.maximum(ss * np.clip(1 - like, UNLIKE, 1) / np.maximum(sums, 1), TINY)
        if each < PASSES - 1:
            # What was built or mown between the dates stands out of its block.
            error = apart[..., 0, :] - gain[..., None].astype(np.float32) * apart[..., 1, :]
            weight = inside / (1 + error**2 / (HALF**2 * noise[..., None]).astype(np.float32))
    sure = (like * sums > SURE**2 * SHARED_PX) & (pixels >= COVERED * BLOCK_PX**2)
    told = np.where(sure, gain / noise / SHARED_PX, 0)
    normal = ((told * gain)[..., None, None] * gram[..., 2:, 2:]).sum(axis=0)
    right = (told[..., None] * (gram[..., 0, 2:] - gain[..., None] * gram[..., 1, 2:])).sum(axis=0)
    covered = _pooled(pixels) >= COVERED * CELL_PX**2
    powers = np.stack([np.where(sure, like * ss, 0), ss]).sum(axis=(2, 3))
    return _Cells(int(covered.sum()), _pooled(normal)[covered], _pooled(right)[covered], powers)


def _blocks(fields: np.ndarray) -> np.ndarray:
    """[n, bands, rows, columns] cut into [bands, block rows, block columns, n, pixels], zeros added to fill cells."""
    rows, cols = (-(-side // CELL_PX) * CELL_PX for side in fields.shape[2:])
    full = np.zeros((*fields.shape[:2], rows, cols), dtype=np.float32)
    full[:, :, : fields.shape[2], : fields.shape[3]] = fields
    cut = full.reshape(*fields.shape[:2], rows // BLOCK_PX, BLOCK_PX, cols // BLOCK_PX, BLOCK_PX)
    return cut.transpose(1, 2, 4, 0, 3, 5).reshape(fields.shape[1], rows // BLOCK_PX, cols // BLOCK_PX, len(fields), -1)


def _pooled(blocks: np.ndarray) -> np.ndarray:
    """Sums over the blocks [block rows, block columns, ...] of each cell."""
    each = CELL_PX // BLOCK_PX
    rows, cols = blocks.shape[0] // each, blocks.shape[1] // each
    return blocks.reshape(rows, each, cols, each, *blocks.shape[2:]).sum(axis=(1, 3))


def _agreed(windows: Sequence[_Cells]) -> _Found:
    """The shift that the cells agree on: a mean weighted by their own errors and, by Tukey, by their distance to it."""
    covered = sum(cells.covered for cells in windows)
    explained, power = np.sum([cells.powers for cells in windows], axis=0)
    quality = min(float(np.sqrt(np.mean(explained / np.maximum(power, TINY)))), 1.0)
    normal = np.concatenate([cells.normal for cells in windows])
    right = np.concatenate([cells.right for cells in windows])
    # The lesser eigenvalue: a straight edge tells nothing of the shift along it.
    told = np.linalg.eigvalsh(normal)[:, 0] > CELL_ERROR_PX**-2 if len(normal) else np.zeros(0, dtype=bool)
    if told.sum() < MIN_CELLS:
        return _Found(np.zeros(2), covered, int(told.sum()), quality=quality)
    step = np.linalg.solve(normal[told], right[told][..., None])[..., 0]
    weight = np.linalg.inv(np.linalg.inv(normal[told]) + FLOOR_PX**2 * np.eye(2))
    mean = np.median(step, axis=0)
    for _ in range(5):
        away = np.hypot(*(step - mean).T)
        # Two dimensions: half of the distances lie within 1.18 standard deviations.
        spread = float(np.median(away)) / 1.1774
        width = max(spread, FLOOR_PX / 2)
        tukey = np.clip(1 - (away / (4.685 * width)) ** 2, 0, None) ** 2
        each = weight * tukey[:, None, None]
        mean = np.linalg.solve(each.sum(axis=0), (each @ step[..., None]).sum(axis=0))[:, 0]
    agree = away <= 3 * width
    return _Found(mean, covered, int(told.sum()), int(agree.sum()), spread, quality)


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted median, linear between the middles of the weights."""
    order = np.argsort(values, kind="stable")
    middles = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(weights.sum() / 2, middles, values[order]))
