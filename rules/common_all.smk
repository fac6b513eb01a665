# All outputs that the config enables, for the targets `report`, `release` and `all`.


def previews(wildcards):
    return expand(f"{R}/previews/{C.map_year}/{{tile}}.png", tile=preview_tiles())


def report_inputs(wildcards):
    """Return the inputs of the report that this run has."""
    inputs = {
        "composites": composites(C.map_year, tile_ids()),
        "isa": [path for year in C.years for path in isa_maps(year, tile_ids(year=year))],
        "previews": previews(wildcards),
        "quality_tables": expand_outputs(rules.composite_quality.output.table, year=C.years),
        "quality_figures": expand_outputs(rules.composite_quality.output.figure, year=C.years),
        "examples": [path for path in C.report.examples if object_store.exists(path)],
    }
    if HAS_COMPARISON:
        inputs |= {
            "product_comparisons": expand_outputs(rules.compare_products.output.table, city=CITIES),
            "comparison_pictures": expand_outputs(rules.compare_products.output.maps, city=CITIES),
        }
    if HAS_DATASET:
        inputs |= {
            "index": rules.dataset.output.index,
            "samples": rules.samples.output.samples,
            "study_area": rules.reaches.output.outlines,
            "agreements": expand_outputs(rules.label_agreement.output.table, reach=REACHES),
            "chips": rules.dataset.input.chips,
            "predictions": rules.assess.input.predictions,
            "images": expand_outputs(rules.superres_chips.output.images, method=METHODS),
            "products": rules.assess.input.products,
            "accuracy": rules.assess.output.table,
            "paired": rules.assess.output.paired,
            "domains": rules.assess.output.domains,
            "histories": [
                *expand(f"{R}/superres/{{stage}}.csv", stage=["stage1", "stage2", "adversarial"]),
                *expand(f"{R}/segmentation/{{method}}.csv", method=METHODS),
                *([rules.joint.output.history] if C.joint is not None else []),
            ],
            "panels": [
                *expand(f"{R}/superres/{{stage}}.png", stage=["stage1", "stage2", "adversarial"]),
                *expand(f"{R}/segmentation/{{method}}.png", method=METHODS),
                *([rules.joint.output.panel] if C.joint is not None else []),
            ],
        }
    return inputs


def all_manifests():
    """Return the manifests of all jobs except the report and the release."""
    jobs = ["reaches", "study_area", "grid", "growth"]
    jobs += [f"mosaic/{year}/{city}" for year in C.years for city in CITIES]
    jobs += [f"composite_quality/{year}" for year in C.years]
    jobs += [f"change_sample/{city}" for city in CITIES] if HAS_POINTS else []
    jobs += [f"label_points/{city}" for city in CITIES] if HAS_POINTS and C.synthetic is not None else []
    jobs += [f"compare_products/{city}" for city in CITIES] if HAS_COMPARISON else []
    jobs += [f"temporal_consistency/{city}" for city in CITIES] if C.accuracy.temporal_consistency is not None else []
    jobs += sorted({f"product_mosaic/{name}/{available_year(name, year)}" for name in PRODUCTS for year in C.years})
    for year in C.years:
        jobs += [f"{rule}/{year}/{tile}" for rule in ("scenes", "composite", "predict") for tile in tile_ids(year=year)]
    jobs += [f"preview/{C.map_year}/{tile}" for tile in preview_tiles()]
    if C.synthetic is not None:
        jobs += ["synthetic"]
    if HAS_DATASET:
        jobs += ["reach_grid", "samples", "deliveries", "dataset", "assess"]
        jobs += ["superres_stage1", "superres_stage2", "superres_adversarial"]
        jobs += ["joint"] if C.joint is not None else []
        if C.dataset.prior_density:
            prior = C.dataset.prior_density.product
            jobs += ["prior_density", f"product_mosaic/{prior}/{available_year(prior, C.map_year)}"]
        jobs += [f"{rule}/{reach}" for rule in ("pairing", "labels", "chips", "label_agreement") for reach in REACHES]
        jobs += [f"{rule}/{method}" for rule in ("superres_chips", "segmentation") for method in METHODS]
        jobs += ["map_chips/superres", *(f"predict_chips/{method}" for method in C.accuracy.baselines)]
        jobs += [f"product_chips/{product}" for product in PRODUCTS]
    return [manifest(job) for job in dict.fromkeys(jobs)]


def all_outputs(wildcards):
    """Return all outputs, so that Snakemake rebuilds missing ones and what depends on them."""
    ids_by_year = {year: tile_ids(year=year) for year in C.years}
    kinds = ("sentinel2/scenes/{}/{}.json", "sentinel2/composites/{}/{}.tif", "isa/{}/{}.tif")
    outputs = [f"{R}/{kind.format(year, tile)}" for kind in kinds for year, ids in ids_by_year.items() for tile in ids]
    outputs += [path for year, ids in ids_by_year.items() for path in merged_images(year, ids).get("merged", [])]
    outputs += expand_outputs(rules.composite_quality.output, year=C.years)
    outputs += [*rules.growth.input.mosaics, *rules.growth.output, *previews(wildcards)]
    if HAS_COMPARISON:
        outputs += [*all_product_mosaics(), *expand_outputs(rules.compare_products.output, city=CITIES)]
    outputs += consistent_maps(wildcards).get("filtered", [])
    if HAS_DATASET:
        trainings = ("superres_stage1", "superres_stage2", "superres_adversarial")
        for step in ("samples", "deliveries", "dataset", *trainings, "assess"):
            outputs += getattr(rules, step).output
        outputs += [rules.prior_density.input.mosaics, *rules.prior_density.output] if C.dataset.prior_density else []
        outputs += expand_outputs(rules.label_agreement.output, reach=REACHES)
        outputs += [*rules.dataset.input.chips, *rules.assess.input.predictions, *rules.assess.input.products]
        outputs += expand_outputs(rules.segmentation.output, method=METHODS)
        outputs += rules.joint.output if C.joint is not None else []
    return outputs
