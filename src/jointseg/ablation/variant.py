"""Step `ablation_variant`: train one variant with one seed and score it on the test chips."""

from pathlib import Path
from typing import Any

import pandas as pd

from jointseg.ablation.mapping import probability_histogram
from jointseg.ablation.scoring import score
from jointseg.ablation.trainings import Schedule, VariantTraining
from jointseg.accuracy.assess import write_csv
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
    image_scores: Path,
    examples: Path,
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
    """Train the segmenter of a variant and score its maps and images.

    The decision threshold maximises F1 on the validation chips, as in the main workflow.

    Args:
        index, statistics, chips: of the dataset; the statistics select the bands of the variant.
        trained: folder to write, with checkpoints, history.csv and panel.png.
        counts: CSV to write, pixel counts by chip, reference and zone.
        image_scores: CSV to write, image scores of each test chip; empty for a variant without image.
        examples: folder to write, images and maps of some test chips.
        schedule: attributes of `Schedule`.
        work: folder to resume the training from; removed at the end.
        truth: folder of {year}/{reach}.tif, if there is a true map.
    """
    seed = int(seed)  # a wildcard of the rule
    make_deterministic(seed, threads)
    settings = Schedule(**schedule)
    training_data = generators.TrainingData(index, statistics, chips, settings.training["jitter"])
    test_chips = Patches(index, Path(chips[0]).parent, "test", training_data.normalisation)
    state = Path(work)
    state.mkdir(parents=True, exist_ok=True)
    with atomic_write(trained) as output:
        output.mkdir()
        training = VariantTraining(variant, index, statistics, chips, start, settings, seed, threads, state, output)
        predictor = training.run(training_data)
    validation = training_data.validation
    threshold = best_threshold(probability_histogram(validation, predictor(validation)))
    scores = score(
        test_chips, predictor(test_chips), threshold, training_data.normalisation, chips, truth, year, examples
    )
    for table, path in zip(scores, (counts, image_scores)):
        write_csv(table, path)
    remove_path(state)
    total: pd.DataFrame = scores[0].query("zone == 'all'").groupby("reference")[["tp", "fp", "fn"]].sum()
    f1 = 2 * total["tp"] / (2 * total["tp"] + total["fp"] + total["fn"])
    return {
        "data": data,
        "variant": variant,
        "threshold": threshold,
        "f1": {name: round(value, 6) for name, value in f1.items()},
    }
