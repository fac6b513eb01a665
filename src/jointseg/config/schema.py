"""The config as pydantic models: one source for validation, defaults, the JSON schema and the docs table."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from jointseg.config.accuracy import Accuracy
from jointseg.config.dataset import Dataset
from jointseg.config.networks import Ablation, Joint, Segmentation, SuperRes
from jointseg.config.sentinel2 import Sentinel2
from jointseg.config.study_area import StudyArea
from jointseg.config.types import Count, Section, Year


class Synthetic(Section):
    """The synthetic scene, which replaces all data sources; leave out for real data."""

    reach_km: Annotated[int, Field(ge=1, le=30)] = Field(4, description="Side of each of the three reaches, km.")
    dates_per_year: Annotated[int, Field(ge=3, le=24)] = Field(5, description="Sentinel-2 acquisitions per year.")
    date_shift_m: Annotated[float, Field(ge=0, le=15)] = Field(
        3, description="Maximum geolocation error of an acquisition, m."
    )


class Weights(Section):
    """Checkpoints to map with; nothing is trained."""

    superres: str = Field(description="Prog-ESRGAN checkpoint (.safetensors).")
    segmentation: str = Field(description="Mask2Former checkpoint (.safetensors).")
    about: str = Field(description="Origin of the checkpoints, one sentence for the report.")


class Inference(Section):
    window_m: Annotated[int, Field(ge=320, multiple_of=160)] = Field(640, description="Side of a window, m.")
    stride_m: Annotated[int, Field(ge=160, multiple_of=10)] = Field(560, description="Stride of the windows, m.")
    batch: Count = Field(4, description="Windows per batch; changes no pixel.")
    threads: Count = Field(1, description="CPU threads of a tile's job.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Arithmetic of the networks; bf16 is faster and changes pixels, see benchmarks/inference.md.",
    )
    products: list[Literal["isa", "probability", "disagreement", "rgb"]] = Field(
        ["isa"], description="1 m rasters to write for every tile; isa is required."
    )
    preview_km: PositiveFloat = Field(1.28, description="Side of the super-resolved preview, km.")

    @model_validator(mode="after")
    def _windows_overlap(self) -> "Inference":
        if self.stride_m > self.window_m:
            raise ValueError(f"stride_m {self.stride_m} leaves gaps between windows of {self.window_m} m")
        return self

    @model_validator(mode="after")
    def _products_have_isa(self) -> "Inference":
        if "isa" not in self.products or len(set(self.products)) < len(self.products):
            raise ValueError(f"products must contain isa, and each product once, not {self.products}")
        return self


class Report(Section):
    examples: dict[str, str] = Field(
        {}, description="Captions of preview images (PNG) of other runs; missing files are skipped."
    )
    notes: str = Field("", description="A paragraph for the reader of the report.")


class Settings(Section):
    """Configuration of one run of the workflow."""

    title: str = Field(description="Title of the report and the release.")
    results: str = Field(description="Results folder.")
    seed: NonNegativeInt = Field(20250508, description="Seed of sampling and training.")
    threads: Count = Field(2, description="CPU threads of a training step; another number changes the bytes.")
    synthetic: Synthetic | None = None
    study_area: StudyArea
    tile_km: Annotated[int, Field(ge=1, le=100)] = Field(30, description="Side of a tile, km.")
    years: Annotated[list[Year], Field(min_length=1)] = Field(description="Years in which the cities are mapped.")
    map_year: Year = Field(description="Year in which the whole study area is mapped; also the year of the dataset.")
    sentinel2: Sentinel2
    dataset: Dataset | None = None
    superres: SuperRes | None = None
    segmentation: Segmentation | None = None
    joint: Joint | None = None
    ablation: Ablation | None = None
    weights: Weights | None = None
    inference: Inference = Inference()
    accuracy: Accuracy = Accuracy()
    report: Report = Report()

    @model_validator(mode="after")
    def _sections_agree(self) -> "Settings":
        self._check_training_sections()
        if self.segmentation is not None:
            channels = self.segmentation.presets[self.segmentation.preset].model.in_channels
            if channels > len(self.sentinel2.bands):
                raise ValueError("a segmenter with in_channels 4 reads near infrared: add B08 to sentinel2.bands")
        if self.superres is not None:
            self._check_generator(self.superres.final)
        if self.map_year not in self.years:
            raise ValueError(f"map_year {self.map_year} is not in years {self.years}")
        if self.tile_km * 1000 < self.inference.window_m:
            raise ValueError(f"tiles of {self.tile_km} km are smaller than windows of {self.inference.window_m} m")
        self._check_products()
        return self

    def _check_training_sections(self) -> None:
        sections = [self.dataset, self.superres, self.segmentation]
        if self.weights is None and None in sections:
            raise ValueError("a run without `weights` needs the sections dataset, superres and segmentation")
        if self.weights is not None and any(section is not None for section in sections):
            raise ValueError("a run with `weights` trains nothing: remove dataset, superres and segmentation")
        if self.ablation is not None and None in sections:
            raise ValueError("ablation needs the sections dataset, superres and segmentation")
        if self.joint is not None and self.superres is None:
            raise ValueError("joint fine-tunes trained networks: it needs the sections superres and segmentation")

    def _check_generator(self, final: str) -> None:
        """The segmenter is trained on images of one generator: the one that maps, or the one that joint starts from."""
        if final == "joint" and self.joint is None:
            raise ValueError("superres.final is joint, but the section joint is missing")
        if self.joint is not None and final not in ("joint", self.joint.start):
            raise ValueError(
                f"superres.final is {final}, but joint starts from {self.joint.start}; set both to the same"
            )

    def _check_products(self) -> None:
        products = sorted(self.accuracy.products)
        missing = sorted(set(self.accuracy.compared or []) - set(products))
        if missing:
            raise ValueError(f"accuracy.compared has {missing[0]}; expected names of accuracy.products: {products}")
        prior = self.dataset.prior_density if self.dataset is not None else None
        if prior is not None and prior.product not in products:
            raise ValueError(f"dataset.prior_density.product {prior.product} is not one of {products}")
        if products and self.accuracy.products_folder is None:
            raise ValueError("accuracy.products needs accuracy.products_folder")
