if C.segmentation is not None:
    SG = C.segmentation.presets[C.segmentation.preset]

    rule segmentation:
        input:
            index=rules.dataset.output.index,
            statistics=rules.dataset.output.statistics,
            images=rules.superres_chips.output.images,
            chips=rules.dataset.input.chips,
        output:
            checkpoint=f"{R}/segmentation/{{method}}.safetensors",
            history=f"{R}/segmentation/{{method}}.csv",
            panel=report(
                f"{R}/segmentation/{{method}}.png",
                category="Segmentation",
                caption="../docs/captions/segmentation.rst",
            ),
            manifest=manifest("segmentation/{method}"),
        log:
            f"{R}/logs/segmentation/{{method}}.log",
        benchmark:
            f"{R}/benchmarks/segmentation/{{method}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=per_attempt(6000),
            runtime=per_attempt(2880),
        params:
            model=SG.model.model_dump(),
            training=SG.training.model_dump(),
            seed=C.seed,
            threads=C.threads,
            state=f"{R}/.jointseg/training/segmentation_{{method}}.pt",
            events=f"{R}/logs/tensorboard/segmentation_{{method}}",
            code=code("segmentation"),
            environment=packages("segmentation"),
        message:
            "Training Mask2Former on {wildcards.method} chips"
        script:
            "step.py"
