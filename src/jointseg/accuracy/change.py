"""Areas of ISA over the years, their growth, and the accuracy of the maps and of their changes, from interpreted points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rasterio.transform import rowcol
from rasterio.windows import Window

from jointseg.accuracy.block_counts import only_classes
from jointseg.accuracy.cluster_estimators import UNKNOWN, Estimate, Metric, replicated
from jointseg.accuracy.stratified_estimators import Sample, assessed
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

DRAWS = 2000  # bootstrap replicates
SAME_M = 0.01  # a point told and a point drawn are one as far as this


@dataclass(frozen=True)
class Interpreted:
    """The points of a city with what people told of them.

    Attributes:
        sample: strata and their sizes.
        years: ascending.
        x, y: of the points, in the maps' UTM zone.
        mapped, reference: whether a point is ISA, float [points, years].
        km2: ground that every year's map knows, of which the points are a sample.
        untold: points that were drawn but could not be told in every year, or that a map does not know; they are left
            out, as if not drawn.
    """

    sample: Sample
    years: list[int]
    x: np.ndarray
    y: np.ndarray
    mapped: np.ndarray
    reference: np.ndarray
    km2: float
    untold: int

    def area(self, year: int) -> Estimate:
        """ISA in a year, km2; Stehman (2014) eqs. 3 and 25."""
        return scaled(self.sample.share(self._true(year)), self.km2)

    def gained(self, first: int, last: int) -> Estimate:
        """Ground that became ISA between two years, km2."""
        return scaled(self.sample.share(self._true(last) * (1 - self._true(first))), self.km2)

    def lost(self, first: int, last: int) -> Estimate:
        """Ground that was ISA and no longer is, km2."""
        return self.gained(last, first)

    def growth(self, first: int, last: int) -> Estimate:
        """Area in the last year minus that in the first, km2, paired: both are seen at the same points."""
        return scaled(self.sample.share(self._true(last) - self._true(first)), self.km2)

    def yearly_percent(self, first: int, last: int) -> Estimate:
        """Compound growth, percent a year: 100 ((A_last / A_first)^(1 / years) - 1)."""
        rate: Metric = lambda t: 100 * ((t[0] / t[1]) ** (1 / (last - first)) - 1)  # noqa: E731
        return self.sample.estimate([self._true(last), self._true(first)], rate)

    def accuracy(self, year: int) -> dict[str, Estimate]:
        """Overall, user's and producer's accuracy of a year's map."""
        return self._scored(self._mapped(year), self._true(year))

    def accuracy_of_gain(self, first: int, last: int) -> dict[str, Estimate]:
        """The same of the map of what became ISA between two years: all other ground is the other class."""
        return self._scored(self._mapped(last) * (1 - self._mapped(first)), self._true(last) * (1 - self._true(first)))

    def transitions(self, first: int, last: int) -> np.ndarray:
        """km2 by class in the first and in the last year, by the points: [0 not ISA | 1 ISA, 0 | 1]."""
        weights, before, after = self.sample.weights, self._true(first), self._true(last)
        cells = [[(weights * (before == a) * (after == b)).sum() for b in (0, 1)] for a in (0, 1)]
        return np.array(cells) / weights.sum() * self.km2

    def replicates(self, seed: int) -> np.ndarray:
        """Areas of ISA, km2, as other samples of the same design might tell them, float [DRAWS, years]."""
        columns = np.hstack([self.reference, np.ones((len(self.reference), 1))])
        totals = replicated(columns, self.sample.weights, self.sample.strata, DRAWS, seed)
        return totals[:, :-1] / totals[:, -1:] * self.km2

    def _true(self, year: int) -> np.ndarray:
        return self.reference[:, self.years.index(year)]

    def _mapped(self, year: int) -> np.ndarray:
        return self.mapped[:, self.years.index(year)]

    def _scored(self, mapped: np.ndarray, reference: np.ndarray) -> dict[str, Estimate]:
        made = assessed(self.sample, mapped, reference, (0, 1))
        return {"overall": made.overall, "users": made.users[1], "producers": made.producers[1]}


