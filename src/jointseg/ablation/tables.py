"""The ablation as tables: every variant by reach and zone, beside the bilinear baseline and the true image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jointseg.ablation.estimates import difference, estimate_over_seeds, gap_closed
from jointseg.ablation.variants import BASELINE, UPPER_BOUND, VARIANTS
from jointseg.accuracy.assess import ALL
from jointseg.accuracy.cluster_estimators import CELLS, METRICS, Estimate
from jointseg.accuracy.zones import OBJECTS

Run = tuple[str, int]  # variant, seed


class Counts:
    """Pixel counts of all variants and seeds on the same test chips.

    Args:
        files: the counts of each run.
        tested, reaches: of `assess.design`.
    """

    def __init__(self, files: dict[Run, Path], tested: pd.DataFrame, reaches: list[str]) -> None:
        parts = [pd.read_csv(path).assign(variant=variant, seed=seed) for (variant, seed), path in files.items()]
        self._counts = pd.concat(parts).set_index(["reference", "zone", "variant", "seed"]).sort_index()
        self.tested, self._reaches = tested.set_index("sample_id"), reaches
        self.references = list(dict.fromkeys(parts[0]["reference"]))
        self.zones = list(dict.fromkeys(parts[0]["zone"]))
        self.variants = [variant for variant in VARIANTS if variant in {variant for variant, _ in files}]
        self._seeds = {variant: {seed for other, seed in files if other == variant} for variant in self.variants}

    @property
    def reaches(self) -> list[str]:
        """All ground first."""
        return [ALL, *(reach for reach in self._reaches if (self.tested["reach"] == reach).any())]

    def seeds(self, *variants: str) -> list[int]:
        """The seeds that all these variants were trained with."""
        return sorted(set.intersection(*(self._seeds[variant] for variant in variants)))

    def estimate(self, variants: list[str], reference: str, zone: str, reach: str, function: Any) -> Estimate:
        """A function of the totals of some variants over the seeds that they share."""
        chips = self.tested if reach == ALL else self.tested[self.tested["reach"] == reach]
        parts = [
            np.stack(
                [
                    self._counts.loc[(reference, zone, variant, seed)]
                    .set_index("sample_id")
                    .loc[chips.index, list(CELLS)]
                    for seed in self.seeds(*variants)
                ]
            )
            for variant in variants
        ]
        return estimate_over_seeds(parts, chips["weight"].to_numpy(), chips["group"].to_numpy(), function)


def zone_metric(zone: str) -> str:
    """What is told of a zone: F1, and of objects the share found."""
    return "recall" if zone in OBJECTS else "f1"


def accuracy(counts: Counts) -> pd.DataFrame:
    """A row by reference, reach, zone and variant: the metric, its difference to the baseline and the share of the gap."""
    return pd.DataFrame(list(_rows(counts)))


def _rows(counts: Counts) -> Iterator[dict[str, Any]]:
    for reference in counts.references:
        for reach in counts.reaches:
            for zone in counts.zones:
                for variant in counts.variants:
                    yield _row(counts, reference, reach, zone, variant)


def _row(counts: Counts, reference: str, reach: str, zone: str, variant: str) -> dict[str, Any]:
    metric = METRICS[zone_metric(zone)]

    def told(name: str, variants: list[str], function: Any) -> dict[str, float]:
        known = set(variants) <= set(counts.variants) and counts.seeds(*variants)
        found = counts.estimate(variants, reference, zone, reach, function) if known else None
        value, lower, upper = (found.value, found.lower, found.upper) if found else (np.nan, np.nan, np.nan)
        return {name: value, f"{name}_lower": lower, f"{name}_upper": upper}

    chips = counts.tested if reach == ALL else counts.tested[counts.tested["reach"] == reach]
    row: dict[str, Any] = {
        "reference": reference,
        "reach": reach,
        "zone": zone,
        "variant": variant,
        "title": VARIANTS[variant].title,
    }
    row |= {"metric": zone_metric(zone), "seeds": len(counts.seeds(variant)), "chips": len(chips)}
    row |= told("value", [variant], metric)
    row |= told("minus_baseline", [variant, BASELINE], difference(metric)) if variant != BASELINE else {}
    row |= (
        told("gap_closed", [variant, BASELINE, UPPER_BOUND], gap_closed(metric))
        if variant not in (BASELINE, UPPER_BOUND)
        else {}
    )
    return row


def image_scores(files: dict[Run, Path], tested: pd.DataFrame) -> pd.DataFrame:
    """Mean scores of the images by variant over seeds and test chips, weighted as the chips are."""
    rows = []
    weights = tested.set_index("sample_id")["weight"]
    for variant in VARIANTS:
        parts = [pd.read_csv(path) for (name, _), path in files.items() if name == variant and path.stat().st_size > 1]
        if not parts:
            continue
        every = pd.concat(parts)
        weight = every["sample_id"].map(weights)
        means = {}
        for name in every.columns.drop("sample_id"):
            known = every[name].notna()
            means[name] = float(np.average(every.loc[known, name], weights=weight[known])) if known.any() else np.nan
        rows.append({"variant": variant, "title": VARIANTS[variant].title, **means})
    return pd.DataFrame(rows)
