"""Subpixel shift between two contrast images by least squares in cells, and the robust mean of the cells."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jointseg.sentinel2.local_contrast import SIGMA_PX, Contrast

# Gain and noise are estimated per block, about the size of a field; the shift per cell.
BLOCK_PX, CELL_PX = 32, 64
MIN_COVERAGE = 0.25  # fraction of a block or cell that must be valid
CORRELATED_PX = 4 * math.pi * SIGMA_PX**2  # pixels with correlated noise, by the autocorrelation of the Gaussian
MIN_CELLS = 4
# Fits of a block, and the residual, in standard deviations, at which a pixel has half the weight in the next fit.
PASSES, HALF_WEIGHT = 3, 1.5
MIN_GAIN_SIGMAS = 3.0  # standard errors by which the gain of a block must differ from 0
MIN_UNEXPLAINED = 0.03  # minimum fraction of a block's variance that counts as noise
MAX_CELL_ERROR_PX = 0.4  # expected standard error of a usable cell
CELL_FLOOR_PX = 0.1  # additional standard error of every cell: relief and sensor geometry
TINY = 1e-30


@dataclass(frozen=True)
class CellFits:
    """Least-squares equations of the cells of a window for the remaining shift, in pixels (x east, y south)."""

    covered: int  # number of cells with enough valid pixels
    normal: np.ndarray  # float64 [covered, 2, 2], inverse covariance of each cell's shift
    right: np.ndarray  # float64 [covered, 2], normal @ shift
    # float64 [2, bands], sums of squared contrast of the scene: explained by the reference, and total
    powers: np.ndarray


@dataclass(frozen=True)
class ShiftEstimate:
    """Robust mean of the shifts of all cells, in pixels (x east, y south)."""

    step: np.ndarray  # float64 [2]
    covered: int = 0  # number of cells with enough valid pixels
    textured: int = 0  # number of covered cells with enough texture to measure a shift
    agreeing: int = 0  # number of textured cells close to the mean
    spread: float = 0.0  # robust standard deviation among the cells, pixels
    quality: float = 0.0  # correlation of local contrast, 0..1


def fit_cells(scene: Contrast, base: Contrast) -> CellFits:
    """Fit scene = gain (reference + shift . gradient) + offset in every block and band; sum up by cells."""
    inner = base.valid.copy()
    inner[1:-1, 1:-1] &= base.valid[2:, 1:-1] & base.valid[:-2, 1:-1] & base.valid[1:-1, 2:] & base.valid[1:-1, :-2]
    inner[[0, -1]] = inner[:, [0, -1]] = False
    both = scene.valid & inner
    south, east = np.gradient(base.values, axis=(1, 2))
    fields = _blocks(np.stack([scene.values, base.values, east, south]) * both)
    inside = _blocks(both[None, None].astype(np.float32))[..., 0, :]
    pixels, weight = inside[0].sum(axis=-1), np.broadcast_to(inside, fields[..., 0, :].shape)
    for number in range(PASSES):
        # Weighted sums of the products of the four fields, each minus its mean, over the pixels of a block.
        sums = weight.sum(axis=-1)
        mean = (fields @ weight[..., None]) / np.maximum(sums, 1)[..., None, None]
        centred = fields - mean
        gram = ((centred * weight[..., None, :]) @ centred.swapaxes(-1, -2)).astype(np.float64)
        ss, sb, bb = gram[..., 0, 0], gram[..., 0, 1], gram[..., 1, 1]
        gain = sb / np.maximum(bb, TINY)
        explained = sb * gain / np.maximum(ss, TINY)
        noise = np.maximum(ss * np.clip(1 - explained, MIN_UNEXPLAINED, 1) / np.maximum(sums, 1), TINY)
        if number < PASSES - 1:
            # Pixels that changed between the dates are outliers of their block.
            error = centred[..., 0, :] - gain[..., None].astype(np.float32) * centred[..., 1, :]
            weight = inside / (1 + error**2 / (HALF_WEIGHT**2 * noise[..., None]).astype(np.float32))
    significant = (explained * sums > MIN_GAIN_SIGMAS**2 * CORRELATED_PX) & (pixels >= MIN_COVERAGE * BLOCK_PX**2)
    factor = np.where(significant, gain / noise / CORRELATED_PX, 0)
    normal = ((factor * gain)[..., None, None] * gram[..., 2:, 2:]).sum(axis=0)
    right = (factor[..., None] * (gram[..., 0, 2:] - gain[..., None] * gram[..., 1, 2:])).sum(axis=0)
    covered = _sum_cells(pixels) >= MIN_COVERAGE * CELL_PX**2
    powers = np.stack([np.where(significant, explained * ss, 0), ss]).sum(axis=(2, 3))
    return CellFits(int(covered.sum()), _sum_cells(normal)[covered], _sum_cells(right)[covered], powers)


def _blocks(fields: np.ndarray) -> np.ndarray:
    """Reshape [n, bands, rows, columns], zero-padded to whole cells, to [bands, block rows, block columns, n, pixels]."""
    rows, cols = (-(-side // CELL_PX) * CELL_PX for side in fields.shape[2:])
    padded = np.zeros((*fields.shape[:2], rows, cols), dtype=np.float32)
    padded[:, :, : fields.shape[2], : fields.shape[3]] = fields
    cut = padded.reshape(*fields.shape[:2], rows // BLOCK_PX, BLOCK_PX, cols // BLOCK_PX, BLOCK_PX)
    return cut.transpose(1, 2, 4, 0, 3, 5).reshape(fields.shape[1], rows // BLOCK_PX, cols // BLOCK_PX, len(fields), -1)


def _sum_cells(blocks: np.ndarray) -> np.ndarray:
    """Sum [block rows, block columns, ...] over the blocks of each cell."""
    side = CELL_PX // BLOCK_PX
    rows, cols = blocks.shape[0] // side, blocks.shape[1] // side
    return blocks.reshape(rows, side, cols, side, *blocks.shape[2:]).sum(axis=(1, 3))


def combine_cells(windows: Sequence[CellFits]) -> ShiftEstimate:
    """Return the mean shift of all cells, weighted by their standard errors and Tukey's biweight of their residuals."""
    covered = sum(cells.covered for cells in windows)
    explained, power = np.sum([cells.powers for cells in windows], axis=0)
    quality = min(float(np.sqrt(np.mean(explained / np.maximum(power, TINY)))), 1.0)
    normal = np.concatenate([cells.normal for cells in windows])
    right = np.concatenate([cells.right for cells in windows])
    # The smaller eigenvalue: a straight edge does not constrain the shift along it.
    textured = np.linalg.eigvalsh(normal)[:, 0] > MAX_CELL_ERROR_PX**-2 if len(normal) else np.zeros(0, dtype=bool)
    if textured.sum() < MIN_CELLS:
        return ShiftEstimate(np.zeros(2), covered, int(textured.sum()), quality=quality)
    step = np.linalg.solve(normal[textured], right[textured][..., None])[..., 0]
    weight = np.linalg.inv(np.linalg.inv(normal[textured]) + CELL_FLOOR_PX**2 * np.eye(2))
    mean = np.median(step, axis=0)
    for _ in range(5):
        distance = np.hypot(*(step - mean).T)
        # In two dimensions the median distance is 1.18 standard deviations.
        spread = float(np.median(distance)) / 1.1774
        width = max(spread, CELL_FLOOR_PX / 2)
        tukey = np.clip(1 - (distance / (4.685 * width)) ** 2, 0, None) ** 2
        weights = weight * tukey[:, None, None]
        mean = np.linalg.solve(weights.sum(axis=0), (weights @ step[..., None]).sum(axis=0))[:, 0]
    agreeing = distance <= 3 * width
    return ShiftEstimate(mean, covered, int(textured.sum()), int(agreeing.sum()), spread, quality)
