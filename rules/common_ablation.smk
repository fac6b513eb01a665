from jointseg.ablation.variants import INITIAL_GENERATOR, VARIANTS


def single_process(training, exclude=None):
    """The settings of a training in one process: variants are trained side by side instead."""
    return training.model_dump(exclude=exclude) | {"devices": 1}


def checkpoint_of(wildcards, bands, kind):
    return f"{R}/ablation/{wildcards.data}/generators/{bands}/{kind}/{wildcards.seed}.safetensors"


def ablation_start(wildcards):
    """The checkpoint that a generator is initialised from."""
    kind = INITIAL_GENERATOR.get(wildcards.kind)
    return {"start": checkpoint_of(wildcards, wildcards.bands, kind)} if kind else {}


def ablation_generator_of(wildcards):
    """The generator of a variant."""
    variant = VARIANTS[wildcards.variant]
    return {"start": checkpoint_of(wildcards, variant.bands, variant.generator)} if variant.generator else {}


def data_of(wildcards):
    """Index and chips of the dataset of an ablation."""
    if wildcards.data == "textures":
        return {"index": rules.textures.output.index, "chips": rules.textures.output.chips}
    return {"index": rules.dataset.output.index, "chips": rules.dataset.input.chips}


def statistics_of(wildcards):
    rule_of_data = rules.textures if wildcards.data == "textures" else rules.dataset
    return rule_of_data.output.statistics


def variants_of(data):
    """The variants whose bands the dataset has: texture images have no near infrared."""
    return [variant for variant in C.ablation.variants if data == "dataset" or "nir" not in VARIANTS[variant].bands]


def runs_of(data):
    return [(variant, seed) for variant in variants_of(data) for seed in C.ablation.seeds]


def description_of(wildcards):
    """The config section with title and description of the dataset."""
    return C.ablation.textures if wildcards.data == "textures" else C.ablation


def tables_of_runs(kind):
    """The tables of all runs on one dataset."""
    return lambda wildcards: [
        f"{R}/ablation/{wildcards.data}/{kind}/{variant}/{seed}.csv" for variant, seed in runs_of(wildcards.data)
    ]


def segmenter_training(data):
    """The settings of the training of a segmenter."""
    training = single_process(SG.training)
    steps = C.ablation.textures.segmentation_steps if data == "textures" else None
    return training | ({"steps": steps, "validate_every": steps} if steps else {})


def ablation_schedule(wildcards):
    """The settings that all variants on one dataset share."""
    training = segmenter_training(wildcards.data)
    return {
        "model": SG.model.model_dump(),
        "training": training,
        "generator": SR.model.model_dump(),
        "direct_steps": SR.stage1.steps + SR.stage2.steps + training["steps"],
        "joint": C.ablation.model_dump(include={"generator_learning_rate", "image", "consistency"}),
    }


def ablation_setup(data):
    """Sentences on trainings and statistics for the page."""
    sr, sg = C.superres.presets[C.superres.preset], segmenter_training(data)
    return [
        f"Generators: preset {C.superres.preset}, {sr.stage1.steps} + {sr.stage2.steps} steps with L1 loss and "
        f"{sr.adversarial.steps} adversarial steps, batches of {sr.stage1.batch} patches of {10 * sr.stage1.patch_px} m.",
        f"Segmenters: Mask2Former, preset {C.segmentation.preset}, {sg['steps']} steps, batches of {sg['batch']} crops of "
        f"{sg['crop_px']} m; variants without image are trained for the steps of generator and segmenter together.",
        "Brackets and CI: 95 % confidence intervals over test chips and seeds; differences are paired by chip and seed.",
    ]
