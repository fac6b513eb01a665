if C.rehearsal is not None:

    rule rehearsal:
        output:
            study_area=f"{R}/sources/study_area.gpkg",
            sentinel2=directory(f"{R}/sources/sentinel2"),
            jilin1=directory(f"{R}/sources/jilin1"),
            osm=f"{R}/sources/osm.gpkg",
            footprints=f"{R}/sources/footprints.gpkg",
            corrections=directory(f"{R}/sources/corrections"),
            products=directory(f"{R}/sources/products"),
            elevation=f"{R}/sources/elevation.tif",
            truth=directory(f"{R}/sources/truth"),
            manifest=manifest("rehearsal"),
        log:
            f"{R}/logs/rehearsal.log",
        benchmark:
            f"{R}/benchmarks/rehearsal.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 2
        resources:
            mem_mb=more(8000),
            runtime=more(60),
        params:
            world=C.rehearsal.model_dump() | {"years": C.years, "jilin_year": 2022},
            seed=C.seed,
            code=code("rehearsal"),
            environment=packages("rehearsal"),
        message:
            "Drawing the rehearsal valley and delivering it as the real sources would"
        script:
            "step.py"

    if POINTS:

        rule interpret:
            input:
                points=f"{R}/accuracy/change/points/{{city}}.csv",
                truth=rules.rehearsal.output.truth,
            output:
                reference=f"{R}/accuracy/change/reference/{{city}}.csv",
                manifest=manifest("interpret/{city}"),
            log:
                f"{R}/logs/interpret/{{city}}.log",
            benchmark:
                f"{R}/benchmarks/interpret/{{city}}.tsv"
            conda:
                "../envs/jointseg.yaml"
            threads: 1
            resources:
                mem_mb=more(2000),
                runtime=more(30),
            params:
                reach=lambda wildcards: C.study_area.city_reach[wildcards.city],
                years=C.years,
                code=code("interpret"),
                environment=packages("interpret"),
            message:
                "Looking at the points of change in {wildcards.city}"
            script:
                "step.py"
