"""Exact mean and standard deviation of integer images, independent of the order and the number of workers."""

from math import isqrt

import numpy as np

from jointseg.dataset.contract import REFLECTANCE_PER_DN

BandSums = tuple[tuple[int, int, int], ...]  # per band: valid pixels, their sum, the sum of their squares
_DIGITS = 8


def band_sums(dn: np.ndarray) -> BandSums:
    """Return the sums per band of an image, uint16 [bands, rows, columns]; 0 is nodata and adds nothing."""
    flat = dn.reshape(len(dn), -1).astype(np.int64)
    return tuple((int(np.count_nonzero(band)), int(band.sum()), int(band @ band)) for band in flat)


class BandStatistics:
    """Running sums per band, as integers of arbitrary size."""

    def __init__(self) -> None:
        self.bands: list[list[int]] = []

    def add(self, sums: BandSums) -> None:
        self.bands = self.bands or [[0, 0, 0] for _ in sums]
        for totals, added in zip(self.bands, sums, strict=True):
            for i, value in enumerate(added):
                totals[i] += value

    def summary(self) -> dict[str, list]:
        """Return {"mean", "std", "pixels"} per band, in reflectance rounded to 8 digits; None without valid pixels."""
        return {
            "mean": [_mean(band) for band in self.bands],
            "std": [_std(band) for band in self.bands],
            "pixels": [band[0] for band in self.bands],
        }


def _mean(band: list[int]) -> float | None:
    count, total, _ = band
    return round(total / count * REFLECTANCE_PER_DN, _DIGITS) if count else None


def _std(band: list[int]) -> float | None:
    count, total, square = band
    if not count:
        return None
    # The variance times count squared is an integer: no cancellation.
    scaled = count * square - total**2
    return round(isqrt(scaled * 10**8) / 10**4 / count * REFLECTANCE_PER_DN, _DIGITS)
