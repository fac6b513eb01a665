"""Features of the synthetic scene: outline, material, construction year and tags of everything people built."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely

UNDATED = 0  # construction year of features that exist in every year

# Drawing levels: later ones cover earlier ones.
SITE, GREEN, PAVED, ROAD, PITCH, ROOF, ROOF_PART = range(7)
LEVELS = 7


@dataclass(slots=True)
class Feature:
    """A built or otherwise mapped feature."""

    shape: shapely.Geometry  # outline, local metres
    # Road, building, roof, plaza, parking, yard, pitch, track, runway, taxiway, apron (impervious) or site, lawn, pond,
    # greenhouse, solar, path (pervious)
    kind: str
    material: str  # key of materials.MATERIALS
    impervious: bool  # class of the true map
    year_built: int  # first year in which it exists
    level: int
    height_m: float = 0.0  # height for its shadow
    vegetation: str = ""  # name of the seasonal vegetation on it, or ""
    line: shapely.Geometry | None = None  # centre line of a road
    tags: dict[str, str] = field(default_factory=dict)  # OpenStreetMap tags
    city: bool = False


def road(line: shapely.Geometry, highway: str, width_m: float, material: str, year_built: int, **tags: str) -> Feature:
    """Return a road of an OpenStreetMap highway class; a dirt road is a path and pervious."""
    impervious = material != "dirt_road"
    tags = {"highway": highway, "width": f"{width_m:.1f}", **tags}
    shape = line.buffer(width_m / 2, cap_style="flat", join_style="round", quad_segs=3)
    kind = "road" if impervious else "path"
    return Feature(shape, kind, material, impervious, year_built, ROAD, line=line, tags=tags)


def building(shape: shapely.Geometry, material: str, year_built: int, height_m: float, **tags: str) -> Feature:
    return Feature(shape, "building", material, True, year_built, ROOF, height_m, tags={"building": "yes", **tags})


def paved(shape: shapely.Geometry, kind: str, material: str, year_built: int, **tags: str) -> Feature:
    """Return an impervious surface at ground level: a plaza, yard, car park or apron."""
    return Feature(shape, kind, material, True, year_built, PAVED, tags=tags)


def lawn(shape: shapely.Geometry, year_built: int, level: int = PITCH, vegetation: str = "grass") -> Feature:
    """Return a planted surface; level PITCH lies on top of pavement, GREEN below it."""
    return Feature(shape, "lawn", "lawn", False, year_built, level, vegetation=vegetation)


def roof_part(shape: shapely.Geometry, material: str, year_built: int, shade: str = "") -> Feature:
    """Return a part of a roof; with `shade`, the spectrum of the preceding building times that factor."""
    return Feature(shape, "roof", material, True, year_built, ROOF_PART, tags={"shade": shade} if shade else {})


def rectangle(x: float, y: float, length_m: float, width_m: float, angle: float) -> shapely.Geometry:
    """Return a rectangle around a centre; `angle` is from the x axis to its length, radians."""
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    corners = np.array([x, y]) + half[:, :1] * length_m * along + half[:, 1:] * width_m * across
    return shapely.Polygon(corners)


def shaded_roof_half(house: Feature, x: float, y: float, length_m: float, width_m: float, angle: float) -> Feature:
    """Return the darker half of a pitched roof, the one that faces away from the sun."""
    side = 1 if np.cos(angle) * np.cos(np.radians(30)) + np.sin(angle) * np.sin(np.radians(30)) > 0 else -1
    shift = side * width_m / 4
    half = rectangle(x - np.sin(angle) * shift, y + np.cos(angle) * shift, length_m, width_m / 2, angle)
    return roof_part(half, house.material, house.year_built, "0.72")


class Quad:
    """A quadrilateral with local coordinates: u along its lower side and v along its left side, in metres."""

    def __init__(self, corners: np.ndarray) -> None:
        """Set the corners [4, 2], counter-clockwise from the lower left."""
        self.corners = corners
        self.width_m = float(np.linalg.norm((corners[1] + corners[2] - corners[0] - corners[3]) / 2))
        self.depth_m = float(np.linalg.norm((corners[3] + corners[2] - corners[0] - corners[1]) / 2))

    def points(self, uv: np.ndarray) -> np.ndarray:
        """Map local coordinates [n, 2] bilinearly to those of the valley."""
        s, t = uv[:, :1] / self.width_m, uv[:, 1:] / self.depth_m
        a, b, c, d = self.corners
        return (1 - s) * (1 - t) * a + s * (1 - t) * b + s * t * c + (1 - s) * t * d

    def box(self, u: float, v: float, length_m: float, width_m: float) -> shapely.Geometry:
        """Return the box with lower left corner (u, v), clipped to the block; empty if thinner than 2 m."""
        u0, v0 = max(u, 0.0), max(v, 0.0)
        u1, v1 = min(u + length_m, self.width_m), min(v + width_m, self.depth_m)
        if u1 - u0 < 2 or v1 - v0 < 2:
            return shapely.Polygon()
        return self.polygon([(u0, v0), (u1, v0), (u1, v1), (u0, v1)])

    def polygon(self, uv: Sequence[tuple[float, float]] | np.ndarray) -> shapely.Geometry:
        return shapely.Polygon(self.points(np.asarray(uv, dtype=float)))

    def outline(self) -> shapely.Geometry:
        return shapely.Polygon(self.corners)
