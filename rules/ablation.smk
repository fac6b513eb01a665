if C.ablation is not None:
    from jointseg.ablation.arms import ARMS, START

    AB = f"{R}/ablation"
    RUNS = [(arm, seed) for arm in C.ablation.arms for seed in C.ablation.seeds]

    wildcard_constraints:
        arm="|".join(ARMS),
        bands="rgb|nir|dates|nir-dates",
        kind="stage1|l1|adversarial|single",
        seed=r"\d+",

    def alone(training, without=None):
        """A training in one process: it is the arms that run side by side."""
        return training.model_dump(exclude=without) | {"devices": 1}

    def ablation_start(wildcards):
        """The checkpoint that a generator goes on from."""
        kind = START.get(wildcards.kind)
        return {"start": f"{AB}/generators/{wildcards.bands}/{kind}/{wildcards.seed}.safetensors"} if kind else {}

    def ablation_generator_of(wildcards):
        """The generator of an arm."""
        arm = ARMS[wildcards.arm]
        path = f"{AB}/generators/{arm.bands}/{arm.generator}/{wildcards.seed}.safetensors"
        return {"start": path} if arm.generator else {}

    def ablation_facts():
        """What was trained, for the page."""
        sr, sg = SR, SG.training
        return [
            f"generators: preset {C.superres.preset}, {sr.stage1.steps} + {sr.stage2.steps} steps with L1 and "
            f"{sr.adversarial.steps} adversarial, batches of {sr.stage1.batch} patches of {10 * sr.stage1.patch_px} m",
            f"segmenters: Mask2Former, preset {C.segmentation.preset}, {sg.steps} steps, batches of {sg.batch} crops of "
            f"{sg.crop_px} m; the one without an image as many steps as generator and segmenter together",
            "intervals are of 95 % and cover the test chips and the seeds; differences are paired by chip and seed",
        ]

    rule ablation_bands:
        input:
            statistics=rules.dataset.output.statistics,
        output:
            reduced=f"{AB}/statistics/{{bands}}.json",
            manifest=manifest("ablation_bands/{bands}"),
        log:
            f"{R}/logs/ablation_bands/{{bands}}.log",
        benchmark:
            f"{R}/benchmarks/ablation_bands/{{bands}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=500,
        params:
            code=code("ablation_bands"),
            environment=packages("ablation_bands"),
        message:
            "Statistics of the bands {wildcards.bands}"
        script:
            "step.py"

    rule ablation_generator:
        input:
            unpack(ablation_start),
            unpack(lambda wildcards: perceptual(wildcards) if wildcards.kind == "adversarial" else {}),
            index=rules.dataset.output.index,
            statistics=rules.ablation_bands.output.reduced,
            chips=rules.dataset.input.chips,
        output:
            checkpoint=f"{AB}/generators/{{bands}}/{{kind}}/{{seed}}.safetensors",
            history=f"{AB}/generators/{{bands}}/{{kind}}/{{seed}}.csv",
            panel=f"{AB}/generators/{{bands}}/{{kind}}/{{seed}}.png",
            manifest=manifest("ablation_generator/{bands}/{kind}/{seed}"),
        log:
            f"{R}/logs/ablation_generator/{{bands}}/{{kind}}/{{seed}}.log",
        benchmark:
            f"{R}/benchmarks/ablation_generator/{{bands}}/{{kind}}/{{seed}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=6000,
        params:
            model=SR.model.model_dump(),
            stage1=alone(SR.stage1),
            stage2=alone(SR.stage2),
            adversarial=alone(SR.adversarial, {"perceptual_weights"}),
            threads=C.threads,
            state=f"{R}/.jointseg/training/ablation/{{bands}}-{{kind}}-{{seed}}/state.pt",
            code=code("ablation_generator"),
            environment=packages("ablation_generator"),
        message:
            "Training the generator {wildcards.kind} of the bands {wildcards.bands}, seed {wildcards.seed}"
        script:
            "step.py"

    rule ablation_arm:
        input:
            unpack(lambda wildcards: TRUTH),
            unpack(ablation_generator_of),
            index=rules.dataset.output.index,
            statistics=lambda wildcards: f"{AB}/statistics/{ARMS[wildcards.arm].bands}.json",
            chips=rules.dataset.input.chips,
        output:
            trained=directory(f"{AB}/arms/{{arm}}/{{seed}}"),
            counts=f"{AB}/counts/{{arm}}/{{seed}}.csv",
            likeness=f"{AB}/likeness/{{arm}}/{{seed}}.csv",
            pictures=directory(f"{AB}/pictures/{{arm}}/{{seed}}"),
            manifest=manifest("ablation_arm/{arm}/{seed}"),
        log:
            f"{R}/logs/ablation_arm/{{arm}}/{{seed}}.log",
        benchmark:
            f"{R}/benchmarks/ablation_arm/{{arm}}/{{seed}}.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: C.threads
        resources:
            mem_mb=6000,
        params:
            schedule={
                "model": SG.model.model_dump(),
                "training": alone(SG.training),
                "generator": SR.model.model_dump(),
                "direct_steps": SR.stage1.steps + SR.stage2.steps + SG.training.steps,
                "joint": C.ablation.model_dump(include={"generator_learning_rate", "image", "consistency"}),
            },
            threads=C.threads,
            work=f"{R}/.jointseg/training/ablation/{{arm}}-{{seed}}",
            year=C.map_year,
            code=code("ablation_arm"),
            environment=packages("ablation_arm"),
        message:
            "Training and scoring the arm {wildcards.arm}, seed {wildcards.seed}"
        script:
            "step.py"

    rule ablation:
        input:
            index=rules.dataset.output.index,
            chips=rules.dataset.input.chips,
            counts=[f"{AB}/counts/{arm}/{seed}.csv" for arm, seed in RUNS],
            likeness=[f"{AB}/likeness/{arm}/{seed}.csv" for arm, seed in RUNS],
            pictures=[f"{AB}/pictures/{arm}/{C.ablation.seeds[0]}" for arm in C.ablation.arms],
        output:
            table=f"{AB}/ablation.csv",
            scores=f"{AB}/images.csv",
            document=f"{AB}/ablation.md",
            figure=report(f"{AB}/ablation.png", category="Ablation", caption="../docs/captions/ablation.rst"),
            panels=report(f"{AB}/panels.png", category="Ablation", caption="../docs/captions/ablation.rst"),
            manifest=manifest("ablation"),
        log:
            f"{R}/logs/ablation.log",
        benchmark:
            f"{R}/benchmarks/ablation.tsv"
        conda:
            "../envs/jointseg.yaml"
        threads: 1
        resources:
            mem_mb=2000,
        params:
            runs=RUNS,
            arms=C.ablation.arms,
            title=C.title,
            about=C.ablation.about,
            facts=ablation_facts(),
            code=code("ablation"),
            environment=packages("ablation"),
        message:
            "Comparing the arms of the ablation"
        script:
            "step.py"
