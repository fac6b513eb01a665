"""What of OpenStreetMap's tags is impervious: kinds of areas, widths of ways, what is not seen from above."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# In this order a feature with several tags gets its kind.
KINDS = ("building", "airport", "sports", "industrial", "plaza", "road")
# What mapped vegetation and water take their ground from, where they lie inside.
SOFT_CONTAINERS = ("airport", "sports", "industrial", "plaza")
SOFT = "soft"
NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:m|metres|meters)?\s*$")
# Runways and taxiways drawn as lines, where no width is tagged (ICAO Annex 14, codes 4 and C).
AEROWAY_WIDTHS_M = {"runway": 45.0, "taxiway": 18.0}
# Nothing wider is paved in one piece (runways of code F); a wider tag is a slip.
WIDEST_M = 80.0

Tags = Mapping[str, str]
Table = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class TagRules:
    """The tables of the config.

    A table has values a key; "*" is any value but "no", "!x" is never x.

    Attributes:
        road_widths_m: paved width of each highway class that is impervious, both carriageways together.
        lane_width_m: width of a lane.
        isa_tags: by kind, the areas that are impervious.
        not_isa_tags: what is not impervious ground whatever else its tags say.
        unpaved_surfaces: values of `surface` that are not impervious, but on buildings and sports fields.
        soft_tags: vegetation and water, taken out of larger impervious areas.
    """

    road_widths_m: Mapping[str, float]
    lane_width_m: float
    isa_tags: Mapping[str, Table]
    not_isa_tags: Table
    unpaved_surfaces: Sequence[str]
    soft_tags: Table

    def area(self, tags: Tags) -> tuple[str, bool] | None:
        """(kind, whether it is an outline of ground use rather than of a surface) of an area; None where it is none.

        The kind SOFT is vegetation or water. An area with a negative `layer` lies below the ground.
        """
        if self._absent(tags) or tags.get("layer", "").strip().startswith("-"):
            return None
        for kind in KINDS:
            for key, values in self.isa_tags.get(kind, {}).items():
                if key in tags and matches(values, tags[key]) and self._paved(tags, kind):
                    return kind, kind == "industrial" and key == "landuse" and "surface" not in tags
        if tags.get("highway") in self.road_widths_m and self._paved(tags, "road"):
            return "road", False
        soft = any(key in tags and matches(values, tags[key]) for key, values in self.soft_tags.items())
        return (SOFT, False) if soft else None

    def way(self, tags: Tags) -> tuple[str, float] | None:
        """(kind, paved width in metres) of a way drawn as a line; None where it is not impervious.

        A negative `layer` alone does not hide a way: it says that something crosses above.
        """
        if self._absent(tags):
            return None
        if (width := self._road_width_m(tags)) is not None:
            return "road", width
        aeroway = tags.get("aeroway", "")
        if aeroway in AEROWAY_WIDTHS_M and matches(self.isa_tags.get("airport", {}).get("aeroway", ()), aeroway):
            return (
                ("airport", metres(tags, "width") or AEROWAY_WIDTHS_M[aeroway]) if self._paved(tags, "road") else None
            )
        return None

    def _road_width_m(self, tags: Tags) -> float | None:
        """The tag `width`, else lanes by the width of a lane, else the width of the class; None where not paved.

        A one-way road is one carriageway: half of its class, though two lanes where the class has them. A _link that
        is not listed has one lane.
        """
        kind = tags.get("highway", "")
        if not {kind, kind.removesuffix("_link")} & set(self.road_widths_m) or not self._paved(tags, "road"):
            return None
        if width := metres(tags, "width"):
            return width
        if lanes := metres(tags, "lanes", self.lane_width_m):
            return lanes
        whole = self.road_widths_m.get(kind, self.lane_width_m)
        if tags.get("oneway", "no") in ("yes", "true", "1", "-1"):
            return min(whole, max(whole / 2, 2 * self.lane_width_m))
        return whole

    def _paved(self, tags: Tags, kind: str) -> bool:
        return kind in ("building", "sports") or tags.get("surface") not in self.unpaved_surfaces

    def _absent(self, tags: Tags) -> bool:
        return any(key in tags and matches(values, tags[key]) for key, values in self.not_isa_tags.items())


def matches(values: Sequence[str], value: str) -> bool:
    """Whether a table's values hold a tag's value."""
    return f"!{value}" not in values and (value in values or ("*" in values and value != "no"))


def metres(tags: Tags, key: str, times: float = 1.0) -> float | None:
    """A tag's number, times something, as a width; None where there is none, or none that can be believed."""
    match = NUMBER.match(tags.get(key, ""))
    width = float(match[1]) * times if match else 0.0
    return width if 0 < width <= WIDEST_M else None
