from jointseg.provenance.digest import file_digest

# The files that are the workflow, the Snakefile first, and their digests: where they lie does not matter, so a run from a
# frozen copy and one from the checkout are the same.
HOME = Path(workflow.current_basedir.get_path_or_uri(secret_free=False)).parent
FLOW = ["Snakefile", *(f"rules/{path.name}" for path in sorted(HOME.glob("rules/*.smk"))), "rules/step.py"]


rule release:
    input:
        manifests=lambda wildcards: all_manifests(),
        isa=lambda wildcards: [f"{R}/isa/{year}/{tile}.tif" for year in C.years for tile in tile_ids(year=year)],
        mosaics=rules.growth.input.mosaics,
        report=rules.report.output.html,
        growth=rules.growth.output.table,
        accuracy=rules.assess.output.table if HAS_DATASET else [],
        checkpoints=[checkpoint_path("superres"), checkpoint_path("segmentation")],
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
        mem_mb=per_attempt(2000),
        runtime=per_attempt(120),
    params:
        workflow={name: file_digest(HOME / name) for name in FLOW},
        settings=C.model_dump(mode="json"),
        code=code("release"),
        environment=packages("release"),
    message:
        "Writing the release catalogue"
    script:
        "step.py"
