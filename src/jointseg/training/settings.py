"""Settings of the trainings, checked on construction; `config.networks` describes and limits the same keys."""

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

    Raises DataError for an unknown schedule or precision, or a count less than 1.
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

        Raises DataError if a name is unknown or missing, or a value is invalid.
        """
        names = {field.name: field for field in fields(cls)}
        required = {name for name, field in names.items() if field.default is MISSING}
        if wrong := (set(values) - set(names)) | (required - set(values)):
            raise DataError(f"training settings {', '.join(sorted(wrong))} are unknown or missing; set {sorted(names)}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Stage1Settings(TrainingSettings):
    """Settings of super-resolution by L1."""

    patch_px: int
    validation_chips: int = 64
    shift_m: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Stage2Settings(Stage1Settings):
    """Settings of stage 2; `stage1_weight` is the weight of stage 1's own loss, 0 freezes stage 1."""

    stage1_weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings(Stage2Settings):
    """Settings of adversarial fine-tuning; `patch_px` is a multiple of 4."""

    l1: float = 1.0
    perceptual: float = 1.0
    perceptual_backbone: str = "efficientnet_lite0"
    perceptual_layers: tuple[float, ...] = (0.1, 1.0, 1.0)
    adversarial: float = 0.1
    discriminator_features: int = 64
    discriminator_learning_rate: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings(TrainingSettings, LossWeights):
    """Settings of the segmenter's training, with the weights of its loss."""

    crop_px: int
    backbone_factor: float = 1.0
    weight_decay: float = 0.05
    dense_weight: float = 0.0
    pixel_weight: float = 0.0


@dataclass(frozen=True, kw_only=True)
class JointSettings(TrainingSettings):
    """Settings of joint fine-tuning; `learning_rate` is the segmenter's."""

    crop_px: int
    generator_learning_rate: float = 1e-4
    image: float = 10.0
    consistency: float = 10.0
