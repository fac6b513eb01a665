from jointseg.ablation.variants import VARIANTS, INITIAL_GENERATOR


def alone(training, without=None):
    """A training in one process: it is the variants that run side by side."""
    return training.model_dump(exclude=without) | {"devices": 1}


def checkpoint_of(wildcards, bands, kind):
    return f"{R}/ablation/{wildcards.data}/generators/{bands}/{kind}/{wildcards.seed}.safetensors"


def ablation_start(wildcards):
    """The checkpoint that a generator goes on from."""
    kind = INITIAL_GENERATOR.get(wildcards.kind)
    return {"start": checkpoint_of(wildcards, wildcards.bands, kind)} if kind else {}


def ablation_generator_of(wildcards):
    """The generator of an variant."""
    variant = VARIANTS[wildcards.variant]
    return {"start": checkpoint_of(wildcards, variant.bands, variant.generator)} if variant.generator else {}


def data_of(wildcards):
    """What an ablation is trained and scored on."""
    if wildcards.data == "textures":
        return {"index": rules.textures.output.index, "chips": rules.textures.output.chips}
    return {"index": rules.dataset.output.index, "chips": rules.dataset.input.chips}


def statistics_of(wildcards):
    made = rules.textures if wildcards.data == "textures" else rules.dataset
    return made.output.statistics


def arms_of(data):
    """The variants that the bands of the data allow: pictures have no near infrared."""
    return [variant for variant in C.ablation.variants if data == "dataset" or "nir" not in VARIANTS[variant].bands]


def runs_of(data):
    return [(variant, seed) for variant in arms_of(data) for seed in C.ablation.seeds]


def told_of(wildcards):
    """Where the config tells title and nature of the data."""
    return C.ablation.textures if wildcards.data == "textures" else C.ablation


def of_runs(kind):
    """The tables of all runs of the wildcard's data."""
    return lambda wildcards: [
        f"{R}/ablation/{wildcards.data}/{kind}/{variant}/{seed}.csv" for variant, seed in runs_of(wildcards.data)
    ]


def segmenter_training(data):
    """The training of a segmenter."""
    own = alone(SG.training)
    steps = C.ablation.textures.segmentation_steps if data == "textures" else None
    return own | ({"steps": steps, "validate_every": steps} if steps else {})


def ablation_schedule(wildcards):
    """What all variants on one kind of data share."""
    training = segmenter_training(wildcards.data)
    return {
        "model": SG.model.model_dump(),
        "training": training,
        "generator": SR.model.model_dump(),
        "direct_steps": SR.stage1.steps + SR.stage2.steps + training["steps"],
        "joint": C.ablation.model_dump(include={"generator_learning_rate", "image", "consistency"}),
    }


def ablation_facts(data):
    """What was trained, for the page."""
    sr, sg = C.superres.presets[C.superres.preset], segmenter_training(data)
    return [
        f"generators: preset {C.superres.preset}, {sr.stage1.steps} + {sr.stage2.steps} steps with L1 and "
        f"{sr.adversarial.steps} adversarial, batches of {sr.stage1.batch} patches of {10 * sr.stage1.patch_px} m",
        f"segmenters: Mask2Former, preset {C.segmentation.preset}, {sg['steps']} steps, batches of {sg['batch']} crops of "
        f"{sg['crop_px']} m; the one without an image as many steps as generator and segmenter together",
        "intervals are of 95 % and cover the test chips and the seeds; differences are paired by chip and seed",
    ]
