"""Step functions of the rules."""

import importlib
from typing import Any

# Module of each rule; it contains a function with the name of the rule.
STEPS = {
    "synthetic": "synthetic.scene",
    "label_points": "synthetic.label_points",
    "reaches": "area.study_area",
    "study_area": "area.study_area",
    "reach_grid": "area.tiles",
    "grid": "area.tiles",
    "scenes": "sentinel2.scenes",
    "composite": "sentinel2.composite",
    "composite_quality": "sentinel2.composite_quality",
    "prior_density": "dataset.prior_density",
    "samples": "dataset.sampling",
    "deliveries": "dataset.deliveries",
    "pairing": "dataset.pairing",
    "labels": "dataset.labels",
    "chips": "dataset.chips",
    "label_agreement": "dataset.label_agreement",
    "dataset": "dataset.collection",
    "superres_stage1": "training.superres",
    "superres_stage2": "training.superres",
    "superres_adversarial": "training.adversarial",
    "superres_chips": "training.superres_chips",
    "segmentation": "training.segmentation",
    "joint": "training.joint",
    "textures": "textures.chips",
    "ablation_bands": "ablation.band_subset",
    "ablation_generator": "ablation.generators",
    "ablation_variant": "ablation.variant",
    "ablation": "ablation.summary",
    "predict": "inference.predict",
    "predict_chips": "inference.predict_chips",
    "map_chips": "inference.map_chips",
    "preview": "inference.preview",
    "mosaic": "inference.mosaic",
    "product_mosaic": "accuracy.reference_products",
    "product_chips": "accuracy.reference_products",
    "assess": "accuracy.assess",
    "compare_products": "accuracy.compare_products",
    "change_sample": "accuracy.change_sample",
    "temporal_consistency": "accuracy.temporal_consistency",
    "growth": "accuracy.growth",
    "report": "report.page",
    "release": "provenance.release",
}


def module(rule: str) -> str:
    """Return the full name of the module that contains the step function of a rule."""
    return f"jointseg.{STEPS[rule]}"


def run(snakemake: Any) -> None:
    """Run the step function of a Snakemake job, and write the job's manifest."""
    from jointseg.provenance.job_record import run_job
    from jointseg.provenance.manifest import rule_of
    from jointseg.runtime import object_store

    object_store.enter_local_copy()
    # A workflow that imports this one as a module may rename its rules.
    snakemake.rule = rule_of(object_store.workflow_path(snakemake.output.manifest))
    run_job(snakemake, getattr(importlib.import_module(module(snakemake.rule)), snakemake.rule))
