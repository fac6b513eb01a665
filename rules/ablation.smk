if C.ablation is not None:
    ABLATION_DATA = ["dataset", *(["textures"] if C.ablation.textures else [])]

    wildcard_constraints:
        data="dataset|textures",
        variant="|".join(VARIANTS),
        bands="rgb|nir|dates|nir-dates",
        kind="stage1|l1|adversarial|single",
        seed=r"\d+",

    rule ablation_bands:
        input:
            statistics=statistics_of,
        output:
            reduced=f"{R}/ablation/{{data}}/statistics/{{bands}}.json",
            manifest=manifest("ablation_bands/{data}/{bands}"),
        log:
            f"{R}/logs/ablation_bands/{{data}}/{{bands}}.log",
        benchmark:
            f"{R}/benchmarks/ablation_bands/{{data}}/{{bands}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(500),
            runtime=per_attempt(30),
        params:
            code=code("ablation_bands"),
            environment=packages("ablation_bands"),
        message:
            "Selecting the statistics of the bands {wildcards.bands}"
        script:
            "step.py"

    rule ablation_generator:
        input:
            unpack(ablation_start),
            unpack(lambda wildcards: perceptual_weights(wildcards) if wildcards.kind == "adversarial" else {}),
            unpack(data_of),
            statistics=rules.ablation_bands.output.reduced,
        output:
            checkpoint=f"{R}/ablation/{{data}}/generators/{{bands}}/{{kind}}/{{seed}}.safetensors",
            history=f"{R}/ablation/{{data}}/generators/{{bands}}/{{kind}}/{{seed}}.csv",
            panel=f"{R}/ablation/{{data}}/generators/{{bands}}/{{kind}}/{{seed}}.png",
            manifest=manifest("ablation_generator/{data}/{bands}/{kind}/{seed}"),
        log:
            f"{R}/logs/ablation_generator/{{data}}/{{bands}}/{{kind}}/{{seed}}.log",
        benchmark:
            f"{R}/benchmarks/ablation_generator/{{data}}/{{bands}}/{{kind}}/{{seed}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=per_attempt(6000),
            runtime=per_attempt(720),
        params:
            model=SR.model.model_dump(),
            stage1=single_process(SR.stage1),
            stage2=single_process(SR.stage2),
            adversarial=single_process(SR.adversarial, exclude={"perceptual_weights"}),
            threads=C.threads,
            state=f"{R}/.jointseg/training/ablation/{{data}}/{{bands}}-{{kind}}-{{seed}}/state.pt",
            code=code("ablation_generator"),
            environment=packages("ablation_generator"),
        message:
            "Training generator {wildcards.kind} with bands {wildcards.bands}, seed {wildcards.seed}"
        script:
            "step.py"

    rule ablation_variant:
        input:
            unpack(data_of),
            unpack(lambda wildcards: TRUTH if wildcards.data == "dataset" else {}),
            unpack(ablation_generator_of),
            statistics=lambda wildcards: f"{R}/ablation/{wildcards.data}/statistics/{VARIANTS[wildcards.variant].bands}.json",
        output:
            trained=directory(f"{R}/ablation/{{data}}/variants/{{variant}}/{{seed}}"),
            counts=f"{R}/ablation/{{data}}/counts/{{variant}}/{{seed}}.csv",
            image_scores=f"{R}/ablation/{{data}}/image_scores/{{variant}}/{{seed}}.csv",
            examples=directory(f"{R}/ablation/{{data}}/examples/{{variant}}/{{seed}}"),
            manifest=manifest("ablation_variant/{data}/{variant}/{seed}"),
        log:
            f"{R}/logs/ablation_variant/{{data}}/{{variant}}/{{seed}}.log",
        benchmark:
            f"{R}/benchmarks/ablation_variant/{{data}}/{{variant}}/{{seed}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=per_attempt(6000),
            runtime=per_attempt(720),
        params:
            schedule=ablation_schedule,
            threads=C.threads,
            work=f"{R}/.jointseg/training/ablation/{{data}}/{{variant}}-{{seed}}",
            year=C.map_year,
            code=code("ablation_variant"),
            environment=packages("ablation_variant"),
        message:
            "Training and scoring variant {wildcards.variant}, seed {wildcards.seed}"
        script:
            "step.py"

    rule ablation:
        input:
            unpack(data_of),
            counts=tables_of_runs("counts"),
            image_scores=tables_of_runs("image_scores"),
            examples=lambda wildcards: [
                f"{R}/ablation/{wildcards.data}/examples/{variant}/{C.ablation.seeds[0]}"
                for variant in variants_of(wildcards.data)
            ],
        output:
            table=f"{R}/ablation/{{data}}/ablation.csv",
            scores=f"{R}/ablation/{{data}}/images.csv",
            document=f"{R}/ablation/{{data}}/ablation.md",
            figure=report(
                f"{R}/ablation/{{data}}/ablation.png", category="Ablation", caption="../docs/captions/ablation.rst"
            ),
            panels=report(
                f"{R}/ablation/{{data}}/panels.png", category="Ablation", caption="../docs/captions/ablation.rst"
            ),
            manifest=manifest("ablation/{data}"),
        log:
            f"{R}/logs/ablation/{{data}}.log",
        benchmark:
            f"{R}/benchmarks/ablation/{{data}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(60),
        params:
            runs=lambda wildcards: runs_of(wildcards.data),
            variants=lambda wildcards: variants_of(wildcards.data),
            title=lambda wildcards: description_of(wildcards).title,
            about=lambda wildcards: description_of(wildcards).about,
            setup=lambda wildcards: ablation_setup(wildcards.data),
            code=code("ablation"),
            environment=packages("ablation"),
        message:
            "Comparing the variants on {wildcards.data}"
        script:
            "step.py"
