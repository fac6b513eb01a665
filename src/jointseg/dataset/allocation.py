"""How many samples each stratum gets: proportional, Neyman, equal or fixed, within what there is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jointseg.runtime.errors import DataError

ALLOCATIONS = ("proportional", "neyman", "equal", "fixed")
MIN_SAMPLES = 2
# Smallest standard deviation of the share of ISA that a stratum is taken to have: the prior misses lanes and single
# houses, so that ground which it calls empty is not as even as it says.
NEYMAN_FLOOR = 0.05


@dataclass(frozen=True)
class Stratum:
    """A stratum with its candidates and the standard deviation of the prior share among them."""

    name: str
    reach: str
    number: int
    spread: float


def apportion(total: int, weights: Sequence[float], low: Sequence[int], high: Sequence[int]) -> list[int]:
    """Whole numbers near proportional to weights, between bounds, that add up to `total` as far as the bounds allow.

    The real-valued shares clip(t x weight, low, high) with one t for all; then largest remainders. Sums and roots alone,
    taken in order, so that every machine finds the same.
    """
    total = min(max(total, sum(low)), sum(high))

    def at(t: float) -> list[float]:
        return [min(max(t * weight, floor), roof) for weight, floor, roof in zip(weights, low, high)]

    below, above = 0.0, (max(high) + 1) / min((weight for weight in weights if weight > 0), default=1.0)
    for _ in range(200):
        middle = (below + above) / 2
        if math.fsum(at(middle)) < total:
            below = middle
        else:
            above = middle
    shares = at(above)
    out = [math.floor(share + 1e-9) for share in shares]
    order = sorted(range(len(out)), key=lambda i: (round(out[i] - shares[i], 6), i))
    while missing := total - sum(out):
        open_ = [i for i in order if out[i] < high[i]]
        for i in open_[:missing]:
            out[i] += 1
    return out


def allocate(
    strata: Sequence[Stratum], total: int, how: str, counts: Mapping[str, int], *, bounded: bool = True
) -> dict[str, int]:
    """Samples of every stratum; at least 2 where there are 2 candidates.

    Args:
        strata: all strata, those of a reach together.
        total: samples in all; not read by "fixed".
        how: "proportional" to the candidates; "neyman", to candidates x standard deviation of the prior share; "equal"
            a reach and within it proportional to the root of the candidates; "fixed".
        counts: for "fixed", samples of a stratum, or of a reach (then shared as in "equal").
        bounded: never more than there are candidates; else what is wanted.

    Raises DataError when the total does not give every stratum its minimum, or counts do not name every reach.
    """
    if how == "fixed":
        return _fixed(strata, counts, bounded)
    if how == "equal":
        reaches = list(dict.fromkeys(stratum.reach for stratum in strata))
        share = apportion(total, [1.0] * len(reaches), [0] * len(reaches), [total] * len(reaches))
        parts = [
            _by_root([stratum for stratum in strata if stratum.reach == reach], number, bounded)
            for reach, number in zip(reaches, share)
        ]
        return {name: number for part in parts for name, number in part.items()}
    if how == "neyman":
        weights = [stratum.number * max(stratum.spread, NEYMAN_FLOOR) for stratum in strata]
    else:
        weights = [float(stratum.number) for stratum in strata]
    return _shared(strata, total, weights, bounded)


def _fixed(strata: Sequence[Stratum], counts: Mapping[str, int], bounded: bool) -> dict[str, int]:
    known = {stratum.name for stratum in strata} | {stratum.reach for stratum in strata}
    if strange := sorted(set(counts) - known):
        raise DataError(f"dataset.counts names {', '.join(strange)}; strata and reaches are {', '.join(sorted(known))}")
    out: dict[str, int] = {}
    for reach in dict.fromkeys(stratum.reach for stratum in strata):
        mine = [stratum for stratum in strata if stratum.reach == reach]
        alone = [stratum for stratum in mine if stratum.name in counts and stratum.name != reach]
        if (reach in counts) == bool(alone):
            raise DataError(f"dataset.counts must name either reach {reach} or its strata; correct it")
        if not alone:
            out |= _by_root(mine, counts[reach], bounded)
            continue
        if missing := [stratum.name for stratum in mine if stratum not in alone]:
            raise DataError(f"dataset.counts does not name {', '.join(missing)}; add a count of at least {MIN_SAMPLES}")
        for stratum, floor in zip(mine, _low(mine)):
            wanted = max(counts[stratum.name], floor)
            out[stratum.name] = min(wanted, stratum.number) if bounded else wanted
    return out


def _by_root(strata: Sequence[Stratum], total: int, bounded: bool) -> dict[str, int]:
    return _shared(strata, total, [math.sqrt(stratum.number) for stratum in strata], bounded)


def _shared(strata: Sequence[Stratum], total: int, weights: Sequence[float], bounded: bool) -> dict[str, int]:
    low = _low(strata)
    if total < sum(low):
        raise DataError(
            f"{total} points leave fewer than {MIN_SAMPLES} for a stratum of {', '.join(each.name for each in strata)};"
            " raise dataset.count or take fewer dataset.density.classes"
        )
    high = [stratum.number if bounded else max(total, MIN_SAMPLES) for stratum in strata]
    return dict(zip([stratum.name for stratum in strata], apportion(total, weights, low, high)))


def _low(strata: Sequence[Stratum]) -> list[int]:
    return [min(MIN_SAMPLES, stratum.number) for stratum in strata]
