"""Assignment of blocks to the splits train, validation and test."""

from collections.abc import Mapping

import numpy as np

from jointseg.dataset.contract import SPLITS
from jointseg.runtime.errors import DataError

_PARTS = 1_000_000


def assign_blocks(
    chips: Mapping[str, tuple[int, ...]], fractions: Mapping[str, float], rng: np.random.Generator
) -> dict[str, str]:
    """Return the split of every block; every block has the same probability of being a test block, the test fraction.

    Blocks are sorted by their chips of the densest class, then of the next (`chips`, densest first), with ties in
    random order. A systematic sample with a random start is the test split, so that splits approximate their fractions
    class by class. The validation split is a systematic sample of the remaining blocks. Each split with a fraction gets
    at least one block; raises DataError if there are fewer blocks than such splits. The fractions add up to 1.
    """
    wanted = [split for split in SPLITS if fractions[split] > 0]
    if len(chips) < len(wanted):
        raise DataError(f"{len(chips)} blocks contain chips, but {len(wanted)} splits need one each; lower block_m")
    names = sorted(chips)
    order = [names[i] for i in rng.permutation(len(names))]
    order.sort(key=lambda block: chips[block], reverse=True)
    out = dict.fromkeys(order, "train")
    remainder, open_ = 1.0, order
    for split, reserved in (("test", len(wanted) - 1), ("validation", 1)):
        if fractions[split] > 0:
            selected = _systematic_sample(len(open_), fractions[split] / remainder, reserved, rng)
            out |= {block: split for block, hit in zip(open_, selected) if hit}
            open_ = [block for block, hit in zip(open_, selected) if not hit]
            remainder -= fractions[split]
    return out


def _systematic_sample(number: int, fraction: float, reserved: int, rng: np.random.Generator) -> np.ndarray:
    """Return bool [number] with equal probabilities; at least one is true, and at least `reserved` are false."""
    total = number * _PARTS
    step = min(max(round(fraction * _PARTS) * number, _PARTS), (number - reserved) * _PARTS)
    passed = (int(rng.integers(total)) + step * np.arange(number + 1)) // total
    return np.diff(passed) > 0
