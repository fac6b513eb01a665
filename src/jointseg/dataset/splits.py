"""Blocks of the ground are dealt whole to train, validation and test."""

from collections.abc import Mapping

import numpy as np

from jointseg.dataset.contract import SPLITS
from jointseg.runtime.errors import DataError

_PARTS = 1_000_000


def assign_blocks(
    chips: Mapping[str, tuple[int, ...]], shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, str]:
    """The split of every block: each block goes to test with one and the same probability, the test share.

    Blocks are put in order by their chips of the densest class, then of the next, ties at random, and every so-manyth is
    taken from a random start (systematic sampling): splits come near their shares, class by class. Validation is taken
    from the rest in the same way. Where a share is less than a block, it is raised to one.

    Args:
        chips: for every block its chips by class, the densest class first.
        shares: share of every split; they add up to 1.

    Raises DataError when there are fewer blocks than splits with a share.
    """
    wanted = [split for split in SPLITS if shares[split] > 0]
    if len(chips) < len(wanted):
        raise DataError(f"{len(chips)} blocks hold chips but {len(wanted)} splits want one; lower block_m")
    names = sorted(chips)
    order = [names[i] for i in rng.permutation(len(names))]
    order.sort(key=lambda block: chips[block], reverse=True)
    out = dict.fromkeys(order, "train")
    left, open_ = 1.0, order
    for split, others in (("test", len(wanted) - 1), ("validation", 1)):
        if shares[split] > 0:
            taken = _every(len(open_), shares[split] / left, others, rng)
            out |= {block: split for block, hit in zip(open_, taken) if hit}
            open_ = [block for block, hit in zip(open_, taken) if not hit]
            left -= shares[split]
    return out


def _every(number: int, share: float, others: int, rng: np.random.Generator) -> np.ndarray:
    """Systematic sample, bool [number]: each with the same probability, at least one, and `others` left at least."""
    whole = number * _PARTS
    step = min(max(round(share * _PARTS) * number, _PARTS), (number - others) * _PARTS)
    passed = (int(rng.integers(whole)) + step * np.arange(number + 1)) // whole
    return np.diff(passed) > 0
