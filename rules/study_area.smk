rule reaches:
    input:
        **outline_sources(("regions",), packaged=False),
    output:
        outlines=f"{R}/study_area/reaches.gpkg",
        manifest=manifest("reaches"),
    log:
        f"{R}/logs/reaches.log",
    benchmark:
        f"{R}/benchmarks/reaches.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(60),
    params:
        **outline_sources(("regions",), packaged=True),
        reaches=C.study_area.reaches,
        region_field=C.study_area.region_field,
        datum=C.study_area.datum,
        code=code("reaches"),
        environment=packages("reaches"),
    message:
        "Uniting regions to reaches"
    script:
        "step.py"


rule reach_grid:
    input:
        outlines=rules.reaches.output.outlines,
    output:
        tiles=f"{R}/grid/reach_tiles.geojson",
        manifest=manifest("reach_grid"),
    log:
        f"{R}/logs/reach_grid.log",
    benchmark:
        f"{R}/benchmarks/reach_grid.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        tile_km=C.tile_km,
        code=code("reach_grid"),
        environment=packages("reach_grid"),
    message:
        "Tiling the reaches"
    script:
        "step.py"


rule study_area:
    input:
        **outline_sources(("regions", "cities"), packaged=False),
    output:
        study_area=f"{R}/study_area/study_area.gpkg",
        manifest=manifest("study_area"),
    log:
        f"{R}/logs/study_area.log",
    benchmark:
        f"{R}/benchmarks/study_area.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(60),
    params:
        **outline_sources(("regions", "cities"), packaged=True),
        reaches=C.study_area.reaches,
        city_reach=C.study_area.city_reach,
        region_field=C.study_area.region_field,
        city_field=C.study_area.city_field,
        city_boxes={name: list(box) for name, box in C.study_area.city_boxes.items()},
        datum=C.study_area.datum,
        code=code("study_area"),
        environment=packages("study_area"),
    message:
        "Writing reaches and cities"
    script:
        "step.py"


checkpoint grid:
    input:
        study_area=rules.study_area.output.study_area,
    output:
        tiles=f"{R}/grid/tiles.geojson",
        manifest=manifest("grid"),
    log:
        f"{R}/logs/grid.log",
    benchmark:
        f"{R}/benchmarks/grid.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(30),
    params:
        tile_km=C.tile_km,
        code=code("grid"),
        environment=packages("grid"),
    message:
        "Tiling the study area"
    script:
        "step.py"
