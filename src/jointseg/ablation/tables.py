"""Result tables of the ablation: accuracy of the variants by reach and zone, and quality of their images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jointseg.ablation.estimates import estimate_over_seeds, gap_closed
from jointseg.ablation.variants import BASELINE, UPPER_BOUND, VARIANTS
from jointseg.accuracy.assess import ALL
from jointseg.accuracy.cluster_estimators import CELLS, METRICS, Estimate, Metric, estimate_columns, metric_difference
from jointseg.accuracy.zones import OBJECTS

Run = tuple[str, int]  # variant, seed
MISSING = Estimate(np.nan, np.nan, np.nan, np.nan, 0)


class Counts:
    """Pixel counts of all variants and seeds on the same test chips, from the CSV of each run (see `scoring.score`)."""

    def __init__(self, files: dict[Run, Path], tested: pd.DataFrame, reaches: list[str]) -> None:
        parts = [pd.read_csv(path).assign(variant=variant, seed=seed) for (variant, seed), path in files.items()]
        self._counts = pd.concat(parts).set_index(["reference", "zone", "variant", "seed"]).sort_index()
        self._tested = tested.set_index("sample_id")
        self.reaches = [ALL, *(reach for reach in reaches if (tested["reach"] == reach).any())]
        self.references = list(dict.fromkeys(parts[0]["reference"]))
        self.zones = list(dict.fromkeys(parts[0]["zone"]))
        self.variants = [variant for variant in VARIANTS if variant in {variant for variant, _ in files}]
        self._seeds = {variant: {seed for name, seed in files if name == variant} for variant in self.variants}

    def seeds(self, *variants: str) -> list[int]:
        """Return the seeds that all these variants were trained with."""
        return sorted(set.intersection(*(self._seeds.get(variant, set()) for variant in variants)))

    def chips(self, reach: str) -> pd.DataFrame:
        return self._tested if reach == ALL else self._tested[self._tested["reach"] == reach]

    def estimate(self, variants: list[str], reference: str, zone: str, reach: str, function: Metric) -> Estimate:
        """Estimate a function of the totals of some variants over their common seeds; MISSING without any."""
        chips, seeds = self.chips(reach), self.seeds(*variants)
        if not seeds:
            return MISSING
        parts = []
        for variant in variants:
            tables = [self._counts.loc[(reference, zone, variant, seed)].set_index("sample_id") for seed in seeds]
            parts.append(np.stack([table.loc[chips.index, list(CELLS)] for table in tables]))
        return estimate_over_seeds(parts, chips["weight"].to_numpy(), chips["group"].to_numpy(), function)


def zone_metric(zone: str) -> str:
    """Return the metric of a zone: recall of objects, F1 of areas."""
    return "recall" if zone in OBJECTS else "f1"


def accuracy_table(counts: Counts) -> pd.DataFrame:
    """Return one row per reference, reach, zone and variant.

    Columns are reference, reach, zone, variant, title, metric, seeds, chips; and, each with _lower and _upper of its 95
    % interval, value (of the metric), difference_to_baseline, and gap_closed between BASELINE and UPPER_BOUND.
    """
    return pd.DataFrame(list(_rows(counts)))


def _rows(counts: Counts) -> Iterator[dict[str, Any]]:
    for reference in counts.references:
        for reach in counts.reaches:
            for zone in counts.zones:
                for variant in counts.variants:
                    yield _row(counts, reference, reach, zone, variant)


def _row(counts: Counts, reference: str, reach: str, zone: str, variant: str) -> dict[str, Any]:
    metric = METRICS[zone_metric(zone)]

    def estimate(name: str, variants: list[str], function: Metric) -> dict[str, float]:
        return estimate_columns(name, counts.estimate(variants, reference, zone, reach, function))

    row: dict[str, Any] = {
        "reference": reference,
        "reach": reach,
        "zone": zone,
        "variant": variant,
        "title": VARIANTS[variant].title,
        "metric": zone_metric(zone),
        "seeds": len(counts.seeds(variant)),
        "chips": len(counts.chips(reach)),
    }
    row |= estimate("value", [variant], metric)
    if variant != BASELINE:
        row |= estimate("difference_to_baseline", [variant, BASELINE], metric_difference(metric))
    if variant not in (BASELINE, UPPER_BOUND):
        row |= estimate("gap_closed", [variant, BASELINE, UPPER_BOUND], gap_closed(metric))
    return row


def image_table(files: dict[Run, Path], tested: pd.DataFrame) -> pd.DataFrame:
    """Return the mean image scores of each variant over seeds and test chips, with the weights of the chips."""
    rows = []
    weights = tested.set_index("sample_id")["weight"]
    for variant in VARIANTS:
        parts = [pd.read_csv(path) for (name, _), path in files.items() if name == variant and path.stat().st_size > 1]
        if not parts:
            continue
        scores = pd.concat(parts)
        weight = scores["sample_id"].map(weights)
        means = {}
        for name in scores.columns.drop("sample_id"):
            valid = scores[name].notna()
            means[name] = float(np.average(scores.loc[valid, name], weights=weight[valid])) if valid.any() else np.nan
        rows.append({"variant": variant, "title": VARIANTS[variant].title, **means})
    return pd.DataFrame(rows)
