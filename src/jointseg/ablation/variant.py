"""One variant with one seed: trained, then scored on every test chip."""

from pathlib import Path
from typing import Any

import pandas as pd

from jointseg.ablation.mapping import probability_histogram
from jointseg.ablation.scoring import score
from jointseg.ablation.trainings import Schedule, VariantTraining
from jointseg.accuracy.assess import save
from jointseg.runtime.files import atomic_write, remove_path
from jointseg.training import generator as generators
from jointseg.training.determinism import make_deterministic
from jointseg.training.patches import Patches
from jointseg.training.threshold import best_threshold


def ablation_variant(
    *,
    index: Path,
    statistics: Path,
    chips: list[Path],
    trained: Path,
    counts: Path,
    likeness: Path,
    pictures: Path,
    data: str,
    variant: str,
    schedule: dict[str, Any],
    seed: int | str,
    threads: int,
    work: str,
    year: int,
    start: Path | None = None,
    truth: Path | None = None,
) -> dict[str, Any]:
    """Trains the segmenter of an variant and scores its maps and images on the test chips.

    The decision threshold is the one with the best F1 on the validation chips, as in the flow.

    Args:
        index, statistics, chips: of the dataset; statistics of the variant's bands.
        trained: folder to make: checkpoints, history.csv, panel.png.
        counts: CSV to write, pixel counts by chip, reference and zone.
        likeness: CSV to write, the scores of the image of every test chip; empty for an variant without an image.
        pictures: folder to make, images and maps of some test chips.
        data: what it is trained on, for the manifest.
        variant: a key of VARIANTS.
        schedule: the attributes of `Schedule`.
        work: folder of the half-done training and its images; removed at the end.
        year: of the truth.
        start: checkpoint of the generator.
        truth: folder of {year}/{reach}.tif, where the true map is known.

    Returns:
        Facts for the manifest.
    """
    seed = int(seed)  # a wildcard of the rule
    make_deterministic(seed, threads)
    plan = Schedule(**schedule)
    given = generators.TrainingData(index, statistics, chips, plan.training["jitter"])
    tested = Patches(index, Path(chips[0]).parent, "test", given.normalisation)
    begun = Path(work)
    begun.mkdir(parents=True, exist_ok=True)
    with atomic_write(trained) as made:
        made.mkdir()
        mapper_of = VariantTraining(variant, index, statistics, chips, start, plan, seed, threads, begun, made).run(
            given
        )
    threshold = best_threshold(probability_histogram(given.validation, mapper_of(given.validation)))
    found = score(tested, mapper_of(tested), threshold, given.normalisation, chips, truth, year, pictures)
    for table, path in zip(found, (counts, likeness)):
        save(table, path)
    remove_path(begun)
    whole: pd.DataFrame = found[0].query("zone == 'all'").groupby("reference")[["tp", "fp", "fn"]].sum()
    f1 = 2 * whole["tp"] / (2 * whole["tp"] + whole["fp"] + whole["fn"])
    return {
        "data": data,
        "variant": variant,
        "threshold": threshold,
        "f1": {name: round(value, 6) for name, value in f1.items()},
    }
