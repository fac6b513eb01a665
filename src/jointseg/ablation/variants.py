"""The variants of the ablation: inputs, generators and what each is initialised from."""

from dataclasses import dataclass
from typing import Literal

from jointseg.raster.bands import COMPOSITE_BANDS, MERGED_BANDS, RGB

ImageSource = Literal["bilinear", "generator", "hr", "none"]
GeneratorKind = Literal["stage1", "l1", "adversarial", "single"]

BAND_SETS = {
    "rgb": RGB,
    "nir": COMPOSITE_BANDS,
    "dates": (*RGB, *MERGED_BANDS),
    "nir-dates": (*COMPOSITE_BANDS, *MERGED_BANDS),
}
# The generator that each kind is initialised from; "l1" is stage 2.
INITIAL_GENERATOR: dict[GeneratorKind, GeneratorKind] = {"l1": "stage1", "adversarial": "l1"}
BASELINE, UPPER_BOUND = "bilinear", "hr"  # both ends of the gap


@dataclass(frozen=True)
class Variant:
    """A method from the 10 m image to the map."""

    title: str  # name in tables and figures
    image: ImageSource  # source of the 1 m image that the segmenter reads; "none" if it reads the 10 m image
    generator: GeneratorKind | None = None  # kind of the generator, None unless `image` is "generator"
    bands: str = "rgb"  # bands of the 10 m image, a key of BAND_SETS
    joint: bool = False  # whether generator and segmenter are trained jointly
    infrared: bool = False  # whether the segmenter also reads near infrared

    @property
    def channels(self) -> int:
        """Number of bands that the segmenter reads at 1 m."""
        return 4 if self.infrared else 3


VARIANTS = {
    "bilinear": Variant("bilinear image", "bilinear"),
    "direct": Variant("no image: segmenter of the 10 m pixels", "none"),
    "single": Variant("single-stage ESRGAN, L1", "generator", "single"),
    "l1": Variant("Prog-ESRGAN, L1", "generator", "l1"),
    "adversarial": Variant("Prog-ESRGAN, adversarial", "generator", "adversarial"),
    "joint": Variant("Prog-ESRGAN, joint with the segmenter", "generator", "l1", joint=True),
    "bilinear-nir": Variant("bilinear image, + NIR", "bilinear", bands="nir", infrared=True),
    "direct-nir": Variant("no image, + NIR", "none", bands="nir"),
    "nir": Variant("Prog-ESRGAN, L1, + NIR", "generator", "l1", "nir", infrared=True),
    "bilinear-dates": Variant("merged dates, bilinear image", "bilinear", bands="dates"),
    "direct-dates": Variant("merged dates, no image", "none", bands="dates"),
    "dates": Variant("Prog-ESRGAN, L1, + merged dates", "generator", "l1", "dates"),
    "dates-joint": Variant("Prog-ESRGAN, joint, + merged dates", "generator", "l1", "dates", joint=True),
    "nir-dates-joint": Variant("Prog-ESRGAN, joint, + NIR + dates", "generator", "l1", "nir-dates", True, True),
    "hr": Variant("true 1 m image (upper bound)", "hr"),
}
