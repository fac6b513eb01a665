"""Config section `dataset`: sampling, high-resolution scenes, label sources and chips."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, model_validator

from jointseg.config.types import Count, Fraction, Metres, Name, Percent, Section

Kind = Literal["building", "airport", "sports", "industrial", "plaza", "road"]
Tags = dict[str, list[str]]


class Splits(Section):
    """Fractions of the chips in each split."""

    train: Fraction = Field(0.7, description="Training chips.")
    validation: Fraction = Field(0.1, description="Validation chips.")
    test: Fraction = Field(0.2, description="Test chips.")

    @model_validator(mode="after")
    def _sum_to_one(self) -> "Splits":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test is {total:g}, must be 1")
        return self


class Density(Section):
    """Stratification of the reaches by prior ISA density."""

    product: Name = Field(description="Reference product, one of accuracy.products.")
    classes: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.02, 0.2],
        min_length=1,
        max_length=8,
        description="Lower bounds of the density classes above the first, ISA fraction in 0..1.",
    )

    @model_validator(mode="after")
    def _classes_increase(self) -> "Density":
        if self.classes != sorted(set(self.classes)):
            raise ValueError(f"classes {self.classes} are not strictly increasing")
        return self


def _valid_name_pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    allowed = {"time", "satellite", "sensor", "level", "spectral"}
    if "time" not in groups or not set(groups) <= allowed:
        raise ValueError(
            f"{pattern!r} has the groups {sorted(groups)}; time is required, allowed are {sorted(allowed)}"
        )
    return pattern


class Provider(Section):
    """File naming and bands of a provider of high-resolution scenes."""

    pattern: Annotated[str, AfterValidator(_valid_name_pattern)] = Field(
        description="Regular expression of a folder name or file stem, with the named group time and optionally "
        "satellite, sensor, level, spectral."
    )
    time_format: str = Field("%Y%m%d%H%M%S", description="Format of the group time, as in Python's strptime.")
    utc_offset_h: Annotated[float, Field(ge=-12, le=14)] = Field(0, description="Offset of the times from UTC, hours.")
    bands: list[str] = Field(
        ["red", "green", "blue"], description="Band order of rasters without colour interpretation."
    )
    nodata: float | None = Field(0, description="Nodata value of rasters that declare none.")
    levels: list[str] = Field([], description="Product levels to use; empty: all.")
    spectral: list[str] = Field([], description="Spectral types to use; empty: all.")
    advice: str = Field("see dataset.providers", description="Advice in the message about other levels or types.")

    @model_validator(mode="after")
    def _has_rgb(self) -> "Provider":
        if missing := sorted({"red", "green", "blue"} - set(self.bands)):
            raise ValueError(f"bands {self.bands} have no {', '.join(missing)}")
        return self


_JILIN1 = (
    r"(?P<satellite>JL1%s[A-Z0-9]+)_(?P<sensor>(?:PMS|MMS)[A-Z0-9]*)_(?P<time>\d{14})_\d{9}_\d{3,4}_\d{4}_\d{3}"
    r"_(?P<level>L\d[A-D]?)(?:_(?P<spectral>PAN|MSS|PSH))?"
)


def _jilin1(satellites: str, bands: list[str]) -> Provider:
    return Provider(
        pattern=_JILIN1 % satellites,
        utc_offset_h=8,
        bands=bands,
        levels=["L3A", "L3B", "L3C", "L3D"],
        spectral=["PSH"],
        advice="orthorectify (gdalwarp -rpc with a DEM; level 1 is accurate to only 100-200 m) and pansharpen it to L3 "
        "PSH before pairing",
    )


class Dataset(Section):
    """ISASeg, the training dataset. Leave out in a run with `weights`."""

    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = Field(
        "1.0.0", description="Version of the dataset in its card, statistics and STAC collection."
    )
    jilin1: str = Field(description="Folder of the high-resolution scenes, Jilin-1 or another provider.")
    providers: dict[Name, Provider] = Field(
        {
            "jilin1-bayer": _jilin1("GF03C", ["red", "green", "blue"]),
            "jilin1": _jilin1("", ["blue", "green", "red", "nir"]),
        },
        description="Providers; the first one whose pattern matches a name is used.",
    )
    metadata_elements: dict[Literal["time", "cloud_percent", "view_angle", "sun_elevation"], list[str]] = Field(
        {
            "time": ["StartTime", "ImagingStartTime", "AcquisitionTime", "CenterTime", "ReceiveTime"],
            "cloud_percent": ["CloudPercent", "CloudCover", "CloudCoverage", "CloudAmount"],
            "view_angle": ["RollSatelliteAngle", "SideSwingAngle", "ViewAngle", "OffNadirAngle"],
            "sun_elevation": ["SunElevation", "SolarElevation", "SunAltitude"],
        },
        description="XML elements for each property of a scene, in order of preference, at any depth, case-insensitive.",
    )
    osm: str = Field(description="OpenStreetMap extract: .osm.pbf or a GeoPackage with the same layers.")
    footprints: str = Field(description="Vector file of building footprints.")
    corrections: str = Field(description="Folder of Labelme JSON files with corrected labels.")
    count: Count = Field(4000, description="Number of sample points; ignored for allocation fixed.")
    allocation: Literal["proportional", "neyman", "equal", "fixed"] = Field(
        "equal",
        description="Allocation of points to strata: proportional to the candidates; neyman: to candidates x standard "
        "deviation of the prior density; equal: equal per reach, within it to the root of the candidates; fixed: counts.",
    )
    counts: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*(/\d+)?$")], Count] = Field(
        {}, description="For allocation fixed: points per reach, or per stratum (upstream/2)."
    )
    replacement_fraction: Fraction = Field(0.5, description="Replacement samples per point whose pair is unusable.")
    prior_density: Density | None = Field(None, description="Strata by prior density; null: one stratum per reach.")
    spacing_m: Metres = Field(3000, description="Minimum distance between two points, m.")
    chip_m: Annotated[int, Field(ge=160, multiple_of=160)] = Field(640, description="Side of a chip, m.")
    splits: Splits = Splits()
    block_m: Annotated[int, Field(gt=0, multiple_of=10)] = Field(
        30_000, description="Side of the blocks that are assigned to splits, m."
    )
    max_shift_m: Metres = Field(20, description="Maximum registration shift, m; pairs with a larger one are rejected.")
    min_correlation: Fraction = Field(0.5, description="Minimum correlation after registration.")
    max_cloud_percent: Percent = Field(20, description="Maximum cloud cover of a high-resolution scene, percent.")
    road_widths_m: dict[str, Metres] = Field(
        {
            "motorway": 26,
            "trunk": 22,
            "primary": 18,
            "secondary": 14,
            "tertiary": 9,
            "residential": 6.5,
            "unclassified": 5.5,
            "living_street": 5,
            "service": 4.5,
            "track": 3.5,
            "pedestrian": 6,
        },
        description="Paved width of each highway class, both carriageways together, m; other classes are not ISA.",
    )
    lane_width_m: Metres = Field(3.5, description="Lane width of roads with a lanes tag, m.")
    isa_tags: dict[Kind, Tags] = Field(
        {
            "building": {"building": ["*", "!construction", "!proposed", "!greenhouse", "!collapsed", "!ruins"]},
            "airport": {"aeroway": ["runway", "taxiway", "apron", "terminal", "hangar", "helipad"]},
            "sports": {"leisure": ["pitch", "track", "stadium", "sports_centre"]},
            "industrial": {
                "landuse": ["industrial", "port", "depot"],
                "man_made": ["storage_tank", "silo", "gasometer", "works"],
            },
            "plaza": {
                "place": ["square"],
                "amenity": ["parking", "marketplace", "fuel", "bus_station"],
                "highway": ["pedestrian", "footway", "platform"],
                "public_transport": ["platform"],
                "railway": ["platform"],
            },
            "road": {"area:highway": ["*"], "man_made": ["bridge"]},
        },
        description="Tags of OpenStreetMap areas that are ISA, by kind; * matches any value except no, !x excludes x.",
    )
    not_isa_tags: Tags = Field(
        {
            "tunnel": ["*", "!building_passage"],
            "location": ["underground", "underwater"],
            "indoor": ["*"],
            "parking": ["underground"],
            "construction": ["*", "!minor"],
            "proposed": ["*"],
            "abandoned": ["*"],
            "demolished": ["*"],
            "razed": ["*"],
            "removed": ["*"],
            "landuse": ["construction"],
        },
        description="Tags that exclude a feature from ISA; they take precedence over all others.",
    )
    unpaved_surfaces: list[str] = Field(
        [
            *("unpaved", "dirt", "earth", "ground", "grass", "gravel", "fine_gravel", "pebblestone", "sand", "mud"),
            *("clay", "compacted", "wood", "woodchips", "rock", "salt"),
        ],
        description="Surfaces that are not ISA, except on sports fields.",
    )
    soft_tags: Tags = Field(
        {
            "natural": ["water", "wood", "grassland", "scrub", "heath", "wetland", "beach", "sand", "mud"],
            "landuse": [
                *("grass", "forest", "meadow", "farmland", "orchard", "vineyard", "flowerbed", "village_green"),
                *("allotments", "basin", "reservoir", "plant_nursery", "greenfield", "brownfield"),
            ],
            "leisure": ["park", "garden", "golf_course"],
        },
        description="Tags of vegetation, water and bare soil, which are subtracted from larger ISA areas.",
    )
    industrial_yard_m: NonNegativeFloat = Field(
        30, description="Industrial areas are ISA up to this distance from hard surfaces, m."
    )
    review_chips: NonNegativeInt = Field(
        20, description="Chips per reach with the largest disagreement of label sources, to review."
    )

    @model_validator(mode="after")
    def _chips_do_not_overlap(self) -> "Dataset":
        if self.spacing_m < self.chip_m:
            raise ValueError(f"spacing_m {self.spacing_m:g} is less than chip_m {self.chip_m}: chips would overlap")
        return self

    @model_validator(mode="after")
    def _counts_need_fixed_allocation(self) -> "Dataset":
        if (self.allocation == "fixed") != bool(self.counts):
            raise ValueError(
                f"allocation is {self.allocation} and counts are {self.counts}: counts require allocation fixed, and only it"
            )
        return self
