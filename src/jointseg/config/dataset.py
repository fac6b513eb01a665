"""The part of the config that says where chips come from."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from jointseg.config.types import Count, Fraction, Metres, Name, Section

Kind = Literal["building", "airport", "sports", "industrial", "plaza", "road"]
Tags = dict[str, list[str]]


class Splits(Section):
    train: Fraction = 0.7
    validation: Fraction = 0.1
    test: Fraction = 0.2

    @model_validator(mode="after")
    def _sum_to_one(self) -> "Splits":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test is {total:g}, not 1")
        return self


class Density(Section):
    """Prior density of ISA, by which the reaches are divided into strata."""

    product: Name = Field(description="Reference product, one of accuracy.products.")
    classes: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.02, 0.2], min_length=1, max_length=8, description="Shares of ISA at which a new class begins, in 0..1."
    )

    @model_validator(mode="after")
    def _classes_rise(self) -> "Density":
        if self.classes != sorted(set(self.classes)):
            raise ValueError(f"classes {self.classes} do not rise")
        return self


def _scene_name(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    known = {"time", "satellite", "sensor", "level", "spectral"}
    if "time" not in groups or not set(groups) <= known:
        raise ValueError(f"groups {sorted(groups)} of {pattern!r}: time is needed, of {sorted(known)}")
    return pattern


class Provider(Section):
    """How a provider of high-resolution scenes names its deliveries."""

    pattern: Annotated[str, AfterValidator(_scene_name)] = Field(
        description="Regular expression of a folder's name or a file's stem; named groups time and, where told, "
        "satellite, sensor, level, spectral."
    )
    time_format: str = Field("%Y%m%d%H%M%S", description="Of the group time, as Python's strptime has it.")
    utc_offset_h: Annotated[float, Field(ge=-12, le=14)] = Field(0, description="Hours its times are ahead of UTC.")
    bands: list[str] = Field(
        ["red", "green", "blue"], description="Colours of the bands in order, for rasters that do not tell."
    )
    nodata: float | None = Field(0, description="Digital number without data, for rasters that declare none.")
    levels: list[str] = Field([], description="Levels that can be paired; none listed: all.")
    spectral: list[str] = Field([], description="Spectral types that can be paired; none listed: all.")
    advice: str = Field("see dataset.providers", description="What to do with scenes of other levels or types.")

    @model_validator(mode="after")
    def _has_colours(self) -> "Provider":
        if missing := sorted({"red", "green", "blue"} - set(self.bands)):
            raise ValueError(f"bands {self.bands} lack {', '.join(missing)}")
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
        advice="orthorectify (gdalwarp -rpc with a DEM; level 1 is located to 100-200 m only) and pansharpen it to L3 "
        "PSH before pairing",
    )


class Dataset(Section):
    """ISASeg: where chips come from. Leave out in a run that is given its weights."""

    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = Field(
        "1.0.0", description="Version of the dataset, for its card, statistics and STAC collection."
    )
    jilin1: str = Field(description="Folder of delivered high-resolution scenes, Jilin-1's or another provider's.")
    providers: dict[Name, Provider] = Field(
        {
            "jilin1-bayer": _jilin1("GF03C", ["red", "green", "blue"]),
            "jilin1": _jilin1("", ["blue", "green", "red", "nir"]),
        },
        description="Whose scenes they are; the first whose pattern fits a name.",
    )
    metadata_elements: dict[Literal["time", "cloud_percent", "view_angle", "sun_elevation"], list[str]] = Field(
        {
            "time": ["StartTime", "ImagingStartTime", "AcquisitionTime", "CenterTime", "ReceiveTime"],
            "cloud_percent": ["CloudPercent", "CloudCover", "CloudCoverage", "CloudAmount"],
            "view_angle": ["RollSatelliteAngle", "SideSwingAngle", "ViewAngle", "OffNadirAngle"],
            "sun_elevation": ["SunElevation", "SolarElevation", "SunAltitude"],
        },
        description="XML elements that may hold each fact of a scene, first found first used, any depth and case.",
    )
    osm: str = Field(description="OpenStreetMap extract: .osm.pbf or a GeoPackage with the same layers.")
    footprints: str = Field(description="Building footprints: any vector file.")
    corrections: str = Field(description="Folder of Labelme JSON files.")
    count: Count = Field(4000, description="Sample points in all; not read by allocation fixed.")
    allocation: Literal["proportional", "neyman", "equal", "fixed"] = Field(
        "equal",
        description="Points by stratum: as its candidates, as candidates x spread of the prior density, equal a reach "
        "and in it as the root of the candidates, or counts.",
    )
    counts: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*(/\d+)?$")], Count] = Field(
        {}, description="For allocation fixed: points of each reach, or of each of its strata (upstream/2)."
    )
    replacement_fraction: Fraction = Field(
        0.5, description="Reserves for each point, for pairs that turn out unusable."
    )
    prior_density: Density | None = Field(None, description="Strata by prior density; a reach is one stratum without.")
    spacing_m: Metres = Field(3000, description="Smallest distance between two points.")
    chip_m: Annotated[int, Field(ge=160, multiple_of=160)] = Field(640, description="Side of a chip, m.")
    splits: Splits = Splits()
    block_m: Annotated[int, Field(gt=0, multiple_of=10)] = Field(
        30_000, description="Side of the blocks that are dealt whole to a split."
    )
    max_shift_m: Metres = Field(20, description="A registration that finds more than this is not believed.")
    min_correlation: Fraction = Field(0.5, description="Smallest correlation after registration.")
    max_cloud_percent: Annotated[float, Field(ge=0, le=100)] = Field(20, description="Of a Jilin-1 scene.")
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
        description="Paved width of each highway class, both carriageways together; classes not listed are not ISA.",
    )
    lane_width_m: Metres = Field(3.5, description="Width of a lane where a road has its lanes tagged.")
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
        description="OpenStreetMap areas that are ISA, by kind and key; * is any value but no, !x is never x.",
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
        description="What has one of these tags is not ISA, whatever else it has.",
    )
    unpaved_surfaces: list[str] = Field(
        [
            *("unpaved", "dirt", "earth", "ground", "grass", "gravel", "fine_gravel", "pebblestone", "sand", "mud"),
            *("clay", "compacted", "wood", "woodchips", "rock", "salt"),
        ],
        description="Surfaces that are not ISA, but on sports fields.",
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
        description="Vegetation, water and bare ground, taken out of larger areas that are ISA.",
    )
    industrial_yard_m: Annotated[float, Field(ge=0)] = Field(
        30, description="Industrial ground is taken to be hardened so far from buildings, roads and other hard ground."
    )
    review_chips: Annotated[int, Field(ge=0)] = Field(
        20, description="Chips of a reach that are written as Labelme projects, where the label sources disagree most."
    )

    @model_validator(mode="after")
    def _chips_apart(self) -> "Dataset":
        if self.spacing_m < self.chip_m:
            raise ValueError(f"spacing_m {self.spacing_m:g} is less than chip_m {self.chip_m}: chips would overlap")
        return self

    @model_validator(mode="after")
    def _counts_belong_to_fixed(self) -> "Dataset":
        if (self.allocation == "fixed") != bool(self.counts):
            raise ValueError(f"allocation is {self.allocation} and counts are {self.counts}: counts go with fixed")
        return self
