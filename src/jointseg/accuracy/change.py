"""ISA areas, growth, and accuracy of maps and their changes, estimated from interpreted points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rasterio.transform import rowcol
from rasterio.windows import Window

from jointseg.accuracy.block_counts import check_classes
from jointseg.accuracy.cluster_estimators import NODATA, Estimate, Metric, bootstrap_totals
from jointseg.accuracy.stratified_estimators import StratifiedSample, estimate_accuracy
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

DRAWS = 2000  # bootstrap replicates
POSITION_TOLERANCE_M = 0.01  # maximum distance between an interpreted point and the sample point of the same id


@dataclass(frozen=True)
class InterpretedPoints:
    """The sample points of a city with their reference classes."""

    sample: StratifiedSample  # strata and their sizes
    years: list[int]  # ascending
    # x, y: coordinates in the maps' UTM zone
    x: np.ndarray
    y: np.ndarray
    # mapped, reference: 1 for ISA, 0 for non-ISA, float [points, years]
    mapped: np.ndarray
    reference: np.ndarray
    area_km2: float  # area that is valid on the maps of all years, from which the points are sampled
    # Number of sample points without a reference class or map class in some year; they are left out, as if not sampled
    unusable: int

    def area(self, year: int) -> Estimate:
        """ISA area in a year, km2; Stehman (2014) eqs. 3 and 25."""
        return scale_estimate(self.sample.mean(self._true(year)), self.area_km2)

    def gain(self, first: int, last: int) -> Estimate:
        """Area that changed from non-ISA to ISA between two years, km2."""
        return scale_estimate(self.sample.mean(self._true(last) * (1 - self._true(first))), self.area_km2)

    def loss(self, first: int, last: int) -> Estimate:
        """Area that changed from ISA to non-ISA between two years, km2."""
        return self.gain(last, first)

    def growth(self, first: int, last: int) -> Estimate:
        """Area in the last year minus area in the first, km2, paired: both are observed at the same points."""
        return scale_estimate(self.sample.mean(self._true(last) - self._true(first)), self.area_km2)

    def yearly_percent(self, first: int, last: int) -> Estimate:
        """Compound growth rate, percent per year: 100 ((A_last / A_first)^(1 / years) - 1)."""
        rate: Metric = lambda t: 100 * ((t[0] / t[1]) ** (1 / (last - first)) - 1)  # noqa: E731
        return self.sample.estimate([self._true(last), self._true(first)], rate)

    def accuracy(self, year: int) -> dict[str, Estimate]:
        """Overall, user's and producer's accuracy of a year's map."""
        return self._accuracy(self._mapped(year), self._true(year))

    def accuracy_of_gain(self, first: int, last: int) -> dict[str, Estimate]:
        """Overall, user's and producer's accuracy of the mapped ISA gain between two years."""
        mapped_gain = self._mapped(last) * (1 - self._mapped(first))
        return self._accuracy(mapped_gain, self._true(last) * (1 - self._true(first)))

    def transitions(self, first: int, last: int) -> np.ndarray:
        """Estimated area, km2, by [class in the first year, class in the last year]; classes 0 non-ISA, 1 ISA."""
        weights, before, after = self.sample.weights, self._true(first), self._true(last)
        cells = [[(weights * (before == a) * (after == b)).sum() for b in (0, 1)] for a in (0, 1)]
        return np.array(cells) / weights.sum() * self.area_km2

    def replicates(self, seed: int) -> np.ndarray:
        """Bootstrap replicates of the ISA areas, km2, float [DRAWS, years]."""
        columns = np.hstack([self.reference, np.ones((len(self.reference), 1))])
        totals = bootstrap_totals(columns, self.sample.weights, self.sample.strata, DRAWS, seed)
        return totals[:, :-1] / totals[:, -1:] * self.area_km2

    def _true(self, year: int) -> np.ndarray:
        return self.reference[:, self.years.index(year)]

    def _mapped(self, year: int) -> np.ndarray:
        return self.mapped[:, self.years.index(year)]

    def _accuracy(self, mapped: np.ndarray, reference: np.ndarray) -> dict[str, Estimate]:
        estimates = estimate_accuracy(self.sample, mapped, reference, (0, 1))
        return {"overall": estimates.overall, "users": estimates.users[1], "producers": estimates.producers[1]}


