"""The generators of the ablation: those of the flow, for a seed and bands of their own, and the single-stage rival."""

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
    """Trains one generator, as the steps of the flow do.

    Args:
        index, statistics, chips: of the dataset; statistics of the bands that the generator is to read.
        data: what they are of, for the log.
        bands: which those are, a key of BANDS.
        checkpoint, history, panel: what to write.
        kind: "stage1", "l1" (stage 2), "adversarial", or "single": one network from 10 m to 1 m, with the learning rate
            of stage 2 for as many steps as both stages.
        model, stage1, stage2, adversarial: the preset.
        state: file of the half-done training.
        start: the checkpoint that it goes on from, see variants.START.
        perceptual_weights: file of the perceptual backbone, where it needs one.

    Returns:
        Facts for the manifest: the last validation.
    """
    given: dict[str, Any] = {
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
        return superres_stage1(**given, training=stage1)
    if kind == "single":
        steps = stage1["steps"] + stage2["steps"]
        return superres_single(**given, training={**stage2, "steps": steps, "stage1_weight": 0.0})
    assert start is not None
    if kind == "l1":
        return superres_stage2(**given, training=stage2, stage1=start)
    critics = Path(state).with_name("discriminators.safetensors")  # nothing is trained from them
    more: dict[str, Any] = {"stage2": start, "perceptual_weights": perceptual_weights, "discriminators": critics}
    facts = superres_adversarial(**given, **more, training=adversarial)
    remove_path(critics)
    return facts
