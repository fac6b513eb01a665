"""Decision threshold of the ISA probability: counts by probability, F1, IoU and the best threshold."""

import numpy as np

THRESHOLDS = 99  # 0.01, 0.02 ... 0.99


def count_by_probability(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return int64 [2, 100]: pixels labelled 0 and 1 by ISA probability in hundredths; both arrays are [h, w]."""
    hundredth = np.minimum((probability * (THRESHOLDS + 1)).astype(np.int64), THRESHOLDS)
    return np.stack([np.bincount(hundredth[label == value], minlength=THRESHOLDS + 1) for value in (0, 1)])


def f1_iou(counts: np.ndarray, threshold: float) -> tuple[float, float]:
    """Return F1 and IoU of ISA at a threshold, a multiple of 0.01, from the counts of `count_by_probability`."""
    index = round(threshold * (THRESHOLDS + 1))
    true_positives, errors = counts[1, index:].sum(), counts[0, index:].sum() + counts[1, :index].sum()
    f1 = 2 * true_positives / max(2 * true_positives + errors, 1)
    return float(f1), float(true_positives / max(true_positives + errors, 1))


def best_threshold(counts: np.ndarray) -> float:
    """Return the multiple of 0.01 with the highest F1; on a tie, the nearest to 0.5."""
    candidates = [step / (THRESHOLDS + 1) for step in range(1, THRESHOLDS + 1)]
    return max(candidates, key=lambda value: (f1_iou(counts, value)[0], -abs(value - 0.5)))
