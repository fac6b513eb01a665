"""Settings of the trainings, as in the config, checked on construction."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self

from jointseg.models.mask_loss import LossWeights
from jointseg.runtime.errors import DataError
from jointseg.training.compute import autocast_dtype
from jointseg.training.schedule import SCHEDULES


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings that every training has.

    Attributes:
        steps: optimiser steps.
        batch: samples per step, over all processes.
        learning_rate: of the first step after `warmup` steps.
        schedule: name of a learning-rate schedule.
        clip: largest gradient norm.
        ema: decay of the weight average.
        validate_every: steps between validations.
        precision: of the forward pass, "fp32" or "bf16".
        devices: processes that share each batch.
        jitter: largest random relative change of a band's gain.

    Raises:
        DataError: an unknown schedule or precision, or a count less than 1.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 0
    schedule: str = "cosine"
    ema: float = 0.999
    clip: float = 1.0
    validate_every: int = 1000
    precision: str = "fp32"
    devices: int = 1
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "devices"):
            if getattr(self, name) < 1:
                raise DataError(f"training setting {name} is {getattr(self, name)}, expected 1 or more")
        if self.schedule not in SCHEDULES:
            raise DataError(f"learning-rate schedule '{self.schedule}' is unknown; choose {', '.join(SCHEDULES)}")
        autocast_dtype(self.precision)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings of a section of the config.

        Raises:
            DataError: a name is unknown or missing, or a value is invalid.
        """
        names = {field.name: field for field in fields(cls)}
        required = {name for name, field in names.items() if field.default is MISSING}
        if wrong := (set(values) - set(names)) | (required - set(values)):
            raise DataError(f"training settings {', '.join(sorted(wrong))} are unknown or missing; set {sorted(names)}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Stage1Settings(TrainingSettings):
    """Settings of super-resolution by L1.

    Attributes:
        patch_px: side of a patch in 10 m pixels.
        validation_chips: chips per validation.
        shift_m: the L1 of each patch is the smallest over shifts up to this distance.
    """

    patch_px: int
    validation_chips: int = 64
    shift_m: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Stage2Settings(Stage1Settings):
    """Settings of stage 2; `stage1_weight` is the weight of stage 1's own loss, 0 freezes stage 1."""

    stage1_weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings(Stage2Settings):
    """Settings of adversarial fine-tuning; `patch_px` is a multiple of 4.

    Attributes:
        l1, perceptual, adversarial: weights of the losses.
        perceptual_backbone: network of the perceptual loss, see `backbone.KINDS`.
        perceptual_layers: weights of its feature maps.
        discriminator_features: channels of the discriminators.
    """

    l1: float = 1.0
    perceptual: float = 1.0
    perceptual_backbone: str = "efficientnet_lite0"
    perceptual_layers: tuple[float, ...] = (0.1, 1.0, 1.0)
    adversarial: float = 0.1
    discriminator_features: int = 64
    discriminator_learning_rate: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings(TrainingSettings, LossWeights):
    """Settings of the segmenter's training, with the weights of its loss.

    Attributes:
        crop_px: side of a crop in 1 m pixels.
        backbone_factor: learning rate of the backbone, relative to that of the decoders.
    """

    crop_px: int
    backbone_factor: float = 1.0
    weight_decay: float = 0.05
    dense_weight: float = 0.0
    pixel_weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class JointSettings(TrainingSettings):
    """Settings of joint fine-tuning; `learning_rate` is the segmenter's.

    Attributes:
        crop_px: side of a crop in 1 m pixels, a multiple of 10.
        image: weight of the L1 loss of the 1 m image.
        consistency: weight of the L1 loss of the 1 m image degraded to 10 m.
    """

    crop_px: int
    generator_learning_rate: float = 1e-4
    image: float = 10.0
    consistency: float = 10.0
