"""Accuracy and area of a thematic map from a stratified random sample of pixels, with strata that can differ from the map's classes.

Sources: Stehman (2014), International Journal of Remote Sensing 35, 4923-4939, which generalises Olofsson et al. (2014),
Remote Sensing of Environment 148, 42-57, where the strata are the map's classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jointseg.accuracy.cluster_estimators import Estimate, Metric, linearised_estimate
from jointseg.runtime.errors import DataError


@dataclass(frozen=True)
class StratifiedSample:
    """A stratified simple random sample of pixels.

    Attributes:
        strata: stratum of each pixel [n].
        sizes: pixels of each stratum in the population; each stratum needs at least two sample pixels, or all of its pixels.
    """

    strata: np.ndarray
    sizes: Mapping[Any, float]

    def __post_init__(self) -> None:
        for name, size in self.sizes.items():
            drawn = int(np.count_nonzero(self.strata == name))
            if drawn < min(2, size):
                raise DataError(
                    f"stratum {name!r} of {size:,.0f} pixels has {drawn} in the sample; a variance needs two; sample more"
                )
        missing = set(self.strata.tolist()) - set(self.sizes)
        if missing:
            raise DataError(f"stratum {min(missing)!r} of the sample has no size; add its number of pixels")

    @property
    def weights(self) -> np.ndarray:
        """Expansion factor of each sample pixel, N_h / n_h, float [n]."""
        drawn = {name: np.count_nonzero(self.strata == name) for name in self.sizes}
        return np.array([self.sizes[name] / drawn[name] for name in self.strata.tolist()])

    def estimate(self, columns: Sequence[np.ndarray], function: Metric) -> Estimate:
        """Estimate a function of the population totals of columns [n], such as a ratio; see `linearised_estimate`."""
        return linearised_estimate(np.stack(columns, axis=1), self.weights, self.strata, function, self.sizes)

    def mean(self, column: np.ndarray) -> Estimate:
        """Estimate the population mean of a column [n]; Stehman (2014) eqs. 3 and 25."""
        return self.estimate([column, np.ones(len(column))], lambda t: t[0] / t[1])


@dataclass(frozen=True)
class AccuracyEstimates:
    """Accuracy of a thematic map.

    Attributes:
        users, producers: user's and producer's accuracy by class.
        area: fraction of the area by reference class.
        matrix: fractions of the area by [map class, reference class].
    """

    overall: Estimate
    users: dict[Any, Estimate]
    producers: dict[Any, Estimate]
    area: dict[Any, Estimate]
    matrix: np.ndarray


def estimate_accuracy(
    sample: StratifiedSample, mapped: np.ndarray, reference: np.ndarray, classes: Sequence[Any]
) -> AccuracyEstimates:
    """Estimate the accuracy of one map; the same sample is valid for any map.

    Overall accuracy and area are means, Stehman (2014) eqs. 3, 14-17 and 25; user's and producer's accuracy are ratios,
    eqs. 18-20 and 27-28. If the strata are the map's classes, these are Olofsson et al. (2014) eqs. 1-3, 5-7, 9 and 10.

    Args:
        mapped, reference: class of each pixel [n].
        classes: all possible classes.
    """
    is_map = {name: (mapped == name).astype(float) for name in classes}
    is_reference = {name: (reference == name).astype(float) for name in classes}
    unexpected = [name for name in {*mapped.tolist(), *reference.tolist()} if name not in is_map]
    if unexpected:
        raise DataError(f"class {unexpected[0]!r} of the sample is not one of {list(classes)}; add it to the classes")
    ratio: Metric = lambda t: t[0] / t[1]  # noqa: E731
    both = {name: is_map[name] * is_reference[name] for name in classes}
    weights = sample.weights
    matrix = [[(weights * is_map[row] * is_reference[column]).sum() for column in classes] for row in classes]
    return AccuracyEstimates(
        overall=sample.mean((mapped == reference).astype(float)),
        users={name: sample.estimate([both[name], is_map[name]], ratio) for name in classes},
        producers={name: sample.estimate([both[name], is_reference[name]], ratio) for name in classes},
        area={name: sample.mean(is_reference[name]) for name in classes},
        matrix=np.array(matrix) / weights.sum(),
    )
