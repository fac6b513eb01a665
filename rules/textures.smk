if C.ablation is not None and C.ablation.textures is not None:
    TX = C.ablation.textures

    rule textures:
        input:
            folder=TX.folder,
        output:
            index=f"{R}/textures/index.parquet",
            statistics=f"{R}/textures/statistics.json",
            chips=[directory(f"{R}/textures/chips/{area.name}") for area in TX.areas],
            manifest=manifest("textures"),
        log:
            f"{R}/logs/textures.log",
        benchmark:
            f"{R}/benchmarks/textures.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(4000),
            runtime=per_attempt(120),
        params:
            areas=[area.model_dump() for area in TX.areas],
            colours=TX.colours,
            splits=TX.splits.model_dump(),
            buffer_m=TX.buffer_m,
            chip_m=TX.chip_m,
            dates=TX.dates,
            seed=C.seed,
            code=code("textures"),
            environment=packages("textures"),
        message:
            "Cutting high-resolution images into chips and simulating Sentinel-2"
        script:
            "step.py"
