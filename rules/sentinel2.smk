rule scenes:
    input:
        unpack(archive),
        unpack(sidecar),
    output:
        scenes=f"{R}/sentinel2/scenes/{{year}}/{{tile}}.json",
        manifest=manifest("scenes/{year}/{tile}"),
    log:
        f"{R}/logs/scenes/{{year}}/{{tile}}.log",
    benchmark:
        f"{R}/benchmarks/scenes/{{year}}/{{tile}}.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tile_km=C.tile_km,
        source=C.sentinel2.source.model_dump(exclude={"scene"}),
        level=lambda wildcards: C.sentinel2.level_by_year.get(int(wildcards.year), C.sentinel2.level),
        season=list(C.sentinel2.season),
        max_cloud_percent=C.sentinel2.max_cloud_percent,
        bands=C.sentinel2.bands,
        code=code("scenes"),
        environment=packages("scenes"),
    message:
        "Listing the Sentinel-2 scenes of {wildcards.year} over {wildcards.tile}"
    script:
        "step.py"


rule composite:
    input:
        unpack(archive),
        unpack(reference),
        scenes=rules.scenes.output.scenes,
    output:
        composite=f"{R}/sentinel2/composites/{{year}}/{{tile}}.tif",
        manifest=manifest("composite/{year}/{tile}"),
    log:
        f"{R}/logs/composite/{{year}}/{{tile}}.log",
    benchmark:
        f"{R}/benchmarks/composite/{{year}}/{{tile}}.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        tile_km=C.tile_km,
        source=C.sentinel2.source.model_dump(exclude={"scene"}),
        bands=C.sentinel2.bands,
        method=C.sentinel2.method,
        scl_drop=C.sentinel2.scl_drop,
        scl_buffer_m=C.sentinel2.scl_buffer_m,
        min_clear=C.sentinel2.min_clear,
        dark_object=C.sentinel2.dark_object,
        code=code("composite"),
        environment=packages("composite"),
    message:
        "Compositing {wildcards.tile}, {wildcards.year}"
    script:
        "step.py"
