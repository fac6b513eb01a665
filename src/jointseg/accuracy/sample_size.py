"""How large a sample must be, and how it is shared out to strata."""

import math
from collections.abc import Mapping

import numpy as np

from jointseg.runtime.errors import DataError


def pixels_for_overall(
    shares: Mapping[str, float], users: Mapping[str, float], se: float, total: float = math.inf
) -> int:
    """Pixels for a standard error of the overall accuracy; Olofsson et al. (2014) eq. 13, Cochran (1977) eq. 5.25.

    n = (sum W_i S_i)^2 / (se^2 + sum W_i S_i^2 / N), S_i = sqrt(U_i (1 - U_i)).

    Args:
        shares: of the ground by map class, W_i.
        users: conjectured user's accuracy, U_i.
        se: standard error wanted.
        total: pixels of the population, N.
    """
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise DataError(f"shares of classes sum to {sum(shares.values()):g}; they must sum to 1")
    spread = {name: math.sqrt(users[name] * (1 - users[name])) for name in shares}
    first = sum(share * spread[name] for name, share in shares.items())
    second = sum(share * spread[name] ** 2 for name, share in shares.items())
    return math.ceil(first**2 / (se**2 + second / total))


def clusters_for(units: int, half_width: float, wanted: float) -> int:
    """Clusters that narrow a 95 % interval of -+ half_width, told by `units` of them, to -+ wanted.

    The variance of a mean of clusters falls with their number, if more of the same kind are drawn alike (Cochran 1977,
    section 9A.1): n' = n (half_width / wanted)^2.
    """
    return math.ceil(units * (half_width / wanted) ** 2)


def allocated(sizes: Mapping[str, float], total: int, least: int) -> dict[str, int]:
    """Pixels to draw in each stratum: `least` in each, the rest in proportion to its size; Olofsson et al. (2014) 5.1.2.

    No more than a stratum has; empty strata get none.

    Raises DataError where `least` in each is more than `total`.
    """
    filled = {name: int(size) for name, size in sizes.items() if size > 0}
    first = {name: min(least, size) for name, size in filled.items()}
    rest = total - sum(first.values())
    if rest < 0:
        raise DataError(
            f"{total} points are fewer than {least} in each of {len(filled)} strata; draw more or ask for less"
        )
    exact = np.array([rest * size / sum(filled.values()) for size in filled.values()])
    given = np.floor(exact).astype(int)
    # The largest remainders get what rounding down left over.
    for place in np.argsort(given - exact, kind="stable")[: rest - given.sum()]:
        given[place] += 1
    return {name: min(filled[name], first[name] + int(more)) for name, more in zip(filled, given)}
