"""Rule name -> step function, nothing else."""

import importlib
from typing import Any

STEPS = {
    "rehearsal": "synthetic.deliver",
    "interpret": "synthetic.interpret",
    "reaches": "area.study_area",
    "study_area": "area.study_area",
    "reach_grid": "area.tiles",
    "grid": "area.tiles",
    "scenes": "sentinel2.scenes",
    "composite": "sentinel2.composite",
    "quality": "sentinel2.quality",
    "density": "dataset.density",
    "samples": "dataset.sampling",
    "deliveries": "dataset.deliveries",
    "pairing": "dataset.pairing",
    "labels": "dataset.labels",
    "chips": "dataset.chips",
    "agreement": "dataset.agreement",
    "dataset": "dataset.collection",
    "superres_stage1": "training.superres",
    "superres_stage2": "training.superres",
    "superres_adversarial": "training.adversarial",
    "superres_chips": "training.images",
    "segmentation": "training.segmentation",
    "joint": "training.joint",
    "textures": "textures.deliver",
    "ablation_bands": "ablation.bands",
    "ablation_generator": "ablation.generators",
    "ablation_arm": "ablation.arm",
    "ablation": "ablation.collect",
    "isa": "inference.engine",
    "isa_chips": "inference.chips",
    "map_chips": "inference.cutout",
    "preview": "inference.preview",
    "mosaic": "inference.mosaic",
    "product_mosaic": "accuracy.products",
    "product_chips": "accuracy.products",
    "assess": "accuracy.assess",
    "compare": "accuracy.compare",
    "change_sample": "accuracy.change_sample",
    "consistent": "accuracy.consistency",
    "growth": "accuracy.growth",
    "report": "report.page",
    "release": "provenance.export",
}


def module(rule: str) -> str:
    """Full name of the module that holds a rule's step function."""
    return f"jointseg.{STEPS[rule]}"


def run(snakemake: Any) -> None:
    """Runs the step function of a Snakemake job's rule and writes the job's manifest."""
    from jointseg.provenance.manifest import rule_of
    from jointseg.provenance.record import run_job
    from jointseg.runtime import object_store

    object_store.settle()
    # Where the workflow is a module of another, its rules have other names there.
    snakemake.rule = rule_of(object_store.named(snakemake.output.manifest))
    run_job(snakemake, getattr(importlib.import_module(module(snakemake.rule)), snakemake.rule))
