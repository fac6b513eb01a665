"""What people built in the synthetic scene valley: one record an object, with its year of birth."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely

ALWAYS = 0  # birth of what has no year

# Later levels are painted over earlier ones.
SITE, GREEN, PAVED, ROAD, PITCH, ROOF, ROOF_PART = range(7)
LEVELS = 7


@dataclass(slots=True)
class Thing:
    """An object on the ground.

    Attributes:
        shape: its outline, local metres.
        kind: road, building, plaza, parking, yard, pitch, track, runway, taxiway, apron (impervious) or
            site, lawn, pond, greenhouse, solar, path (not).
        material: key of materials.MATERIALS.
        isa: whether it is impervious.
        birth: first year it is there.
        level: drawing order.
        height_m: for its shadow.
        phase: name of the seasonal cover on it, or "".
        line: centre line of a road.
        tags: what a mapper would note.
        city: whether it belongs to a city.
    """

    shape: shapely.Geometry
    kind: str
    material: str
    isa: bool
    birth: int
    level: int
    height_m: float = 0.0
    phase: str = ""
    line: shapely.Geometry | None = None
    tags: dict[str, str] = field(default_factory=dict)
    city: bool = False


def road(line: shapely.Geometry, highway: str, width_m: float, material: str, birth: int, **tags: str) -> Thing:
    """A road of a highway class; `path` is unpaved and not impervious."""
    isa = material != "dirt_road"
    tags = {"highway": highway, "width": f"{width_m:.1f}", **tags}
    shape = line.buffer(width_m / 2, cap_style="flat", join_style="round", quad_segs=3)
    return Thing(shape, "road" if isa else "path", material, isa, birth, ROAD, line=line, tags=tags)


def building(shape: shapely.Geometry, material: str, birth: int, height_m: float, **tags: str) -> Thing:
    return Thing(shape, "building", material, True, birth, ROOF, height_m, tags={"building": "yes", **tags})


def rectangle(x: float, y: float, length_m: float, width_m: float, angle: float) -> shapely.Geometry:
    """A rectangle about a centre; `angle` in radians turns its length from the x axis."""
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    corners = np.array([x, y]) + half[:, :1] * length_m * along + half[:, 1:] * width_m * across
    return shapely.Polygon(corners)


def gable(thing: Thing, x: float, y: float, length_m: float, width_m: float, angle: float) -> Thing:
    """The half of a pitched roof that lies away from the sun, a darker part of a building."""
    side = 1 if np.cos(angle) * np.cos(np.radians(30)) + np.sin(angle) * np.sin(np.radians(30)) > 0 else -1
    shift = side * width_m / 4
    half = rectangle(x - np.sin(angle) * shift, y + np.cos(angle) * shift, length_m, width_m / 2, angle)
    return Thing(half, "roof", thing.material, True, thing.birth, ROOF_PART, tags={"shade": "0.72"}, city=thing.city)


class Quad:
    """A city block: local coordinates in metres along its sides, mapped to the ground."""

    def __init__(self, corners: np.ndarray) -> None:
        """Corners [4, 2], counter-clockwise from the lower left."""
        self.corners = corners
        self.width_m = float(np.linalg.norm((corners[1] + corners[2] - corners[0] - corners[3]) / 2))
        self.depth_m = float(np.linalg.norm((corners[3] + corners[2] - corners[0] - corners[1]) / 2))

    def points(self, uv: np.ndarray) -> np.ndarray:
        s, t = uv[:, :1] / self.width_m, uv[:, 1:] / self.depth_m
        a, b, c, d = self.corners
        return (1 - s) * (1 - t) * a + s * (1 - t) * b + s * t * c + (1 - s) * t * d

    def box(self, u: float, v: float, length_m: float, width_m: float) -> shapely.Geometry:
        """The box with lower left corner (u, v), kept inside the block."""
        u0, v0 = max(u, 0.0), max(v, 0.0)
        u1, v1 = min(u + length_m, self.width_m), min(v + width_m, self.depth_m)
        if u1 - u0 < 2 or v1 - v0 < 2:
            return shapely.Polygon()
        return self.polygon([(u0, v0), (u1, v0), (u1, v1), (u0, v1)])

    def polygon(self, uv: Sequence[tuple[float, float]] | np.ndarray) -> shapely.Geometry:
        return shapely.Polygon(self.points(np.asarray(uv, dtype=float)))

    def outline(self) -> shapely.Geometry:
        return shapely.Polygon(self.corners)
