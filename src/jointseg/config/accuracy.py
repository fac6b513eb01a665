"""Config section `accuracy`: reference products, growth and temporal consistency."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from jointseg.config import product_filenames
from jointseg.config.types import Fraction, Metres, Name, Section, Year


class Codes(Section):
    """Pixel codes of a reference product: a list, a range, or both."""

    codes: list[int] = Field([], description="Single codes.")
    range: tuple[int, int] | None = Field(None, description="First and last code of a range, both included.")


class Product(Section):
    """A reference product: its files, its years and its pixel codes."""

    title: str = Field(description="Title in tables and figures.")
    folder: str = Field(description="Folder below accuracy.products_folder.")
    pattern: str = Field(
        description="File name: * for any text, {year}, and the corner of a tile written as an example such as "
        "{N30}{E117}, {30N}_{115E} or {30}_{115}."
    )
    tile_deg: PositiveFloat | None = Field(
        None, description="Side of a tile, degrees, if the pattern has a corner; to report missing tiles."
    )
    tile_corner: Literal["south-west", "north-west"] = Field("north-west", description="The corner that names a tile.")
    year: Year = Field(description="Year of the product.")
    years: list[Year] = Field([], description="Other years, each in its own files; requires {year} in the pattern.")
    series: dict[Year, tuple[int, int]] = Field(
        {},
        description="First and last ISA code in other years, for files whose codes are the year in which a pixel became ISA.",
    )
    resolution_m: Metres = Field(description="Pixel size, m.")
    band: Annotated[int, Field(ge=1)] | Name = Field(1, description="Band with the codes, by number or description.")
    isa: Codes
    not_isa: Codes
    nodata: Codes = Codes()
    full_cover_code: Annotated[int, Field(ge=1, le=254)] | None = Field(
        None,
        description="If the codes from 0 to this one are the ISA fraction: the code of a pixel that is entirely ISA.",
    )
    licence: str = Field("", description="Licence of the product.")

    @model_validator(mode="after")
    def _consistent(self) -> "Product":
        problems = product_filenames.pattern_errors(self.pattern, self.tile_deg)
        if self.years and "{year}" not in self.pattern:
            problems.append("years lists other years, so that the pattern needs {year}")
        if duplicates := sorted({self.year, *self.years} & set(self.series) | ({self.year} & set(self.years))):
            problems.append(f"{duplicates[0]} is listed twice among year, years and series")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Consistency(Section):
    """Probabilities of change and of map errors for the temporal filter; see docs/explanation/accuracy.md."""

    gain_rate: Fraction = Field(0.03, description="Probability per year that a pixel becomes ISA.")
    loss_rate: Fraction = Field(0.001, description="Probability per year that an ISA pixel is no longer ISA.")
    omission_rate: Fraction = Field(0.2, description="Probability that a map omits an ISA pixel.")
    commission_rate: Fraction = Field(0.05, description="Probability that a map shows ISA where there is none.")
    initial_fraction: Fraction = Field(0.2, description="ISA fraction of the area in the first year.")


class Accuracy(Section):
    products_folder: str | None = Field(None, description="Folder of the reference products.")
    products: dict[Name, Product] = Field({}, description="Reference products and their pixel codes.")
    compared: list[Name] | None = Field(None, description="Reference products to compare the maps with; null: all.")
    dem: str | None = Field(None, description="Elevation model, m; adds accuracy by slope.")
    temporal_consistency: Consistency | None = Field(
        None, description="Write temporally filtered city maps; null: skip."
    )
    baselines: list[Literal["bilinear"]] = Field(["bilinear"], description="Baseline methods to train and score.")
    growth_points: NonNegativeInt = Field(
        0, description="Points per city to label in every year; 0: areas are pixel counts."
    )
    growth_reference: str | None = Field(
        None,
        description="Folder of the labelled tables of points, CITY.csv; the synthetic scene labels its points itself.",
    )
    growth_sample: str | None = Field(None, description="Folder of an earlier sample (strata/, design/) to keep using.")
    ring_km: PositiveFloat = Field(2.0, description="Width of the rings for the ISA gain, km.")
    districts: str | None = Field(None, description="Vector file of districts, with a column `name`.")
