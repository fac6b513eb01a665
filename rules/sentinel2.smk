rule scenes:
    input:
        unpack(archive_folder),
        unpack(scene_sidecar),
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
        mem_mb=per_attempt(1000),
        runtime=per_attempt(30),
    params:
        tile_km=C.tile_km,
        source=C.sentinel2.source.model_dump(exclude={"scene"}),
        level=lambda wildcards: product_level(wildcards.year),
        season=list(C.sentinel2.season),
        max_cloud_percent=C.sentinel2.max_cloud_percent,
        bands=C.sentinel2.bands,
        season_padding_days=C.sentinel2.season_padding_days,
        l1c_mask=C.sentinel2.l1c_mask,
        code=code("scenes"),
        environment=packages("scenes"),
    message:
        "Listing the Sentinel-2 scenes of {wildcards.tile}, {wildcards.year}"
    script:
        "step.py"


rule composite:
    input:
        unpack(archive_folder),
        unpack(reference_composite),
        scenes=rules.scenes.output.scenes,
    output:
        **COMPOSITE,
        manifest=manifest("composite/{year}/{tile}"),
    log:
        f"{R}/logs/composite/{{year}}/{{tile}}.log",
    benchmark:
        f"{R}/benchmarks/composite/{{year}}/{{tile}}.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(3000),
        runtime=per_attempt(240),
        parallel_requests=C.sentinel2.parallel_requests or (8 if C.sentinel2.remote else 1),
    params:
        **({"merged_dates": C.sentinel2.merged_dates} if C.sentinel2.merged_dates else {}),
        tile_km=C.tile_km,
        source=C.sentinel2.source.model_dump(exclude={"scene"}),
        bands=C.sentinel2.bands,
        method=C.sentinel2.method,
        scl_mask_classes=C.sentinel2.scl_mask_classes,
        mask_dilation_m=C.sentinel2.mask_dilation_m,
        min_clear_observations=C.sentinel2.min_clear_observations,
        swath_edge_buffer_m=C.sentinel2.swath_edge_buffer_m,
        cloud_score_plus_threshold=C.sentinel2.cloud_score_plus_threshold,
        s2cloudless_threshold=C.sentinel2.s2cloudless_threshold,
        coregister=C.sentinel2.coregister,
        max_shift_m=C.sentinel2.max_shift_m,
        dark_object_subtraction=C.sentinel2.dark_object_subtraction,
        normalise=C.sentinel2.normalise,
        response_cache=f"{R}/.jointseg/responses/{{year}}/{{tile}}" if C.sentinel2.remote else None,
        code=code("composite"),
        environment=packages("composite"),
    message:
        "Compositing {wildcards.tile}, {wildcards.year}"
    script:
        "step.py"


rule composite_quality:
    input:
        unpack(map_year_composites),
        composites=lambda wildcards: composites(wildcards.year, tile_ids(year=wildcards.year)),
    output:
        table=f"{R}/sentinel2/composite_quality/{{year}}.csv",
        figure=f"{R}/sentinel2/composite_quality/{{year}}.png",
        manifest=manifest("composite_quality/{year}"),
    log:
        f"{R}/logs/composite_quality/{{year}}.log",
    benchmark:
        f"{R}/benchmarks/composite_quality/{{year}}.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(60),
    params:
        level=lambda wildcards: product_level(wildcards.year),
        bands=C.sentinel2.bands,
        code=code("composite_quality"),
        environment=packages("composite_quality"),
    message:
        "Computing the quality metrics of the {wildcards.year} composites"
    script:
        "step.py"
