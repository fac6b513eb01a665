rule predict:
    input:
        unpack(composite_neighbourhood),
        superres=checkpoint_path("superres"),
        segmentation=checkpoint_path("segmentation"),
    output:
        **{name: f"{R}/{name}/{{year}}/{{tile}}.tif" for name in C.inference.products},
        manifest=manifest("predict/{year}/{tile}"),
    log:
        f"{R}/logs/predict/{{year}}/{{tile}}.log",
    benchmark:
        f"{R}/benchmarks/predict/{{year}}/{{tile}}.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: C.inference.threads
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(720),
    params:
        tile_km=C.tile_km,
        method="superres",
        window_m=C.inference.window_m,
        stride_m=C.inference.stride_m,
        batch=C.inference.batch,
        threads=C.inference.threads,
        precision=C.inference.precision,
        state=f"{R}/.jointseg/predict/{{year}}/{{tile}}",
        code=code("predict"),
        environment=packages("predict"),
    message:
        "Predicting ISA at 1 m in {wildcards.tile}, {wildcards.year}"
    script:
        "step.py"


rule preview:
    input:
        **COMPOSITE,
        superres=checkpoint_path("superres"),
        isa=rules.predict.output.isa,
    output:
        rgb=f"{R}/previews/{{year}}/{{tile}}.tif",
        figure=f"{R}/previews/{{year}}/{{tile}}.png",
        manifest=manifest("preview/{year}/{tile}"),
    log:
        f"{R}/logs/preview/{{year}}/{{tile}}.log",
    benchmark:
        f"{R}/benchmarks/preview/{{year}}/{{tile}}.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: C.inference.threads
    resources:
        mem_mb=per_attempt(4000),
        runtime=per_attempt(60),
    params:
        tile_km=C.tile_km,
        size_m=round(C.inference.preview_km * 1000),
        window_m=C.inference.window_m,
        stride_m=C.inference.stride_m,
        batch=C.inference.batch,
        threads=C.inference.threads,
        precision=C.inference.precision,
        code=code("preview"),
        environment=packages("preview"),
    message:
        "Drawing the preview of {wildcards.tile}, {wildcards.year}"
    script:
        "step.py"


rule mosaic:
    input:
        isa=city_maps,
        study_area=rules.study_area.output.study_area,
    output:
        mosaic=f"{R}/mosaics/{{year}}/{{city}}.tif",
        manifest=manifest("mosaic/{year}/{city}"),
    log:
        f"{R}/logs/mosaic/{{year}}/{{city}}.log",
    benchmark:
        f"{R}/benchmarks/mosaic/{{year}}/{{city}}.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(120),
    params:
        code=code("mosaic"),
        environment=packages("mosaic"),
    message:
        "Mosaicking the map of {wildcards.city}, {wildcards.year}"
    script:
        "step.py"


if C.dataset is not None:

    rule map_chips:
        input:
            index=rules.dataset.output.index,
            isa=lambda wildcards: isa_maps(C.map_year, tile_ids()),
        output:
            predictions=directory(f"{R}/accuracy/predictions/{{method}}"),
            manifest=manifest("map_chips/{method}"),
        log:
            f"{R}/logs/map_chips/{{method}}.log",
        benchmark:
            f"{R}/benchmarks/map_chips/{{method}}.tsv"
        wildcard_constraints:
            method="superres",
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(60),
        params:
            code=code("map_chips"),
            environment=packages("map_chips"),
        message:
            "Cropping the map to the test chips"
        script:
            "step.py"

    rule predict_chips:
        input:
            index=rules.dataset.output.index,
            composites=lambda wildcards: composites(C.map_year, tile_ids()),
            segmentation=lambda wildcards: checkpoint_path("segmentation", wildcards.method),
        output:
            predictions=directory(f"{R}/accuracy/predictions/{{method}}"),
            manifest=manifest("predict_chips/{method}"),
        log:
            f"{R}/logs/predict_chips/{{method}}.log",
        benchmark:
            f"{R}/benchmarks/predict_chips/{{method}}.tsv"
        wildcard_constraints:
            method="|".join(C.accuracy.baselines) or "none",
        conda:
            "../envs/jointseg.yaml"
        threads: C.inference.threads
        resources:
            mem_mb=per_attempt(4000),
            runtime=per_attempt(240),
        params:
            window_m=C.inference.window_m,
            stride_m=C.inference.stride_m,
            batch=C.inference.batch,
            threads=C.inference.threads,
            precision=C.inference.precision,
            code=code("predict_chips"),
            environment=packages("predict_chips"),
        message:
            "Predicting the test chips: {wildcards.method}"
        script:
            "step.py"