def scaled(estimate: Estimate, by: float) -> Estimate:
    """An estimate in another unit."""
    return Estimate(estimate.value * by, estimate.se * by, estimate.lower * by, estimate.upper * by, estimate.units)


def interpreted(strata: Path, design: Path, told: Path, mosaics: Sequence[Path], years: Sequence[int]) -> Interpreted:
    """Joins a sample of points with the filled-in table of its points and with what the maps say there.

    The maps need not be those that the sample was drawn by: it tells the truth of any.

    Args:
        strata, design: as step `change_sample` writes them.
        told: its table of points with a class for each year: 1, 0, or nothing where it cannot be told.
        mosaics: {year}/{city}.tif, in the order of `years`.
        years: ascending.

    Raises:
        DataError: points are missing, unknown or elsewhere, a class is neither 0 nor 1, or a stratum keeps too few points.
    """
    drawn, sizes = pd.read_csv(design), pd.read_csv(strata)
    joined = _joined(drawn, pd.read_csv(told), [str(year) for year in years], told)
    truth = joined[[str(year) for year in years]].to_numpy(float)
    maps = np.stack([_classes_at(path, drawn) for path in mosaics], axis=1)
    kept = (np.isfinite(truth) & (maps != UNKNOWN)).all(axis=1)
    size_of = {name: size for name, size in zip(sizes["stratum"], sizes["pixels"]) if size > 0}
    try:
        sample = Sample(drawn["stratum"].to_numpy()[kept], size_of)
    except DataError as error:
        raise DataError(f"{told}: {error}") from error
    return Interpreted(
        sample=sample,
        years=list(years),
        x=drawn["x"].to_numpy()[kept],
        y=drawn["y"].to_numpy()[kept],
        mapped=maps[kept].astype(float),
        reference=truth[kept],
        km2=float(sizes["km2"].sum()),
        untold=int((~kept).sum()),
    )


def _joined(drawn: pd.DataFrame, filled: pd.DataFrame, years: list[str], told: Path) -> pd.DataFrame:
    """The classes of the drawn points in their order, NaN where they are not told."""
    absent = [name for name in ("id", "x", "y", *years) if name not in filled]
    if absent:
        raise DataError(f"{told} has no column {absent[0]!r}; fill in the table of points as it was made")
    if filled["id"].duplicated().any():
        twice = filled["id"][filled["id"].duplicated()].iloc[0]
        raise DataError(f"{told} tells point {twice} twice; keep one line a point")
    both = filled.merge(drawn, on="id", how="left", suffixes=("", "_drawn"))
    elsewhere = ~(np.hypot(both["x"] - both["x_drawn"], both["y"] - both["y_drawn"]) < SAME_M)
    if elsewhere.any():
        raise DataError(
            f"{told}: point {both['id'][elsewhere].iloc[0]} is not where the sample has it, so it was told for another "
            "sample; keep the sample that was filled in and name its folder in accuracy.growth_sample"
        )
    joined = drawn[["id"]].merge(filled[["id", *years]], on="id", how="left")
    classes = joined[years].apply(pd.to_numeric, errors="coerce")
    wrong = (joined[years].notna() & ~classes.isin([0, 1])).to_numpy()
    if wrong.any():
        row, col = np.argwhere(wrong)[0]
        raise DataError(
            f"{told}, point {joined['id'][row]}, {years[col]}: '{joined[years[col]][row]}' is no class; "
            "1 is impervious, 0 is not, and nothing where it cannot be told"
        )
    return classes


def _classes_at(path: Path, drawn: pd.DataFrame) -> np.ndarray:
    """The map's class at each point, uint8 [n]; unknown beyond its edge."""
    with raster_io.open_raster(path) as source:
        place, height, width = source.transform, source.height, source.width
        row, col = (np.asarray(each) for each in rowcol(place, drawn["x"], drawn["y"]))
        found = np.full(len(drawn), UNKNOWN, np.uint8)
        for number in np.flatnonzero((row >= 0) & (row < height) & (col >= 0) & (col < width)):
            found[number] = source.read(1, window=Window(col[number], row[number], 1, 1))[0, 0]
    only_classes(found, str(path))
    return found
