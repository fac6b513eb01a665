if C.joint is not None:

    rule joint:
        input:
            index=rules.dataset.output.index,
            statistics=rules.dataset.output.statistics,
            chips=rules.dataset.input.chips,
            superres=generator_checkpoint(),
            segmentation=f"{R}/segmentation/superres.safetensors",
        output:
            generator=f"{R}/superres/joint.safetensors",
            segmenter=f"{R}/segmentation/joint.safetensors",
            history=f"{R}/segmentation/joint.csv",
            panel=report(
                f"{R}/segmentation/joint.png",
                category="Segmentation",
                caption="../docs/captions/joint.rst",
            ),
            manifest=manifest("joint"),
        log:
            f"{R}/logs/joint.log",
        benchmark:
            f"{R}/benchmarks/joint.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=per_attempt(8000),
            runtime=per_attempt(2880),
        params:
            training=C.joint.model_dump(exclude={"start"}),
            loss={name: value for name, value in SG.training if name.endswith("_weight") or name == "points"},
            seed=C.seed,
            threads=C.threads,
            state=f"{R}/.jointseg/training/joint.pt",
            events=f"{R}/logs/tensorboard/joint",
            code=code("joint"),
            environment=packages("joint"),
        message:
            "Fine-tuning super-resolution and segmentation together"
        script:
            "step.py"
