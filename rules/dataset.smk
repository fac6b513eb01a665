if C.dataset is not None and C.dataset.prior_density is not None:

    rule prior_density:
        input:
            study_area=rules.reaches.output.outlines,
            mosaics=product_mosaics(C.dataset.prior_density.product, C.map_year),
            files=C.accuracy.products_folder,
        output:
            density=f"{R}/dataset/prior_density.tif",
            manifest=manifest("prior_density"),
        log:
            f"{R}/logs/prior_density.log",
        benchmark:
            f"{R}/benchmarks/prior_density.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(60),
        params:
            product=C.dataset.prior_density.product,
            entry=PRODUCT_TABLE[C.dataset.prior_density.product],
            year=nearest_year(PRODUCT_TABLE[C.dataset.prior_density.product], C.map_year),
            chip_m=C.dataset.chip_m,
            code=code("prior_density"),
            environment=packages("prior_density"),
        message:
            "Computing the prior ISA density from {params.product}"
        script:
            "step.py"


if C.dataset is not None:
    D = C.dataset

    rule samples:
        input:
            unpack(lambda wildcards: {"density": rules.prior_density.output.density} if D.prior_density else {}),
            study_area=rules.reaches.output.outlines,
            tiles=rules.reach_grid.output.tiles,
        output:
            samples=f"{R}/dataset/samples.parquet",
            manifest=manifest("samples"),
        log:
            f"{R}/logs/samples.log",
        benchmark:
            f"{R}/benchmarks/samples.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(60),
        params:
            tile_km=C.tile_km,
            chip_m=D.chip_m,
            spacing_m=D.spacing_m,
            points=D.count,
            allocation=D.allocation,
            counts=D.counts,
            replacement_fraction=D.replacement_fraction,
            density_classes=D.prior_density.classes if D.prior_density else None,
            splits=D.splits.model_dump(),
            block_m=D.block_m,
            seed=C.seed,
            code=code("samples"),
            environment=packages("samples"),
        message:
            "Drawing the stratified sample"
        script:
            "step.py"

    rule deliveries:
        input:
            jilin1=D.jilin1,
        output:
            deliveries=f"{R}/dataset/deliveries.parquet",
            manifest=manifest("deliveries"),
        log:
            f"{R}/logs/deliveries.log",
        benchmark:
            f"{R}/benchmarks/deliveries.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=per_attempt(120),
        params:
            providers={name: entry.model_dump() for name, entry in D.providers.items()},
            metadata_elements=D.metadata_elements,
            code=code("deliveries"),
            environment=packages("deliveries"),
        message:
            "Listing the delivered high-resolution scenes"
        script:
            "step.py"

    rule pairing:
        input:
            samples=rules.samples.output.samples,
            composites=reach_composites,
            jilin1=D.jilin1,
            deliveries=rules.deliveries.output.deliveries,
        output:
            pairs=f"{R}/dataset/pairs/{{reach}}.parquet",
            manifest=manifest("pairing/{reach}"),
        log:
            f"{R}/logs/pairing/{{reach}}.log",
        benchmark:
            f"{R}/benchmarks/pairing/{{reach}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(3000),
            runtime=per_attempt(480),
        params:
            chip_m=D.chip_m,
            year=C.map_year,
            season=list(C.sentinel2.season),
            max_shift_m=D.max_shift_m,
            min_correlation=D.min_correlation,
            max_cloud_percent=D.max_cloud_percent,
            code=code("pairing"),
            environment=packages("pairing"),
        message:
            "Pairing high-resolution scenes with the composites of {wildcards.reach}"
        script:
            "step.py"

    rule labels:
        input:
            samples=rules.samples.output.samples,
            pairs=rules.pairing.output.pairs,
            osm=D.osm,
            footprints=D.footprints,
            corrections=D.corrections,
            jilin1=D.jilin1,
        output:
            labels=f"{R}/dataset/labels/{{reach}}.parquet",
            manifest=manifest("labels/{reach}"),
        log:
            f"{R}/logs/labels/{{reach}}.log",
        benchmark:
            f"{R}/benchmarks/labels/{{reach}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(3000),
            runtime=per_attempt(480),
        params:
            chip_m=D.chip_m,
            road_widths_m=D.road_widths_m,
            lane_width_m=D.lane_width_m,
            isa_tags=D.isa_tags,
            not_isa_tags=D.not_isa_tags,
            unpaved_surfaces=D.unpaved_surfaces,
            soft_tags=D.soft_tags,
            industrial_yard_m=D.industrial_yard_m,
            code=code("labels"),
            environment=packages("labels"),
        message:
            "Collecting ISA labels of {wildcards.reach}"
        script:
            "step.py"

    rule chips:
        input:
            unpack(reach_merged),
            samples=rules.samples.output.samples,
            pairs=rules.pairing.output.pairs,
            labels=rules.labels.output.labels,
            composites=reach_composites,
            jilin1=D.jilin1,
            deliveries=rules.deliveries.output.deliveries,
        output:
            chips=directory(f"{R}/dataset/chips/{{reach}}"),
            index=f"{R}/dataset/index/{{reach}}.parquet",
            manifest=manifest("chips/{reach}"),
        log:
            f"{R}/logs/chips/{{reach}}.log",
        benchmark:
            f"{R}/benchmarks/chips/{{reach}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 2
        resources:
            mem_mb=per_attempt(3000),
            runtime=per_attempt(480),
        params:
            chip_m=D.chip_m,
            bands=C.sentinel2.bands,
            workers=2,
            code=code("chips"),
            environment=packages("chips"),
        message:
            "Writing the chips of {wildcards.reach}"
        script:
            "step.py"

    rule label_agreement:
        input:
            labels=rules.labels.output.labels,
            chips=rules.chips.output.chips,
            index=rules.chips.output.index,
        output:
            table=f"{R}/dataset/label_agreement/{{reach}}.csv",
            polygons=f"{R}/dataset/label_agreement/{{reach}}.gpkg",
            projects=directory(f"{R}/dataset/label_agreement/{{reach}}"),
            manifest=manifest("label_agreement/{reach}"),
        log:
            f"{R}/logs/label_agreement/{{reach}}.log",
        benchmark:
            f"{R}/benchmarks/label_agreement/{{reach}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(120),
        params:
            chip_m=D.chip_m,
            review_chips=D.review_chips,
            code=code("label_agreement"),
            environment=packages("label_agreement"),
        message:
            "Comparing the label sources of {wildcards.reach}"
        script:
            "step.py"

    rule dataset:
        input:
            indexes=expand_outputs(rules.chips.output.index, reach=REACHES),
            chips=expand_outputs(rules.chips.output.chips, reach=REACHES),
            samples=rules.samples.output.samples,
            pairs=expand_outputs(rules.pairing.output.pairs, reach=REACHES),
            labels=expand_outputs(rules.labels.output.labels, reach=REACHES),
            manifests=dataset_manifests,
        output:
            index=f"{R}/dataset/index.parquet",
            statistics=f"{R}/dataset/statistics.json",
            card=f"{R}/dataset/card.md",
            sources=f"{R}/dataset/sources.json",
            collection=f"{R}/dataset/collection.json",
            stac_items=directory(f"{R}/dataset/items"),
            checksums=f"{R}/dataset/checksums.sha256",
            manifest=manifest("dataset"),
        log:
            f"{R}/logs/dataset.log",
        benchmark:
            f"{R}/benchmarks/dataset.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 4
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(120),
        params:
            version=D.version,
            chip_m=D.chip_m,
            spacing_m=D.spacing_m,
            code=code("dataset"),
            environment=packages("dataset"),
        message:
            "Joining the reaches into the ISASeg dataset"
        script:
            "step.py"
