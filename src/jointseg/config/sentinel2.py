"""Config section `sentinel2`: source of the scenes, cloud masks and composites."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, model_validator

from jointseg.config.types import Count, Fraction, Metres, Percent, Section, Year
from jointseg.raster.bands import COMPOSITE_BANDS, RGB

Level = Literal["L1C", "L2A"]


def _valid_day(day: str) -> str:
    date.fromisoformat(f"2000-{day}")  # a leap year; the error message explains what is wrong with 02-31
    return day


MonthDay = Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"), AfterValidator(_valid_day)]


class ArchiveSource(Section):
    kind: Literal["archive"] = Field(description="Files on disk.")
    path: str = Field(
        description="Folder with a static STAC catalogue, SAFE products or band files; or package:NAME/FOLDER."
    )
    scene: str | None = Field(None, description="Sidecar file that describes plain band files as one scene.")


class StacSource(Section):
    kind: Literal["stac"] = Field(description="A STAC API.")
    url: str = Field(description="URL of the STAC API.")
    collections: dict[Level, str] = Field(description="Collection of each product level.")
    sign: Literal["planetary-computer"] | None = Field(None, description="Method that signs the asset URLs.")


class EarthEngineSource(Section):
    kind: Literal["earthengine"] = Field(description="Google Earth Engine.")
    project: str = Field(description="Google Cloud project that is billed.")
    url: str = Field("https://earthengine-highvolume.googleapis.com", description="Endpoint.")
    service_account: str | None = Field(None, description="JSON key file; null: application-default credentials.")


def _band_order(bands: list[str]) -> list[str]:
    if tuple(bands) not in (RGB, COMPOSITE_BANDS):
        raise ValueError(f"bands must be {', '.join(RGB)}, or {', '.join(COMPOSITE_BANDS)}, in this order")
    return bands


class Sentinel2(Section):
    source: Annotated[ArchiveSource | StacSource | EarthEngineSource, Field(discriminator="kind")]
    bands: Annotated[list[Literal["B04", "B03", "B02", "B08"]], AfterValidator(_band_order)] = Field(
        ["B04", "B03", "B02"], description="Bands of the composites: B04, B03, B02, optionally followed by B08."
    )
    level: Level = Field("L2A", description="Product level: L1C (top of atmosphere) or L2A (surface reflectance).")
    level_by_year: dict[Year, Level] = Field(
        {}, description="Product level of single years, such as L1C before December 2018."
    )
    season: tuple[MonthDay, MonthDay] = Field(("01-01", "12-31"), description="First and last day of the season.")
    max_cloud_percent: Percent = Field(60, description="Maximum cloud cover of a scene, percent.")
    method: Literal["median", "medoid"] = Field("median", description="How clear observations are combined.")
    scl_mask_classes: list[Annotated[int, Field(ge=0, le=11)]] = Field(
        [0, 1, 3, 8, 9, 10], description="Classes of the scene classification (SCL) that are masked."
    )
    mask_dilation_m: NonNegativeFloat = Field(40, description="Dilation of the cloud and shadow mask, m.")
    min_clear_observations: Count = Field(1, description="Pixels with fewer clear observations are nodata.")
    season_padding_days: Annotated[int, Field(ge=0, le=180)] = Field(
        0,
        description="Where the season has fewer than min_clear_observations clear observations, scenes up to this many "
        "days before or after it are used.",
    )
    swath_edge_buffer_m: NonNegativeFloat = Field(
        20, description="Width of the masked strip along granule and swath edges, m."
    )
    l1c_mask: Literal["auto", "classi", "s2cloudless"] = Field(
        "auto",
        description="Cloud mask of L1C scenes: classi (of the product), s2cloudless, or auto: s2cloudless where its "
        "bands are available, else classi.",
    )
    s2cloudless_threshold: Fraction = Field(0.4, description="s2cloudless probability from which a pixel is cloud.")
    cloud_score_plus_threshold: Fraction = Field(
        0.6, description="Cloud Score+ (Earth Engine, L1C) from which a pixel is clear."
    )
    coregister: bool = Field(True, description="Register scenes to each other, or to the map year's composite.")
    max_shift_m: Metres = Field(
        15, description="Maximum registration shift, m; a scene with a larger one is used unshifted."
    )
    dark_object_subtraction: bool = Field(False, description="Subtract haze from L1C scenes that are not normalised.")
    normalise: bool = Field(True, description="Normalise other years to the map year on stable pixels, band by band.")
    parallel_requests: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="Parallel reads of a tile; null: 8 from a server, 1 from an archive."
    )
    merged_dates: Annotated[int, Field(ge=0, le=8)] = Field(
        0, description="Number of the best dates to merge to 5 m pixels, an additional input of the networks; 0: none."
    )

    @model_validator(mode="after")
    def _merged_dates_are_registered(self) -> "Sentinel2":
        if self.merged_dates and not self.coregister:
            raise ValueError(f"merged_dates is {self.merged_dates}, which requires coregister: true")
        return self

    @property
    def remote(self) -> bool:
        """Whether pixels are read from a server."""
        return self.source.kind != "archive"
