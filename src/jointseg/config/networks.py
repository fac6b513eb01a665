"""The part of the config that sizes and trains the networks."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

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
    """One RRDB network."""

    features: Count = Field(64, description="Channels of the trunk.")
    growth: Count = Field(32, description="Channels that each convolution of a dense block adds.")
    blocks: Count = Field(23, description="Residual-in-residual dense blocks.")
    unshuffle: Literal[1, 2, 4] = Field(1, description="The trunk runs on a grid this much coarser.")
    upsampling: Literal["nearest", "shuffle", "bilinear"] = Field(
        "nearest", description="How the output grid is reached."
    )
    tail: Count | None = Field(None, description="Channels on the output grid; as many as the trunk without.")


class Generators(Section):
    stage1: Generator = Field(description="10 m -> 2.5 m.")
    stage2: Generator = Field(description="2.5 m -> 1 m.")
    consistent: bool = Field(
        False, description="The 1 m image, seen at 10 m again, is brought to the image it was made of."
    )


class Descent(Section):
    """What every training has."""

    steps: Count = Field(description="Optimiser steps.")
    batch: Count = Field(description="Patches a step.")
    learning_rate: Annotated[float, Field(gt=0)]
    warmup: Annotated[int, Field(ge=0)] = Field(0, description="Steps over which the learning rate rises.")
    schedule: Literal["cosine", "poly", "halving", "constant"] = Field("cosine", description="How it falls.")
    ema: Fraction = Field(0.999, description="Decay of the weight average that is saved.")
    clip: Annotated[float, Field(gt=0)] = Field(1.0, description="Largest gradient norm.")
    validate_every: Count = Field(1000, description="Steps between validations.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the forward pass.")
    devices: Count = Field(
        1, description="Processes of one machine that share each batch; one a GPU, where there are any."
    )
    jitter: Annotated[float, Field(ge=0)] = Field(0.0, description="Largest random change of a band's gain.")


class StageTraining(Descent):
    patch_px: Annotated[int, Field(ge=8)] = Field(description="Side of a patch in 10 m pixels.")
    validation_chips: Count = Field(64, description="Chips scored at a validation.")
    shift_m: Annotated[float, Field(ge=0)] = Field(
        0, description="Each patch's L1 is the smallest over shifts up to this; 0 takes the pair as it lies."
    )


class Stage2Training(StageTraining):
    stage1_weight: Annotated[float, Field(ge=0)] = Field(0, description="Weight of stage 1's own loss; 0 freezes it.")


class AdversarialTraining(Stage2Training):
    l1: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of the L1 loss.")
    perceptual: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of the perceptual loss.")
    perceptual_backbone: Literal["efficientnet_lite0", "vgg19", "segmenter"] = Field(
        "efficientnet_lite0", description="Whose features the perceptual loss compares."
    )
    perceptual_weights: str | None = Field(None, description="File of its weights, for vgg19 and segmenter.")
    perceptual_layers: list[float] = Field([0.1, 1.0, 1.0], description="Weights of the backbone's features.")
    adversarial: Annotated[float, Field(ge=0)] = Field(0.1, description="Weight of the adversarial loss.")
    discriminator_features: Count = Field(64, description="Channels of the U-Net discriminators.")
    discriminator_learning_rate: Annotated[float, Field(gt=0)] = 1e-4


class SuperResPreset(Section):
    model: Generators
    stage1: StageTraining = Field(description="L1 at 2.5 m.")
    stage2: Stage2Training = Field(description="L1 at 1 m.")
    adversarial: AdversarialTraining = Field(description="Fine-tuning with L1 + perceptual + adversarial losses.")


class Mask2Former(Section):
    """Swin backbone, pixel decoder and transformer decoder."""

    in_channels: Literal[3, 4] = Field(3, description="Bands of the 1 m image: RGB, or with near infrared upsampled.")
    embed_dim: Count
    depths: list[Count]
    heads: list[Count]
    window: Count
    patch: Count = 4
    drop_path: Fraction = 0.0
    hidden_dim: Count
    encoder_layers: Count
    encoder_feedforward: Count
    decoder_layers: Count
    feedforward: Count
    attention_heads: Count
    queries: Count


class SegmentationTraining(Descent):
    crop_px: Annotated[int, Field(ge=32, multiple_of=32)] = Field(description="Side of a crop in 1 m pixels.")
    backbone_factor: Annotated[float, Field(gt=0)] = Field(1.0, description="Learning rate of the backbone, relative.")
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    class_weight: Annotated[float, Field(ge=0)] = 2
    mask_weight: Annotated[float, Field(ge=0)] = 5
    dice_weight: Annotated[float, Field(ge=0)] = 5
    no_object_weight: Annotated[float, Field(ge=0)] = 0.1
    dense_weight: Annotated[float, Field(ge=0)] = Field(0, description="Weight of a loss on the semantic map itself.")
    pixel_weight: Annotated[float, Field(ge=0)] = Field(0, description="Weight of the same loss on the pixel features.")
    points: Count = Field(12544, description="Points at which masks are compared.")


class SegmentationPreset(Section):
    model: Mask2Former
    training: SegmentationTraining


def _has_preset(section: Any) -> Any:
    if section.preset not in section.presets:
        raise ValueError(f"preset {section.preset!r} is none of {sorted(section.presets)}")
    return section


class Joint(Descent):
    """Super-resolution and segmentation fine-tuned as one network; without this section it is not done."""

    start: Literal["stage2", "adversarial"] = Field(
        "adversarial", description="The generator to start from, of whose images the segmenter is trained first."
    )
    crop_px: Annotated[int, Field(ge=160, multiple_of=160)] = Field(description="Side of a crop in 1 m pixels.")
    generator_learning_rate: Annotated[float, Field(gt=0)] = Field(
        1e-4, description="Of the generator; learning_rate is the segmenter's."
    )
    image: Annotated[float, Field(ge=0)] = Field(10.0, description="Weight of the L1 loss of the image at 1 m.")
    consistency: Annotated[float, Field(ge=0)] = Field(
        10.0, description="Weight of the L1 loss of the image seen at 10 m again."
    )


class TextureArea(Section):
    name: Name = Field(description="Of the area; it stands where the dataset has a reach.")
    images: str = Field(description="Pattern of its 1 m images below the folder: tiles of one mosaic, row by row.")
    labels: str = Field(description="Pattern of their labels, in the same order.")
    columns: Count = Field(description="Tiles in a row.")


class Textures(Section):
    """Labelled high-resolution images on which the ablation is done too, their Sentinel-2 side simulated."""

    folder: str = Field(description="Of the images.")
    areas: list[TextureArea] = Field(min_length=1, description="Places; each is cut into parts, one a split.")
    colours: dict[
        Annotated[str, Field(pattern="^[0-9A-F]{6}$")],
        Literal["none", "unknown", "road", "building", "airport", "plaza", "sports", "industrial"],
    ] = Field(description="Colour of the labels, RRGGBB -> kind of ISA, none (not impervious) or unknown.")
    splits: Splits = Splits()
    buffer_m: Annotated[int, Field(ge=0, multiple_of=10)] = Field(100, description="Ground left out between the parts.")
    chip_m: Annotated[int, Field(ge=160, multiple_of=20)] = Field(320, description="Side of a chip.")
    dates: Annotated[int, Field(ge=1, le=8)] = Field(8, description="Simulated Sentinel-2 dates.")
    segmentation_steps: Count | None = Field(
        None, description="Steps of a segmenter on them; those of its preset where left out."
    )
    title: str = Field("Ablation on real textures", description="Of the page.")
    about: str = Field("", description="What the images are, for the page.")


class Ablation(Section):
    """Ways to map trained alike, with several seeds, and scored on the same test chips: rule ablation.

    Without this section it is not done. The presets of superres and segmentation are the schedule; the segmenter trained
    together with a generator takes `generator_learning_rate`, `image` and `consistency` from here.
    """

    variants: list[Variant] = Field(
        ["bilinear", "direct", "single", "l1", "adversarial", "joint", "hr"],
        min_length=1,
        description="Ways to map; bilinear and hr (the true 1 m image) are the ends of the gap that the others may close.",
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field([1, 2, 3], min_length=1, description="Trainings of every variant.")
    generator_learning_rate: Annotated[float, Field(gt=0)] = Field(
        2e-4, description="Of a generator that goes on learning with the segmenter."
    )
    image: Annotated[float, Field(ge=0)] = Field(10.0, description="Weight of the L1 loss of its image at 1 m.")
    consistency: Annotated[float, Field(ge=0)] = Field(
        10.0, description="Weight of the L1 loss of its image seen at 10 m again."
    )
    title: str = Field("Ablation", description="Of the page.")
    about: str = Field("", description="What the dataset is, for the page.")
    textures: Textures | None = None


class SuperRes(Section):
    preset: str = Field(description="One of the presets.")
    final: Literal["stage2", "adversarial", "joint"] = Field(
        "adversarial", description="The generator that maps; joint goes with the segmenter fine-tuned beside it."
    )
    presets: dict[str, SuperResPreset] = Field(description="Sizes and training of Prog-ESRGAN.")
    pretrained: str | None = Field(
        None, description="File of a public ESRGAN generator (.pth or .safetensors) from which stage 1 starts."
    )
    _known = model_validator(mode="after")(_has_preset)


class Segmentation(Section):
    preset: str = Field(description="One of the presets.")
    presets: dict[str, SegmentationPreset] = Field(description="Sizes and training of Mask2Former.")
    _known = model_validator(mode="after")(_has_preset)
