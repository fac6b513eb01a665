"""Config sections `superres`, `segmentation`, `joint` and `ablation`: networks and their training."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from jointseg.config.dataset import Splits
from jointseg.config.types import Count, Fraction, Name, Section

Variant = Literal[
    "bilinear",
    "direct",
    "single",
    "l1",
    "adversarial",
    "joint",
    "bilinear-nir",
    "direct-nir",
    "nir",
    "bilinear-dates",
    "direct-dates",
    "dates",
    "dates-joint",
    "nir-dates-joint",
    "hr",
]


class Generator(Section):
    """An RRDB network."""

    features: Count = Field(64, description="Channels of the trunk.")
    growth: Count = Field(32, description="Channels that each convolution of a dense block adds (growth rate).")
    blocks: Count = Field(23, description="Residual-in-residual dense blocks.")
    unshuffle: Literal[1, 2, 4] = Field(1, description="Factor of the pixel unshuffle before the trunk.")
    upsampling: Literal["nearest", "shuffle", "bilinear"] = Field("nearest", description="Upsampling method.")
    tail: Count | None = Field(None, description="Channels after the upsampling; null: as many as the trunk.")


class Generators(Section):
    stage1: Generator = Field(description="10 m -> 2.5 m.")
    stage2: Generator = Field(description="2.5 m -> 1 m.")
    consistent: bool = Field(
        False,
        description="Correct the 1 m image by back-projection: consistent with the 10 m input when degraded to 10 m.",
    )


class Training(Section):
    """Settings of every training."""

    steps: Count = Field(description="Optimiser steps.")
    batch: Count = Field(description="Samples per step.")
    learning_rate: PositiveFloat = Field(description="Peak learning rate.")
    warmup: NonNegativeInt = Field(0, description="Steps of linear learning-rate warm-up.")
    schedule: Literal["cosine", "poly", "halving", "constant"] = Field(
        "cosine", description="Learning-rate schedule after the warm-up."
    )
    ema: Fraction = Field(0.999, description="Decay of the exponential moving average of the weights, which is saved.")
    clip: PositiveFloat = Field(1.0, description="Maximum gradient norm.")
    validate_every: Count = Field(1000, description="Steps between validations.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Arithmetic of the forward pass.")
    devices: Count = Field(1, description="Processes on one machine that share each batch; one per GPU.")
    jitter: NonNegativeFloat = Field(0.0, description="Maximum relative change of a band's gain (augmentation).")


class StageTraining(Training):
    patch_px: Annotated[int, Field(ge=8)] = Field(description="Side of a patch, 10 m pixels.")
    validation_chips: Count = Field(64, description="Chips per validation.")
    shift_m: NonNegativeFloat = Field(
        0, description="Maximum shift, m, over which the L1 loss of a patch is minimised."
    )


class Stage2Training(StageTraining):
    stage1_weight: NonNegativeFloat = Field(0, description="Weight of the loss of stage 1; 0 freezes stage 1.")


class AdversarialTraining(Stage2Training):
    l1: NonNegativeFloat = Field(1.0, description="Weight of the L1 loss.")
    perceptual: NonNegativeFloat = Field(1.0, description="Weight of the perceptual loss.")
    perceptual_backbone: Literal["efficientnet_lite0", "vgg19", "segmenter"] = Field(
        "efficientnet_lite0", description="Network whose features the perceptual loss compares."
    )
    perceptual_weights: str | None = Field(None, description="Weights file of the backbone, for vgg19 and segmenter.")
    perceptual_layers: list[float] = Field([0.1, 1.0, 1.0], description="Weights of the feature layers.")
    adversarial: NonNegativeFloat = Field(0.1, description="Weight of the adversarial loss.")
    discriminator_features: Count = Field(64, description="Channels of the U-Net discriminators.")
    discriminator_learning_rate: PositiveFloat = Field(1e-4, description="Learning rate of the discriminators.")


class SuperResPreset(Section):
    model: Generators
    stage1: StageTraining = Field(description="Training with L1 at 2.5 m.")
    stage2: Stage2Training = Field(description="Training with L1 at 1 m.")
    adversarial: AdversarialTraining = Field(description="Fine-tuning with L1 + perceptual + adversarial losses.")


class Mask2Former(Section):
    """Swin backbone, pixel decoder and transformer decoder."""

    in_channels: Literal[3, 4] = Field(3, description="Bands of the input: RGB, or RGB and near infrared.")
    embed_dim: Count = Field(description="Channels of the first Swin stage.")
    depths: list[Count] = Field(description="Blocks of the Swin stages.")
    heads: list[Count] = Field(description="Attention heads of the Swin stages.")
    window: Count = Field(description="Side of the attention windows, patches.")
    patch: Count = Field(4, description="Side of a patch, pixels.")
    drop_path: Fraction = Field(0.0, description="Stochastic depth rate.")
    hidden_dim: Count = Field(description="Channels of the pixel and transformer decoders.")
    encoder_layers: Count = Field(description="Layers of the pixel decoder.")
    encoder_feedforward: Count = Field(description="Feed-forward channels of the pixel decoder.")
    decoder_layers: Count = Field(description="Layers of the transformer decoder.")
    feedforward: Count = Field(description="Feed-forward channels of the transformer decoder.")
    attention_heads: Count = Field(description="Attention heads of the transformer decoder.")
    queries: Count = Field(description="Object queries.")


class SegmentationTraining(Training):
    crop_px: Annotated[int, Field(ge=32, multiple_of=32)] = Field(description="Side of a crop, 1 m pixels.")
    backbone_factor: PositiveFloat = Field(1.0, description="Factor of the learning rate for the backbone.")
    weight_decay: NonNegativeFloat = Field(0.05, description="Weight decay of AdamW.")
    class_weight: NonNegativeFloat = Field(2, description="Weight of the classification loss.")
    mask_weight: NonNegativeFloat = Field(5, description="Weight of the cross-entropy of masks.")
    dice_weight: NonNegativeFloat = Field(5, description="Weight of the Dice loss of masks.")
    no_object_weight: NonNegativeFloat = Field(0.1, description="Weight of the no-object class.")
    dense_weight: NonNegativeFloat = Field(0, description="Weight of a per-pixel loss of the semantic map.")
    pixel_weight: NonNegativeFloat = Field(0, description="Weight of a per-pixel loss of the pixel features.")
    points: Count = Field(12544, description="Sampled points per mask at which the mask losses are computed.")


class SegmentationPreset(Section):
    model: Mask2Former
    training: SegmentationTraining


def _preset_exists(section: Any) -> Any:
    if section.preset not in section.presets:
        raise ValueError(f"preset {section.preset!r} is not one of {sorted(section.presets)}")
    return section


class Joint(Training):
    """Joint fine-tuning of super-resolution and segmentation as one network; leave out to skip it."""

    start: Literal["stage2", "adversarial"] = Field(
        "adversarial", description="Generator to start from; the segmenter is first trained on its images."
    )
    crop_px: Annotated[int, Field(ge=160, multiple_of=160)] = Field(description="Side of a crop, 1 m pixels.")
    generator_learning_rate: PositiveFloat = Field(1e-4, description="Learning rate of the generator.")
    image: NonNegativeFloat = Field(10.0, description="Weight of the L1 loss of the 1 m image.")
    consistency: NonNegativeFloat = Field(10.0, description="Weight of the L1 loss of the 1 m image degraded to 10 m.")


class TextureArea(Section):
    name: Name = Field(description="Name of the area, used as a reach.")
    images: str = Field(description="Glob pattern of the 1 m images in the folder: tiles of one mosaic, row by row.")
    labels: str = Field(description="Glob pattern of their labels, in the same order.")
    columns: Count = Field(description="Tiles per row.")


class Textures(Section):
    """Labelled high-resolution images with simulated Sentinel-2 images, on which the ablation is repeated."""

    folder: str = Field(description="Folder of the images and labels.")
    areas: list[TextureArea] = Field(min_length=1, description="Areas; each is divided into one part per split.")
    colours: dict[
        Annotated[str, Field(pattern="^[0-9A-F]{6}$")],
        Literal["none", "unlabelled", "road", "building", "airport", "plaza", "sports", "industrial"],
    ] = Field(description="Class of each label colour, RRGGBB: a kind of ISA, none (not impervious) or unlabelled.")
    splits: Splits = Splits()
    buffer_m: Annotated[int, Field(ge=0, multiple_of=10)] = Field(
        100, description="Width of the unused strip between parts, m."
    )
    chip_m: Annotated[int, Field(ge=160, multiple_of=20)] = Field(320, description="Side of a chip, m.")
    dates: Annotated[int, Field(ge=1, le=8)] = Field(8, description="Number of simulated Sentinel-2 acquisitions.")
    segmentation_steps: Count | None = Field(None, description="Training steps of a segmenter; null: as in the preset.")
    title: str = Field("Ablation on real textures", description="Title of the page.")
    about: str = Field("", description="Description of the images for the page.")


class Ablation(Section):
    """Ablation: method variants trained with equal budgets and several seeds, scored on the same test chips.

    Leave out to skip it. The presets of superres and segmentation set the training budgets; the joint variants use
    `generator_learning_rate`, `image` and `consistency` of this section.
    """

    variants: list[Variant] = Field(
        ["bilinear", "direct", "single", "l1", "adversarial", "joint", "hr"],
        min_length=1,
        description="Variants; bilinear is the lower bound and hr (the true 1 m image) the upper bound of the others.",
    )
    seeds: list[NonNegativeInt] = Field(
        [1, 2, 3], min_length=1, description="Seeds; every variant is trained once per seed."
    )
    generator_learning_rate: PositiveFloat = Field(
        2e-4, description="Learning rate of the generator in joint training."
    )
    image: NonNegativeFloat = Field(10.0, description="Weight of the L1 loss of the 1 m image in joint training.")
    consistency: NonNegativeFloat = Field(10.0, description="Weight of the L1 loss of the 1 m image degraded to 10 m.")
    title: str = Field("Ablation", description="Title of the page.")
    about: str = Field("", description="Description of the dataset for the page.")
    textures: Textures | None = None


class SuperRes(Section):
    preset: str = Field(description="Name of a preset.")
    final: Literal["stage2", "adversarial", "joint"] = Field(
        "adversarial", description="Generator to map with; joint uses the jointly fine-tuned segmenter too."
    )
    presets: dict[str, SuperResPreset] = Field(description="Presets: size and training of Prog-ESRGAN.")
    pretrained: str | None = Field(
        None, description="ESRGAN generator (.pth, .safetensors) to initialise stage 1; null: random."
    )
    _valid_preset = model_validator(mode="after")(_preset_exists)


class Segmentation(Section):
    preset: str = Field(description="Name of a preset.")
    presets: dict[str, SegmentationPreset] = Field(description="Presets: size and training of Mask2Former.")
    _valid_preset = model_validator(mode="after")(_preset_exists)
