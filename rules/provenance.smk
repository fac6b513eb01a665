from jointseg.provenance.digest import file_digest

# Workflow files, the Snakefile first. The release records their checksums without locations, so a run from a snapshot and a
# run from the checkout have the same params.
WORKFLOW_ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=False)).parent
WORKFLOW_FILES = [
    "Snakefile",
    *(f"rules/{path.name}" for path in sorted(WORKFLOW_ROOT.glob("rules/*.smk"))),
    "rules/step.py",
]


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
        workflow={name: file_digest(WORKFLOW_ROOT / name) for name in WORKFLOW_FILES},
        settings=C.model_dump(mode="json"),
        code=code("release"),
        environment=packages("release"),
    message:
        "Writing the release catalogue"
    script:
        "step.py"
