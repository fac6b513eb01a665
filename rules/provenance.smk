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
        environment=packages("release"),
    message:
        "Writing the release catalogue"
    script:
        "step.py"
