import os

# The files that are the workflow, by their paths from the working directory: the Snakefile, then what it includes.
HOME = Path(os.path.relpath(workflow.basedir))
FLOW = [HOME / "Snakefile", *sorted(HOME.glob("rules/*.smk")), HOME / "rules/step.py"]


rule release:
    input:
        manifests=lambda wildcards: all_manifests(),
        isa=lambda wildcards: [f"{R}/isa/{year}/{tile}.tif" for year in C.years for tile in tiles(year=year)],
        mosaics=rules.growth.input.mosaics,
        report=rules.report.output.html,
        growth=rules.growth.output.table,
        accuracy=rules.assess.output.table if SCORED else [],
        checkpoints=[weights("superres"), weights("segmentation")],
        workflow=FLOW,
    output:
        catalogue=directory(f"{R}/release"),
        manifest=manifest("release"),
    log:
        f"{R}/logs/release.log",
    benchmark:
        f"{R}/benchmarks/release.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 4
    resources:
        mem_mb=2000,
    params:
        settings=C.model_dump(mode="json"),
        code=code("release"),
        environment=packages("release"),
    message:
        "Writing the release catalogue"
    script:
        "step.py"
