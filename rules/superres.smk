if C.superres is not None:
    SR = C.superres.presets[C.superres.preset]

    rule superres_stage1:
        input:
            unpack(lambda wildcards: {"pretrained": C.superres.pretrained} if C.superres.pretrained else {}),
            index=rules.dataset.output.index,
            statistics=rules.dataset.output.statistics,
            chips=rules.dataset.input.chips,
        output:
            checkpoint=f"{R}/superres/stage1.safetensors",
            history=f"{R}/superres/stage1.csv",
            panel=report(
                f"{R}/superres/stage1.png",
                category="Super-resolution",
                caption="../docs/captions/superres.rst",
            ),
            manifest=manifest("superres_stage1"),
        log:
            f"{R}/logs/superres_stage1.log",
        benchmark:
            f"{R}/benchmarks/superres_stage1.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=per_attempt(6000),
            runtime=per_attempt(2880),
        params:
            model=SR.model.model_dump(),
            training=SR.stage1.model_dump(),
            seed=C.seed,
            threads=C.threads,
            state=f"{R}/.jointseg/training/superres_stage1.pt",
            events=f"{R}/logs/tensorboard/superres_stage1",
            code=code("superres_stage1"),
            environment=packages("superres_stage1"),
        message:
            "Training super-resolution from 10 m to 2.5 m with L1"
        script:
            "step.py"

    rule superres_stage2:
        input:
            index=rules.dataset.output.index,
            statistics=rules.dataset.output.statistics,
            chips=rules.dataset.input.chips,
            stage1=rules.superres_stage1.output.checkpoint,
        output:
            checkpoint=f"{R}/superres/stage2.safetensors",
            history=f"{R}/superres/stage2.csv",
            panel=report(
                f"{R}/superres/stage2.png",
                category="Super-resolution",
                caption="../docs/captions/superres.rst",
            ),
            manifest=manifest("superres_stage2"),
        log:
            f"{R}/logs/superres_stage2.log",
        benchmark:
            f"{R}/benchmarks/superres_stage2.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=per_attempt(6000),
            runtime=per_attempt(2880),
        params:
            model=SR.model.model_dump(),
            training=SR.stage2.model_dump(),
            seed=C.seed,
            threads=C.threads,
            state=f"{R}/.jointseg/training/superres_stage2.pt",
            events=f"{R}/logs/tensorboard/superres_stage2",
            code=code("superres_stage2"),
            environment=packages("superres_stage2"),
        message:
            "Training super-resolution from 2.5 m to 1 m with L1"
        script:
            "step.py"

    rule superres_adversarial:
        input:
            unpack(perceptual_weights),
            index=rules.dataset.output.index,
            statistics=rules.dataset.output.statistics,
            chips=rules.dataset.input.chips,
            stage2=rules.superres_stage2.output.checkpoint,
        output:
            checkpoint=f"{R}/superres/adversarial.safetensors",
            discriminators=f"{R}/superres/discriminators.safetensors",
            history=f"{R}/superres/adversarial.csv",
            panel=report(
                f"{R}/superres/adversarial.png",
                category="Super-resolution",
                caption="../docs/captions/superres.rst",
            ),
            manifest=manifest("superres_adversarial"),
        log:
            f"{R}/logs/superres_adversarial.log",
        benchmark:
            f"{R}/benchmarks/superres_adversarial.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=per_attempt(6000),
            runtime=per_attempt(2880),
        params:
            model=SR.model.model_dump(),
            training=SR.adversarial.model_dump(exclude={"perceptual_weights"}),
            seed=C.seed,
            threads=C.threads,
            state=f"{R}/.jointseg/training/superres_adversarial.pt",
            events=f"{R}/logs/tensorboard/superres_adversarial",
            code=code("superres_adversarial"),
            environment=packages("superres_adversarial"),
        message:
            "Fine-tuning super-resolution with L1, perceptual and adversarial losses"
        script:
            "step.py"

    rule superres_chips:
        input:
            unpack(lambda wildcards: {"superres": generator_checkpoint()} if wildcards.method == "superres" else {}),
            index=rules.dataset.output.index,
            statistics=rules.dataset.output.statistics,
            chips=rules.dataset.input.chips,
        output:
            images=directory(f"{R}/superres/chips/{{method}}"),
            manifest=manifest("superres_chips/{method}"),
        log:
            f"{R}/logs/superres_chips/{{method}}.log",
        benchmark:
            f"{R}/benchmarks/superres_chips/{{method}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=per_attempt(4000),
            runtime=per_attempt(240),
        params:
            threads=C.threads,
            channels=C.segmentation.presets[C.segmentation.preset].model.in_channels,
            code=code("superres_chips"),
            environment=packages("superres_chips"),
        message:
            "Upsampling every chip to 1 m: {wildcards.method}"
        script:
            "step.py"
