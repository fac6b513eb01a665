"""Rules for OpenStreetMap tags: which areas and ways are impervious, of which kind, and how wide."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Precedence for features with tags of several kinds.
KINDS = ("building", "airport", "sports", "industrial", "plaza", "road")
# Kinds from which mapped vegetation and water inside them are subtracted.
SOFT_CONTAINERS = ("airport", "sports", "industrial", "plaza")
SOFT = "soft"
NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:m|metres|meters)?\s*$")
# Runways and taxiways mapped as lines without a width (ICAO Annex 14, codes 4 and C).
AEROWAY_WIDTHS_M = {"runway": 45.0, "taxiway": 18.0}
# No pavement is wider (runways of code F); a wider tag is an error.
MAX_WIDTH_M = 80.0

Tags = Mapping[str, str]
Table = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class TagRules:
    """The tag tables of the config: values per key; "*" matches any value except "no", and "!x" excludes x."""

    road_widths_m: Mapping[str, float]  # paved width of each impervious highway class, both carriageways together
    lane_width_m: float  # width of a lane
    isa_tags: Mapping[str, Table]  # impervious areas, by kind
    not_isa_tags: Table  # objects that are never impervious, whatever their other tags
    # Values of `surface` that are not impervious, except for buildings and sports fields
    unpaved_surfaces: Sequence[str]
    soft_tags: Table  # vegetation and water, subtracted from larger impervious areas

    def area(self, tags: Tags) -> tuple[str, bool] | None:
        """Return (kind, whether it is a land-use outline rather than a surface) of an area; None if not impervious.

        The kind SOFT is vegetation or water. An area with a negative `layer` is underground.
        """
        if self._excluded(tags) or tags.get("layer", "").strip().startswith("-"):
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
        """Return (kind, paved width in metres) of a way mapped as a line; None if it is not impervious.

        A negative `layer` does not exclude a way: it also marks roads under a bridge.
        """
        if self._excluded(tags):
            return None
        if (width := self._road_width_m(tags)) is not None:
            return "road", width
        aeroway = tags.get("aeroway", "")
        if not matches(self.isa_tags.get("airport", {}).get("aeroway", ()), aeroway) or not self._paved(tags, "road"):
            return None
        default = AEROWAY_WIDTHS_M.get(aeroway)
        return None if default is None else ("airport", metres(tags, "width") or default)

    def _road_width_m(self, tags: Tags) -> float | None:
        """Return the tag `width`, else lanes x lane width, else the width of the class; None if not paved.

        A one-way road is one carriageway: half of the width of its class, but at least two lanes if the class has them.
        An unlisted _link road has one lane.
        """
        highway = tags.get("highway", "")
        if not {highway, highway.removesuffix("_link")} & set(self.road_widths_m) or not self._paved(tags, "road"):
            return None
        if width := metres(tags, "width"):
            return width
        if lanes := metres(tags, "lanes", self.lane_width_m):
            return lanes
        both = self.road_widths_m.get(highway, self.lane_width_m)
        if tags.get("oneway", "no") in ("yes", "true", "1", "-1"):
            return min(both, max(both / 2, 2 * self.lane_width_m))
        return both

    def _paved(self, tags: Tags, kind: str) -> bool:
        return kind in ("building", "sports") or tags.get("surface") not in self.unpaved_surfaces

    def _excluded(self, tags: Tags) -> bool:
        return any(key in tags and matches(values, tags[key]) for key, values in self.not_isa_tags.items())


def matches(values: Sequence[str], value: str) -> bool:
    """Return whether a table's values match a tag's value."""
    return f"!{value}" not in values and (value in values or ("*" in values and value != "no"))


def metres(tags: Tags, key: str, factor: float = 1.0) -> float | None:
    """Return a tag's number x factor as a width; None if it is not a number or implausible."""
    match = NUMBER.match(tags.get(key, ""))
    width = float(match[1]) * factor if match else 0.0
    return width if 0 < width <= MAX_WIDTH_M else None
