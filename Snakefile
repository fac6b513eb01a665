from snakemake.utils import min_version

min_version("9.0")


include: "rules/common.smk"
include: "rules/common_all.smk"
include: "rules/common_ablation.smk"
include: "rules/synthetic.smk"
include: "rules/study_area.smk"
include: "rules/sentinel2.smk"
include: "rules/dataset.smk"
include: "rules/superres.smk"
include: "rules/segmentation.smk"
include: "rules/joint.smk"
include: "rules/textures.smk"
include: "rules/ablation.smk"
include: "rules/inference.smk"
include: "rules/accuracy.smk"
include: "rules/provenance.smk"


rule all:
    default_target: True
    input:
        rules.report.output.html,
        rules.release.output.catalogue,
        all_outputs,


# Targets for parts of the workflow, because --until does not reach beyond the checkpoint.
rule all_scenes:
    input:
        lambda wildcards: [
            f"{R}/sentinel2/scenes/{year}/{tile}.json" for year in C.years for tile in tile_ids(year=year)
        ],


rule all_composites:
    input:
        lambda wildcards: [path for year in C.years for path in composites(year, tile_ids(year=year))],


rule all_maps:
    input:
        lambda wildcards: [f"{R}/isa/{year}/{tile}.tif" for year in C.years for tile in tile_ids(year=year)],


if C.ablation is not None:

    rule ablations:
        input:
            expand_outputs(rules.ablation.output.document, data=ABLATION_DATA),
