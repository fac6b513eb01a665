"""Step `ablation_generator`: the generators of the workflow and a single-stage one, for one seed and one set of bands."""

import logging
from pathlib import Path
from typing import Any

from jointseg.ablation.variants import BAND_SETS, GeneratorKind
from jointseg.runtime.files import remove_path
from jointseg.training.adversarial import superres_adversarial
from jointseg.training.superres import superres_single, superres_stage1, superres_stage2

log = logging.getLogger(__name__)


def ablation_generator(
    *,
    index: Path,
    statistics: Path,
    chips: list[Path],
    checkpoint: Path,
    history: Path,
    panel: Path,
    data: str,
    bands: str,
    kind: GeneratorKind,
    model: dict[str, Any],
    stage1: dict[str, Any],
    stage2: dict[str, Any],
    adversarial: dict[str, Any],
    seed: int | str,
    threads: int,
    state: str,
    start: Path | None = None,
    perceptual_weights: Path | None = None,
) -> dict[str, Any]:
    """Train one generator with the steps of the workflow, and return its last validation.

    Args:
        index, statistics, chips: of the dataset; the statistics select the bands that the generator reads.
        bands: key of BAND_SETS, for the log.
        kind: "stage1", "l1" (stage 2), "adversarial", or "single": one network from 10 m to 1 m, trained with the
            settings of stage 2 for the steps of both stages.
        state: file to resume the training from.
        start: checkpoint of the generator of INITIAL_GENERATOR.
        perceptual_weights: weights of the perceptual backbone, for "adversarial".
    """
    common: dict[str, Any] = {
        "index": index,
        "statistics": statistics,
        "chips": chips,
        "checkpoint": checkpoint,
        "history": history,
        "panel": panel,
        "model": model,
        "seed": int(seed),
        "threads": threads,
        "state": state,
    }
    log.info("generator %s of %s, bands %s", kind, data, ", ".join(BAND_SETS[bands]))
    if kind == "stage1":
        return superres_stage1(**common, training=stage1)
    if kind == "single":
        steps = stage1["steps"] + stage2["steps"]
        return superres_single(**common, training={**stage2, "steps": steps, "stage1_weight": 0.0})
    assert start is not None
    if kind == "l1":
        return superres_stage2(**common, training=stage2, stage1=start)
    discriminators = Path(state).with_name("discriminators.safetensors")
    facts = superres_adversarial(
        **common,
        training=adversarial,
        stage2=start,
        perceptual_weights=perceptual_weights,
        discriminators=discriminators,
    )
    remove_path(discriminators)
    return facts
