"""Step `temporal_consistency`: a hidden Markov model over a city's maps of all years; the maps themselves stay unchanged."""

from contextlib import ExitStack
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from jointseg.accuracy.block_counts import Block, common_grid, map_blocks
from jointseg.accuracy.cluster_estimators import NODATA
from jointseg.raster import cog
from jointseg.runtime.errors import DataError

MAX_YEARS = 8  # there are 3^8 sequences; each further year multiplies the computing time by six
_CLASSES = (0, 1, NODATA)


def temporal_consistency(
    *, mosaics: list[Path], filtered: list[Path], city: str, years: list[int], model: dict[str, float], threads: int
) -> dict[str, Any]:
    """Write, for every year, the most likely class sequence of each pixel given the maps of all years.

    Nodata stays nodata: the model infers a class there only to relate the other years. `mosaics` are {year}/{city}.tif,
    1 m, 0/1/255, on one grid, in the ascending order of `years`, like the output COGs `filtered`. `model` has the
    keyword arguments of `likeliest_sequences`.
    """
    grid = common_grid(mosaics)
    table = likeliest_sequences(years, **model)
    changed, valid = np.zeros(len(years), np.int64), np.zeros(len(years), np.int64)

    def filter_block(block: Block) -> tuple[Block, np.ndarray]:
        digits = [np.minimum(values, 2) for values in block.values]  # 255 becomes 2
        code = np.zeros(digits[0].shape, np.uint16)  # large enough for MAX_YEARS digits
        for digit in digits:
            code = code * np.uint16(3) + digit
        return block, table[code]

    layout: dict[str, Any] = {"shape": grid.shape, "crs": f"EPSG:{grid.epsg}", "transform": grid.transform}
    layout |= {"count": 1, "dtype": "uint8", "nodata": NODATA, "descriptions": ["isa"]}
    with ExitStack() as stack:
        writers = [stack.enter_context(cog.open_writer(path, **layout)) for path in filtered]
        for block, sequences in map_blocks(mosaics, filter_block, threads, f"temporal consistency of {city}"):
            for index, (writer, values) in enumerate(zip(writers, block.values)):
                new = np.ascontiguousarray(sequences[..., index])
                writer.write(new[None], block.row, block.col)
                changed[index] += np.count_nonzero(new != values)
                valid[index] += np.count_nonzero(values != NODATA)
    return {"changed_pixels": dict(zip(years, changed.tolist())), "valid_pixels": dict(zip(years, valid.tolist()))}


def likeliest_sequences(
    years: list[int],
    *,
    gain_rate: float,
    loss_rate: float,
    omission_rate: float,
    commission_rate: float,
    initial_fraction: float,
) -> np.ndarray:
    """Return the most likely true class sequence for each of the 3^n mapped sequences, uint8 [3^n, n]; 255 where mapped
    255.

    The hidden Markov model has two states. A pixel becomes ISA with probability `gain_rate` per year and non-ISA with
    `loss_rate`, both compounded over the years between two maps; `initial_fraction` of the area is ISA in the first
    year. A map omits ISA with probability `omission_rate` and commits it with `commission_rate`; nodata has no
    likelihood. The best sequence is that of Viterbi (1967, IEEE Transactions on Information Theory 13, 260-269), found
    by enumeration, since there are few sequences. Of equally likely ones, the sequence with most agreement with the
    maps is returned. Raises DataError for more than MAX_YEARS years.
    """
    if len(years) > MAX_YEARS:
        raise DataError(
            f"temporal consistency supports up to {MAX_YEARS} years, not {len(years)}; remove accuracy.temporal_consistency"
        )
    states = list(product((0, 1), repeat=len(years)))
    initial = {0: 1 - initial_fraction, 1: initial_fraction}
    emission = {(0, 0): 1 - commission_rate, (0, 1): commission_rate, (1, 0): omission_rate, (1, 1): 1 - omission_rate}
    transitions = [_transition(gain_rate, loss_rate, after - before) for before, after in pairwise(years)]
    prior = np.array(
        [
            initial[sequence[0]] * np.prod([matrix[a, b] for matrix, (a, b) in zip(transitions, pairwise(sequence))])
            for sequence in states
        ]
    )
    out = np.empty((3 ** len(years), len(years)), np.uint8)
    for number, mapped in enumerate(product(_CLASSES, repeat=len(years))):
        likelihood = [
            np.prod([emission[state, value] for state, value in zip(sequence, mapped) if value != NODATA])
            for sequence in states
        ]
        agreement = [sum(state == value for state, value in zip(sequence, mapped)) for sequence in states]
        posterior = prior * np.array(likelihood)
        best = max(range(len(states)), key=lambda i: (round(posterior[i] / posterior.max(), 12), agreement[i]))
        out[number] = [NODATA if value == NODATA else state for state, value in zip(states[best], mapped)]
    return out


def _transition(gain: float, loss: float, years: int) -> np.ndarray:
    """Return the probabilities of [state before, state after] over a number of years."""
    yearly = np.array([[1 - gain, gain], [loss, 1 - loss]])
    return np.linalg.matrix_power(yearly, years)
