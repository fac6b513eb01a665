"""Sample size and its allocation to strata."""

import math
from collections.abc import Mapping

import numpy as np

from jointseg.runtime.errors import DataError


def pixels_for_overall_accuracy(
    fractions: Mapping[str, float], users: Mapping[str, float], se: float, total: float = math.inf
) -> int:
    """Return the sample size for a standard error of overall accuracy; Olofsson et al. (2014) eq. 13, Cochran (1977) eq. 5.25.

    n = (sum W_i S_i)^2 / (se^2 + sum W_i S_i^2 / N), S_i = sqrt(U_i (1 - U_i)).

    Args:
        fractions: of the area by map class, W_i.
        users: conjectured user's accuracy, U_i.
        se: target standard error.
        total: number of pixels in the population, N.
    """
    if not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise DataError(f"class fractions sum to {sum(fractions.values()):g}; they must sum to 1")
    spread = {name: math.sqrt(users[name] * (1 - users[name])) for name in fractions}
    first = sum(fraction * spread[name] for name, fraction in fractions.items())
    second = sum(fraction * spread[name] ** 2 for name, fraction in fractions.items())
    return math.ceil(first**2 / (se**2 + second / total))


def clusters_for_half_width(units: int, half_width: float, target: float) -> int:
    """Return the number of clusters that narrows a 95 % interval of -+ half_width, estimated from `units`, to -+ target.

    The variance of a mean of clusters is inversely proportional to their number if all are drawn alike (Cochran 1977,
    section 9A.1): n' = n (half_width / target)^2.
    """
    return math.ceil(units * (half_width / target) ** 2)


def allocate(sizes: Mapping[str, float], total: int, minimum: int) -> dict[str, int]:
    """Allocate sample pixels: `minimum` to each stratum, the rest in proportion to its size; Olofsson et al. (2014)
    5.1.2.

    A stratum gets at most its size; empty strata get none. Raises DataError if `total` is less than `minimum` in each.
    """
    filled = {name: int(size) for name, size in sizes.items() if size > 0}
    first = {name: min(minimum, size) for name, size in filled.items()}
    rest = total - sum(first.values())
    if rest < 0:
        raise DataError(f"{total} points are fewer than {minimum} in each of {len(filled)} strata; increase the number")
    exact = np.array([rest * size / sum(filled.values()) for size in filled.values()])
    extra = np.floor(exact).astype(int)
    # Largest remainder method: the largest remainders get what rounding down left over.
    for stratum in np.argsort(extra - exact, kind="stable")[: rest - extra.sum()]:
        extra[stratum] += 1
    return {name: min(filled[name], first[name] + int(more)) for name, more in zip(filled, extra)}
