if C.synthetic is not None:

    rule synthetic:
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
            manifest=manifest("synthetic"),
        log:
            f"{R}/logs/synthetic.log",
        benchmark:
            f"{R}/benchmarks/synthetic.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 2
        resources:
            mem_mb=per_attempt(8000),
            runtime=per_attempt(60),
        params:
            settings=C.synthetic.model_dump() | {"years": C.years, "jilin1_year": 2022},
            seed=C.seed,
            code=code("synthetic"),
            environment=packages("synthetic"),
        message:
            "Generating the synthetic scene in the formats of the real sources"
        script:
            "step.py"

    if HAS_POINTS:

        rule label_points:
            input:
                points=f"{R}/accuracy/change/points/{{city}}.csv",
                truth=rules.synthetic.output.truth,
            output:
                reference=f"{R}/accuracy/change/reference/{{city}}.csv",
                manifest=manifest("label_points/{city}"),
            log:
                f"{R}/logs/label_points/{{city}}.log",
            benchmark:
                f"{R}/benchmarks/label_points/{{city}}.tsv"
            conda:
                "../envs/jointseg.yaml"
            threads: 1
            resources:
                mem_mb=per_attempt(2000),
                runtime=per_attempt(30),
            params:
                reach=lambda wildcards: C.study_area.city_reach[wildcards.city],
                years=C.years,
                code=code("label_points"),
                environment=packages("label_points"),
            message:
                "Labelling the points of change in {wildcards.city} from the truth"
            script:
                "step.py"
