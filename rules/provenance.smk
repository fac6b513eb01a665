def all_manifests():
    """The manifests of every job but the report and the release."""
    jobs = ["study_area", "grid", "growth"]
    jobs += [f"mosaic/{year}/{city}" for year in C.years for city in CITIES]
    for year in C.years:
        jobs += [f"{rule}/{year}/{tile}" for rule in ("scenes", "composite", "isa") for tile in tiles(year=year)]
    if C.rehearsal is not None:
        jobs += ["rehearsal"]
    if SCORED:
        jobs += ["samples", "dataset", "superres_stage1", "superres_stage2", "superres_adversarial", "assess"]
        jobs += [f"{rule}/{reach}" for rule in ("pairing", "labels", "chips") for reach in REACHES]
        jobs += [f"{rule}/{method}" for rule in ("superres_chips", "segmentation", "isa_chips") for method in METHODS]
        jobs += [f"{rule}/{product}" for rule in ("product_mosaic", "product_chips") for product in PRODUCTS]
    return [manifest(job) for job in jobs]


rule release:
    input:
        manifests=lambda wildcards: all_manifests(),
        isa=lambda wildcards: [f"{R}/isa/{year}/{tile}.tif" for year in C.years for tile in tiles(year=year)],
        mosaics=rules.growth.input.mosaics,
        report=rules.report.output.html,
    output:
        catalogue=directory(f"{R}/release"),
        manifest=manifest("release"),
    log:
        f"{R}/logs/release.log",
    benchmark:
        f"{R}/benchmarks/release.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        title=C.title,
        years=C.years,
        code=code("release"),
    message:
        "Writing the release catalogue"
    script:
        "step.py"