def scale_estimate(estimate: Estimate, by: float) -> Estimate:
    return Estimate(estimate.value * by, estimate.se * by, estimate.lower * by, estimate.upper * by, estimate.units)


def read_interpreted(
    strata: Path, design: Path, interpreted: Path, mosaics: Sequence[Path], years: Sequence[int]
) -> InterpretedPoints:
    """Join a point sample with its reference classes and the map classes at the points.

    The maps can differ from those that the sample was drawn from; the reference classes are valid for any map. Raises
    DataError if points are missing, duplicated or moved, a class is neither 0 nor 1, or a stratum has too few points.

    Args:
        strata, design: outputs of step `change_sample`.
        interpreted: its table of points, with a class in each year: 1, 0, or empty if it cannot be interpreted.
        mosaics: {year}/{city}.tif, in the order of `years`.
        years: ascending.
    """
    drawn, sizes = pd.read_csv(design), pd.read_csv(strata)
    classes = _reference_classes(drawn, pd.read_csv(interpreted), [str(year) for year in years], interpreted)
    truth = classes[[str(year) for year in years]].to_numpy(float)
    maps = np.stack([_classes_at(path, drawn) for path in mosaics], axis=1)
    usable = (np.isfinite(truth) & (maps != NODATA)).all(axis=1)
    size_of = {name: size for name, size in zip(sizes["stratum"], sizes["pixels"]) if size > 0}
    try:
        sample = StratifiedSample(drawn["stratum"].to_numpy()[usable], size_of)
    except DataError as error:
        raise DataError(f"{interpreted}: {error}") from error
    return InterpretedPoints(
        sample=sample,
        years=list(years),
        x=drawn["x"].to_numpy()[usable],
        y=drawn["y"].to_numpy()[usable],
        mapped=maps[usable].astype(float),
        reference=truth[usable],
        area_km2=float(sizes["km2"].sum()),
        unusable=int((~usable).sum()),
    )


def _reference_classes(drawn: pd.DataFrame, filled: pd.DataFrame, years: list[str], path: Path) -> pd.DataFrame:
    """Return the classes of the sample points in sample order, NaN where empty."""
    absent = [name for name in ("id", "x", "y", *years) if name not in filled]
    if absent:
        raise DataError(f"{path} has no column {absent[0]!r}; keep all columns of the table of points")
    if filled["id"].duplicated().any():
        duplicate = filled["id"][filled["id"].duplicated()].iloc[0]
        raise DataError(f"{path} has two rows of point {duplicate}; keep one row per point")
    both = filled.merge(drawn, on="id", how="left", suffixes=("", "_drawn"))
    moved = ~(np.hypot(both["x"] - both["x_drawn"], both["y"] - both["y_drawn"]) < POSITION_TOLERANCE_M)
    if moved.any():
        raise DataError(
            f"{path}: point {both['id'][moved].iloc[0]} is not at the sample's location, so it belongs to another sample; "
            "keep the sample that was interpreted and set accuracy.growth_sample to its folder"
        )
    joined = drawn[["id"]].merge(filled[["id", *years]], on="id", how="left")
    classes = joined[years].apply(pd.to_numeric, errors="coerce")
    wrong = (joined[years].notna() & ~classes.isin([0, 1])).to_numpy()
    if wrong.any():
        row, col = np.argwhere(wrong)[0]
        raise DataError(
            f"{path}, point {joined['id'][row]}, {years[col]}: '{joined[years[col]][row]}' is not a class; "
            "use 1 for impervious, 0 for not impervious, empty if it cannot be interpreted"
        )
    return classes


def _classes_at(path: Path, drawn: pd.DataFrame) -> np.ndarray:
    """Return the map's class at each point, uint8 [n]; nodata beyond its edge."""
    with raster_io.open_raster(path) as source:
        height, width = source.shape
        row, col = (np.asarray(each) for each in rowcol(source.transform, drawn["x"], drawn["y"]))
        classes = np.full(len(drawn), NODATA, np.uint8)
        for number in np.flatnonzero((row >= 0) & (row < height) & (col >= 0) & (col < width)):
            classes[number] = source.read(1, window=Window(col[number], row[number], 1, 1))[0, 0]
    check_classes(classes, str(path))
    return classes
