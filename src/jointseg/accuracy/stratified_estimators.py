"""Accuracy and area of a map of classes from a stratified random sample of pixels; strata may be any parts of the ground.

Sources: Stehman (2014), International Journal of Remote Sensing 35, 4923-4939; Olofsson et al. (2014), Remote Sensing of
Environment 148, 42-57, of which it is the more general one: there the strata are the map's classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jointseg.accuracy.cluster_estimators import Estimate, Metric, linearised
from jointseg.runtime.errors import DataError


@dataclass(frozen=True)
class Sample:
    """A stratified simple random sample of pixels.

    Attributes:
        strata: stratum of each pixel [n].
        sizes: pixels of each stratum in the population; a stratum needs two in the sample, or all that it has.
    """

    strata: np.ndarray
    sizes: Mapping[Any, float]

    def __post_init__(self) -> None:
        for name, size in self.sizes.items():
            drawn = int(np.count_nonzero(self.strata == name))
            if drawn < min(2, size):
                raise DataError(
                    f"stratum {name!r} of {size:,.0f} pixels has {drawn} in the sample; its spread needs two, draw more"
                )
        strange = set(self.strata.tolist()) - set(self.sizes)
        if strange:
            raise DataError(f"stratum {min(strange)!r} of the sample has no size; count its pixels")

    @property
    def weights(self) -> np.ndarray:
        """Pixels that each one stands for, N_h / n_h, float [n]."""
        drawn = {name: np.count_nonzero(self.strata == name) for name in self.sizes}
        return np.array([self.sizes[name] / drawn[name] for name in self.strata.tolist()])

    def estimate(self, columns: Sequence[np.ndarray], function: Metric) -> Estimate:
        """A function of the totals of columns [n] over the population, such as a ratio of two; see `linearised`."""
        return linearised(np.stack(columns, axis=1), self.weights, self.strata, function, self.sizes)

    def share(self, column: np.ndarray) -> Estimate:
        """Mean of a column over the population; Stehman (2014) eqs. 3 and 25."""
        return self.estimate([column, np.ones(len(column))], lambda t: t[0] / t[1])


@dataclass(frozen=True)
class Thematic:
    """Estimates of a map of classes; shares are of the whole population.

    Attributes:
        overall: share of the ground on which map and reference agree.
        users, producers: by class, of the ground mapped as the class the share that is, and the other way round.
        area: share of the ground that is of the class, by the reference.
        matrix: shares of the ground by [map class, reference class].
    """

    overall: Estimate
    users: dict[Any, Estimate]
    producers: dict[Any, Estimate]
    area: dict[Any, Estimate]
    matrix: np.ndarray


def assessed(sample: Sample, mapped: np.ndarray, reference: np.ndarray, classes: Sequence[Any]) -> Thematic:
    """Estimates of one map; another map is scored by the same sample.

    Overall accuracy and area are means, Stehman (2014) eqs. 3, 14-17 and 25; user's and producer's accuracy are ratios,
    eqs. 18-20 and 27-28. Where the strata are the map's classes these are Olofsson et al. (2014) eqs. 1-3, 5-7, 9 and 10.

    Args:
        sample: the pixels.
        mapped, reference: class of each pixel [n].
        classes: all that may occur.
    """
    is_map = {name: (mapped == name).astype(float) for name in classes}
    is_reference = {name: (reference == name).astype(float) for name in classes}
    strange = [name for name in {*mapped.tolist(), *reference.tolist()} if name not in is_map]
    if strange:
        raise DataError(f"class {strange[0]!r} of the sample is none of {list(classes)}")
    ratio: Metric = lambda t: t[0] / t[1]  # noqa: E731
    both = {name: is_map[name] * is_reference[name] for name in classes}
    weights = sample.weights
    matrix = [[(weights * is_map[row] * is_reference[column]).sum() for column in classes] for row in classes]
    return Thematic(
        overall=sample.share((mapped == reference).astype(float)),
        users={name: sample.estimate([both[name], is_map[name]], ratio) for name in classes},
        producers={name: sample.estimate([both[name], is_reference[name]], ratio) for name in classes},
        area={name: sample.share(is_reference[name]) for name in classes},
        matrix=np.array(matrix) / weights.sum(),
    )
