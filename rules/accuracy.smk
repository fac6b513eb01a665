if HAS_POINTS:

    rule change_sample:
        input:
            mosaics=expand_outputs(rules.mosaic.output.mosaic, year=C.years, allow_missing=True),
        output:
            strata=f"{R}/accuracy/change/strata/{{city}}.csv",
            design=f"{R}/accuracy/change/design/{{city}}.csv",
            points=f"{R}/accuracy/change/points/{{city}}.csv",
            manifest=manifest("change_sample/{city}"),
        log:
            f"{R}/logs/change_sample/{{city}}.log",
        benchmark:
            f"{R}/benchmarks/change_sample/{{city}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 2
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(60),
        params:
            years=C.years,
            number=C.accuracy.growth_points,
            seed=C.seed,
            threads=2,
            code=code("change_sample"),
            environment=packages("change_sample"),
        message:
            "Drawing the change sample of {wildcards.city}"
        script:
            "step.py"


if PRODUCT_TABLE:

    rule product_mosaic:
        input:
            files=C.accuracy.products_folder,
            study_area=rules.reaches.output.outlines,
        output:
            mosaics=directory(f"{R}/accuracy/mosaics/{{product}}/{{year}}"),
            manifest=manifest("product_mosaic/{product}/{year}"),
        log:
            f"{R}/logs/product_mosaic/{{product}}/{{year}}.log",
        benchmark:
            f"{R}/benchmarks/product_mosaic/{{product}}/{{year}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=per_attempt(60),
        params:
            entry=lambda wildcards: PRODUCT_TABLE[wildcards.product],
            code=code("product_mosaic"),
            environment=packages("product_mosaic"),
        message:
            "Mosaicking {wildcards.product}, {wildcards.year}"
        script:
            "step.py"


if HAS_COMPARISON:

    rule compare_products:
        input:
            unpack(lambda wildcards: TRUTH),
            unpack(comparison_inputs),
            mosaics=expand_outputs(rules.mosaic.output.mosaic, year=C.years, allow_missing=True),
        output:
            table=f"{R}/accuracy/compared/{{city}}.csv",
            maps=directory(f"{R}/accuracy/compared/{{city}}"),
            manifest=manifest("compare_products/{city}"),
        log:
            f"{R}/logs/compare_products/{{city}}.log",
        benchmark:
            f"{R}/benchmarks/compare_products/{{city}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 2
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(240),
        params:
            reach=lambda wildcards: C.study_area.city_reach[wildcards.city],
            years=C.years,
            product_table=PRODUCTS,
            threads=2,
            code=code("compare_products"),
            environment=packages("compare_products"),
        message:
            "Comparing the maps of {wildcards.city} with reference products"
        script:
            "step.py"


if C.accuracy.temporal_consistency is not None:

    rule temporal_consistency:
        input:
            mosaics=expand_outputs(rules.mosaic.output.mosaic, year=C.years, allow_missing=True),
        output:
            filtered=[f"{R}/temporal_consistency/{year}/{{city}}.tif" for year in C.years],
            manifest=manifest("temporal_consistency/{city}"),
        log:
            f"{R}/logs/temporal_consistency/{{city}}.log",
        benchmark:
            f"{R}/benchmarks/temporal_consistency/{{city}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 2
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(120),
        params:
            years=C.years,
            model=C.accuracy.temporal_consistency.model_dump(),
            threads=2,
            code=code("temporal_consistency"),
            environment=packages("temporal_consistency"),
        message:
            "Filtering the maps of {wildcards.city} for temporal consistency"
        script:
            "step.py"


rule growth:
    input:
        unpack(lambda wildcards: TRUTH),
        unpack(point_inputs),
        unpack(consistent_maps),
        mosaics=expand_outputs(rules.mosaic.output.mosaic, year=C.years, city=CITIES),
        study_area=rules.study_area.output.study_area,
        quality_tables=expand_outputs(rules.composite_quality.output.table, year=C.years),
    output:
        table=f"{R}/accuracy/growth.csv",
        changes=f"{R}/accuracy/change.csv",
        zones=f"{R}/accuracy/zones.csv",
        figure=report(f"{R}/accuracy/growth.png", category="Growth", caption="../docs/captions/growth.rst"),
        manifest=manifest("growth"),
    log:
        f"{R}/logs/growth.log",
    benchmark:
        f"{R}/benchmarks/growth.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 2
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(120),
    params:
        cities=C.study_area.city_reach,
        years=C.years,
        ring_km=C.accuracy.ring_km,
        seed=C.seed,
        threads=2,
        code=code("growth"),
        environment=packages("growth"),
    message:
        "Estimating the growth of the cities"
    script:
        "step.py"


if HAS_DATASET:

    rule product_chips:
        input:
            index=rules.dataset.output.index,
            mosaics=lambda wildcards: product_mosaics(wildcards.product, C.map_year),
            files=C.accuracy.products_folder or [],
        output:
            rasters=directory(f"{R}/accuracy/products/{{product}}"),
            manifest=manifest("product_chips/{product}"),
        log:
            f"{R}/logs/product_chips/{{product}}.log",
        benchmark:
            f"{R}/benchmarks/product_chips/{{product}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 2
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(60),
        params:
            entry=lambda wildcards: PRODUCTS[wildcards.product],
            chip_m=C.dataset.chip_m,
            code=code("product_chips"),
            environment=packages("product_chips"),
        message:
            "Resampling {wildcards.product} to the test chips"
        script:
            "step.py"

    rule assess:
        input:
            unpack(lambda wildcards: TRUTH),
            unpack(lambda wildcards: {"dem": C.accuracy.dem} if C.accuracy.dem else {}),
            study_area=rules.study_area.output.study_area,
            index=rules.dataset.output.index,
            chips=rules.dataset.input.chips,
            predictions=expand(f"{R}/accuracy/predictions/{{method}}", method=METHODS),
            products=expand_outputs(rules.product_chips.output.rasters, product=PRODUCTS),
        output:
            table=report(f"{R}/accuracy/accuracy.csv", category="Accuracy", caption="../docs/captions/accuracy.rst"),
            paired=f"{R}/accuracy/paired.csv",
            confusion=f"{R}/accuracy/confusion.csv",
            domains=f"{R}/accuracy/domains.csv",
            manifest=manifest("assess"),
        log:
            f"{R}/logs/assess.log",
        benchmark:
            f"{R}/benchmarks/assess.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(60),
        params:
            methods=METHODS,
            product_table=PRODUCTS,
            year=C.map_year,
            code=code("assess"),
            environment=packages("assess"),
        message:
            "Assessing maps and reference products on the test chips"
        script:
            "step.py"


rule report:
    input:
        unpack(report_inputs),
        growth=rules.growth.output.table,
        changes=rules.growth.output.changes,
        zones=rules.growth.output.zones,
        growth_figure=rules.growth.output.figure,
        manifests=lambda wildcards: all_manifests(),
    output:
        html=f"{R}/report/index.html",
        numbers=f"{R}/report/numbers.json",
        manifest=manifest("report"),
    log:
        f"{R}/logs/report.log",
    benchmark:
        f"{R}/benchmarks/report.tsv"
    conda:
        "../envs/jointseg.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(3000),
        runtime=per_attempt(60),
    params:
        title=C.title,
        methods=METHODS,
        product_table=PRODUCTS,
        captions=C.report.examples,
        year=C.map_year,
        notes=C.report.notes if C.weights is None else C.weights.about,
        code=code("report"),
        environment=packages("report"),
    message:
        "Writing the report"
    script:
        "step.py"
