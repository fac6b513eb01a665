"""Allocation of the sample size to strata: proportional, Neyman, equal or fixed, bounded by the candidates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jointseg.runtime.errors import DataError

ALLOCATIONS = ("proportional", "neyman", "equal", "fixed")
MIN_SAMPLES = 2
# Lower bound of a stratum's standard deviation in the Neyman allocation: the prior product misses lanes and single
# houses, so strata that it maps as empty vary more than it shows.
NEYMAN_FLOOR = 0.05


@dataclass(frozen=True)
class Stratum:
    """A stratum with the number of its candidates and the standard deviation of their prior ISA fraction."""

    name: str
    reach: str
    candidates: int
    prior_std: float


def apportion(total: int, weights: Sequence[float], low: Sequence[int], high: Sequence[int]) -> list[int]:
    """Return integers that are roughly proportional to weights, lie within bounds and sum to `total` if possible.

    The real-valued shares are clip(t x weight, low, high) with one t for all strata; the largest remainder method
    rounds them. Only sums and comparisons in a fixed order, so that the result is the same on every machine.
    """
    total = min(max(total, sum(low)), sum(high))

    def shares_at(t: float) -> list[float]:
        return [min(max(t * weight, lower), upper) for weight, lower, upper in zip(weights, low, high)]

    below, above = 0.0, (max(high) + 1) / min((weight for weight in weights if weight > 0), default=1.0)
    for _ in range(200):
        middle = (below + above) / 2
        if math.fsum(shares_at(middle)) < total:
            below = middle
        else:
            above = middle
    shares = shares_at(above)
    out = [math.floor(share + 1e-9) for share in shares]
    order = sorted(range(len(out)), key=lambda i: (round(out[i] - shares[i], 6), i))
    while missing := total - sum(out):
        open_ = [i for i in order if out[i] < high[i]]
        for i in open_[:missing]:
            out[i] += 1
    return out


def allocate(
    strata: Sequence[Stratum], total: int, method: str, counts: Mapping[str, int], *, bounded: bool = True
) -> dict[str, int]:
    """Return the number of samples per stratum; at least 2 if the stratum has 2 candidates.

    Raises DataError if the total is too small for the minimum per stratum, or if `counts` does not cover every reach.

    Args:
        strata: all strata, those of one reach consecutive.
        total: total number of samples; ignored by "fixed".
        method: "proportional" to the candidates; "neyman", to candidates x standard deviation of the prior ISA
            fraction; "equal" per reach, and within a reach proportional to the square root of the candidates; "fixed".
        counts: for "fixed", samples per stratum, or per reach (then distributed as in "equal").
        bounded: limit each stratum to its candidates.
    """
    if method == "fixed":
        return _fixed(strata, counts, bounded)
    if method == "equal":
        reaches = list(dict.fromkeys(stratum.reach for stratum in strata))
        totals = apportion(total, [1.0] * len(reaches), [0] * len(reaches), [total] * len(reaches))
        parts = [
            _by_root([stratum for stratum in strata if stratum.reach == reach], number, bounded)
            for reach, number in zip(reaches, totals)
        ]
        return {name: number for part in parts for name, number in part.items()}
    if method == "neyman":
        weights = [stratum.candidates * max(stratum.prior_std, NEYMAN_FLOOR) for stratum in strata]
    else:
        weights = [float(stratum.candidates) for stratum in strata]
    return _by_weight(strata, total, weights, bounded)


def _fixed(strata: Sequence[Stratum], counts: Mapping[str, int], bounded: bool) -> dict[str, int]:
    names = {stratum.name for stratum in strata} | {stratum.reach for stratum in strata}
    if unexpected := sorted(set(counts) - names):
        raise DataError(
            f"dataset.counts contains {', '.join(unexpected)}; expected strata or reaches: {', '.join(sorted(names))}"
        )
    out: dict[str, int] = {}
    for reach in dict.fromkeys(stratum.reach for stratum in strata):
        in_reach = [stratum for stratum in strata if stratum.reach == reach]
        counted = [stratum for stratum in in_reach if stratum.name in counts and stratum.name != reach]
        if (reach in counts) == bool(counted):
            raise DataError(f"dataset.counts must contain either reach {reach} or its strata, not both or neither")
        if not counted:
            out |= _by_root(in_reach, counts[reach], bounded)
            continue
        if missing := [stratum.name for stratum in in_reach if stratum not in counted]:
            raise DataError(
                f"dataset.counts lacks {', '.join(missing)}; add a count of at least {MIN_SAMPLES} for each"
            )
        for stratum, lower in zip(in_reach, _lower_bounds(in_reach)):
            wanted = max(counts[stratum.name], lower)
            out[stratum.name] = min(wanted, stratum.candidates) if bounded else wanted
    return out


def _by_root(strata: Sequence[Stratum], total: int, bounded: bool) -> dict[str, int]:
    return _by_weight(strata, total, [math.sqrt(stratum.candidates) for stratum in strata], bounded)


def _by_weight(strata: Sequence[Stratum], total: int, weights: Sequence[float], bounded: bool) -> dict[str, int]:
    low = _lower_bounds(strata)
    if total < sum(low):
        raise DataError(
            f"{total} samples are fewer than {MIN_SAMPLES} per stratum for "
            f"{', '.join(stratum.name for stratum in strata)}; "
            "raise dataset.count or reduce the number of dataset.prior_density.classes"
        )
    high = [stratum.candidates if bounded else max(total, MIN_SAMPLES) for stratum in strata]
    return dict(zip([stratum.name for stratum in strata], apportion(total, weights, low, high)))


def _lower_bounds(strata: Sequence[Stratum]) -> list[int]:
    return [min(MIN_SAMPLES, stratum.candidates) for stratum in strata]
