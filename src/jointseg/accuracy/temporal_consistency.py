"""Step `consistent`: a city's maps over the years made to agree with each other, by a hidden Markov model; the maps stay."""

from contextlib import ExitStack
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from jointseg.accuracy.block_counts import Block, common_grid, looked_at
from jointseg.accuracy.cluster_estimators import UNKNOWN
from jointseg.raster import cog
from jointseg.runtime.errors import DataError

MOST_YEARS = 8  # their courses are 3^8, and trying them all takes six times as long for each year more
_CLASSES = (0, 1, UNKNOWN)


def temporal_consistency(
    *, mosaics: list[Path], filtered: list[Path], city: str, years: list[int], model: dict[str, float], threads: int
) -> dict[str, Any]:
    """Writes, for every year, the likeliest course of each pixel given what all years' maps say of it.

    What a map does not know stays unknown: the model bridges it for the other years' sake, but does not claim to have seen.

    Args:
        mosaics: {year}/{city}.tif, 1 m, 0/1/255, of one grid, in the order of `years`.
        filtered: as many COGs to make.
        city: for messages.
        years: ascending.
        model: see `courses`.
        threads: blocks that are looked at side by side.

    Returns:
        Facts for the manifest: pixels whose class changed by year, of those known.
    """
    place = common_grid(mosaics)
    table = courses(years, **model)
    changed, known = np.zeros(len(years), np.int64), np.zeros(len(years), np.int64)

    def look(block: Block) -> tuple[Block, np.ndarray]:
        digits = [np.minimum(values, 2) for values in block.values]  # 255 becomes 2
        code = np.zeros(digits[0].shape, np.uint16)  # holds MOST_YEARS digits
        for digit in digits:
            code = code * np.uint16(3) + digit
        return block, table[code]

    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                cog.Writer(
                    path,
                    shape=place.shape,
                    count=1,
                    dtype="uint8",
                    crs=f"EPSG:{place.epsg}",
                    transform=place.transform,
                    nodata=UNKNOWN,
                    descriptions=["isa"],
                )
            )
            for path in filtered
        ]
        for block, made in looked_at(mosaics, look, threads, f"consistent years of {city}"):
            for at, (writer, values) in enumerate(zip(writers, block.values)):
                new = np.ascontiguousarray(made[..., at])
                writer.write(new[None], block.row, block.col)
                changed[at] += np.count_nonzero(new != values)
                known[at] += np.count_nonzero(values != UNKNOWN)
    return {"changed": dict(zip(years, changed.tolist())), "known": dict(zip(years, known.tolist()))}


def courses(
    years: list[int],
    *,
    gain_rate: float,
    loss_rate: float,
    omission_rate: float,
    commission_rate: float,
    initial_fraction: float,
) -> np.ndarray:
    """The likeliest true classes for each of the 3^n courses that maps can tell, uint8 [3^n, n]; 255 where a map is unknown.

    A hidden Markov model of two states: ground becomes ISA with probability `gain_rate` a year and ceases to be with `loss_rate`, both
    compounded over the years between two maps; a map misses ISA with probability `omission_rate` and sees it where there is none with
    `commission_rate`; what a map does not know says nothing. Viterbi (1967, IEEE Transactions on Information Theory 13, 260-269); the
    courses are few enough to try them all, once. Of courses that are as likely, the one nearest to the maps is taken.

    Args:
        years: ascending.
        gain_rate, loss_rate: a year.
        omission_rate, commission_rate: of a map.
        initial_fraction: of the ground that is ISA in the first year.

    Raises DataError for more than MOST_YEARS years.
    """
    if len(years) > MOST_YEARS:
        raise DataError(
            f"consistency of {len(years)} years is not told; leave accuracy.temporal_consistency out above {MOST_YEARS}"
        )
    states = list(product((0, 1), repeat=len(years)))
    first = {0: 1 - initial_fraction, 1: initial_fraction}
    seen = {(0, 0): 1 - commission_rate, (0, 1): commission_rate, (1, 0): omission_rate, (1, 1): 1 - omission_rate}
    moves = [_moved(gain_rate, loss_rate, after - before) for before, after in pairwise(years)]
    prior = np.array(
        [first[course[0]] * np.prod([move[a, b] for move, (a, b) in zip(moves, pairwise(course))]) for course in states]
    )
    out = np.empty((3 ** len(years), len(years)), np.uint8)
    for number, told in enumerate(product(_CLASSES, repeat=len(years))):
        likelihood = [
            np.prod([seen[state, value] for state, value in zip(course, told) if value != UNKNOWN]) for course in states
        ]
        alike = [sum(state == value for state, value in zip(course, told)) for course in states]
        chance = prior * np.array(likelihood)
        best = max(range(len(states)), key=lambda place: (round(chance[place] / chance.max(), 12), alike[place]))
        out[number] = [UNKNOWN if value == UNKNOWN else state for state, value in zip(states[best], told)]
    return out


def _moved(gain: float, loss: float, span: int) -> np.ndarray:
    """Probabilities of [state before, state after] over some years."""
    yearly = np.array([[1 - gain, gain], [loss, 1 - loss]])
    return np.linalg.matrix_power(yearly, span)
