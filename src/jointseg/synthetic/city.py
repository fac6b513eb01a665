"""The three cities: a street grid whose blocks are built one after another, each for one use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely

from jointseg.synthetic.blocks import BLOCKS
from jointseg.synthetic.objects import SITE, Quad, Thing, road
from jointseg.synthetic.terrain import Frame, Terrain, river_half_width, river_y

NAMES = {"upstream": "Shancheng", "midstream": "Pingyuan", "downstream": "Hukou"}

# Share of a city's blocks that stand at the end of a year: upstream grows fast, downstream saturates.
GROWTH: dict[str, tuple[tuple[int, float], ...]] = {
    "upstream": (
        (1965, 0),
        (1990, 0.16),
        (2005, 0.32),
        (2017, 0.50),
        (2019, 0.64),
        (2021, 0.79),
        (2023, 0.95),
        (2026, 1),
    ),
    "midstream": (
        (1965, 0),
        (1990, 0.28),
        (2005, 0.48),
        (2017, 0.68),
        (2019, 0.76),
        (2021, 0.84),
        (2023, 0.92),
        (2026, 1),
    ),
    "downstream": (
        (1965, 0),
        (1990, 0.36),
        (2005, 0.60),
        (2017, 0.80),
        (2019, 0.89),
        (2021, 0.93),
        (2023, 0.945),
        (2026, 1),
    ),
}


@dataclass(frozen=True)
class City:
    """A city.

    Attributes:
        name: of the city.
        reach: where it lies.
        outline: of its largest part, local metres; what is mapped as the city.
        area: of all its parts, those across the river included.
        things: what stands in it.
    """

    name: str
    reach: str
    outline: shapely.Geometry
    area: shapely.Geometry
    things: list[Thing]


@dataclass(frozen=True)
class _Plan:
    nodes: np.ndarray  # [i, j, 2] crossings
    wide: tuple[set[int], set[int]]  # indices of the avenues in both directions
    built: np.ndarray  # bool [i, j]
    births: np.ndarray  # int [i, j]
    closeness: np.ndarray  # float [i, j], 0 centre .. 1 edge


def make_city(terrain: Terrain, reach: int, reach_name: str) -> City:
    """Lays out one reach's city; the same seed gives the same city."""
    rng = terrain.frame.rng(20, reach)
    plan = _plan(terrain, reach, reach_name, rng)
    things = _streets(plan, rng)
    for i, j in np.argwhere(plan.built):
        things += _block(plan, int(i), int(j), rng)
    outline, area = _outline(plan, terrain.frame, reach)
    for thing in things:
        thing.city = True
    return City(NAMES[reach_name], reach_name, outline, area, things)


def _plan(terrain: Terrain, reach: int, reach_name: str, rng: np.random.Generator) -> _Plan:
    frame = terrain.frame
    radius = frame.reach_m * (0.285, 0.30, 0.305)[reach]
    cx = frame.reach_m * (reach + (0.56, 0.42, 0.52)[reach])
    north = river_y(frame, np.array(cx)) + river_half_width(frame, np.array(cx))
    cy = min(float(north) + 0.55 * radius, frame.reach_m - 0.85 * radius)
    angle = rng.uniform(-0.35, 0.35)
    steps = [np.cumsum(np.r_[0, rng.uniform(82, 128, int(2.5 * radius / 105))]) for _ in range(2)]
    u, v = (s - s[-1] / 2 for s in steps)
    uu, vv = np.meshgrid(u, v, indexing="ij")
    bend = rng.uniform(0, 6.28, 4)
    uu = uu + 9 * np.sin(vv / 260 + bend[0]) + 4 * np.sin(vv / 90 + bend[1])
    vv = vv + 9 * np.sin(uu / 240 + bend[2]) + 4 * np.sin(uu / 80 + bend[3])
    nodes = np.stack(
        [cx + uu * np.cos(angle) - vv * np.sin(angle), cy + uu * np.sin(angle) + vv * np.cos(angle)], axis=-1
    )
    middle = (nodes[:-1, :-1] + nodes[1:, 1:] + nodes[1:, :-1] + nodes[:-1, 1:]) / 4
    far = np.hypot(middle[..., 0] - cx, middle[..., 1] - cy) / radius
    score = (
        far
        + 0.16 * terrain.at("patches", middle[..., 0], middle[..., 1]).clip(-1.5, 1.5)
        + rng.normal(0, 0.10, far.shape)
    )
    built = (score < 1) & _dry(terrain, nodes, reach)
    births = np.zeros(built.shape, dtype=int)
    order = np.argsort(score[built], kind="stable")
    area = np.abs(_cross(nodes[1:, 1:] - nodes[:-1, :-1], nodes[:-1, 1:] - nodes[1:, :-1]))[built] / 2
    share = np.empty(order.size)
    share[order] = (np.cumsum(area[order]) - area[order] / 2) / area.sum()
    years, shares = np.array(GROWTH[reach_name]).T
    births[built] = np.ceil(np.interp(share, shares, years)).astype(int)
    wide = tuple({int(k) for k in range(int(rng.integers(1, 3)), nodes.shape[axis], 3)} for axis in (0, 1))
    return _Plan(nodes, (wide[0], wide[1]), built, births, far)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _dry(terrain: Terrain, nodes: np.ndarray, reach: int) -> np.ndarray:
    """Blocks off the water and inside their reach."""
    frame = terrain.frame
    x, y = nodes[..., 0], nodes[..., 1]
    clear = terrain.at("off_river", x, y) > 28
    clear &= (x > reach * frame.reach_m + 45) & (x < (reach + 1) * frame.reach_m - 45)
    clear &= (y > 45) & (y < frame.reach_m - 45)
    waters = shapely.union_all(terrain.lakes).buffer(15)
    shapely.prepare(waters)
    clear &= ~shapely.contains_xy(waters, x, y)
    corners = clear[:-1, :-1] & clear[1:, 1:] & clear[1:, :-1] & clear[:-1, 1:]
    blocks = shapely.polygons(np.stack([nodes[:-1, :-1], nodes[1:, :-1], nodes[1:, 1:], nodes[:-1, 1:]], axis=2))
    return corners & ~shapely.intersects(waters, blocks)


def _outline(plan: _Plan, frame: Frame, reach: int) -> tuple[shapely.Geometry, shapely.Geometry]:
    """Outline of the largest part of the city, and the area of all parts."""
    nodes = plan.nodes
    quads = np.stack([nodes[:-1, :-1], nodes[1:, :-1], nodes[1:, 1:], nodes[:-1, 1:]], axis=2)[plan.built]
    blocks = shapely.union_all(shapely.polygons(quads))
    near = blocks.buffer(90).buffer(-60)
    largest = max(getattr(near, "geoms", [near]), key=lambda part: part.area)
    inside = shapely.box(reach * frame.reach_m + 6, 6, (reach + 1) * frame.reach_m - 6, frame.reach_m - 6)
    outline = shapely.Polygon(largest.exterior).simplify(8).intersection(inside)
    return outline, outline.union(blocks.buffer(14))


def _streets(plan: _Plan, rng: np.random.Generator) -> list[Thing]:
    """Street segments, each as old as the older of its two blocks."""
    things = []
    padded = np.full((plan.births.shape[0] + 2, plan.births.shape[1] + 2), 9999)
    padded[1:-1, 1:-1] = np.where(plan.built, plan.births, 9999)
    for axis in (0, 1):
        count = plan.nodes.shape[axis]
        for k in range(count):
            lane = np.take(plan.nodes, k, axis=axis)
            sides = np.minimum(np.take(padded, k, axis=axis), np.take(padded, k + 1, axis=axis))[1:-1]
            things += _street(lane, sides, k in plan.wide[axis], rng)
    return things


def _street(lane: np.ndarray, births: np.ndarray, wide: bool, rng: np.random.Generator) -> list[Thing]:
    """Runs of segments that were built in the same year."""
    highway = (
        ("primary" if rng.random() < 0.35 else "secondary")
        if wide
        else ("tertiary" if rng.random() < 0.35 else "residential")
    )
    width = {"primary": 21.0, "secondary": 15.5, "tertiary": 9.5, "residential": 7.0}[highway] * rng.uniform(0.92, 1.1)
    lanes = {"lanes": str(max(2, round((width - 1) / 3.5)))} if wide else {}
    things = []
    start = 0
    for k in range(1, births.size + 1):
        if k < births.size and births[k] == births[start]:
            continue
        if births[start] < 9999:
            birth = int(births[start])
            recent = birth > 2015
            material = (
                "new_asphalt"
                if recent and rng.random() < 0.6
                else rng.choice(
                    ["asphalt", "asphalt", "old_concrete"] if wide else ["asphalt", "concrete", "old_concrete"]
                )
            )
            line = shapely.LineString(lane[start : k + 1])
            things.append(road(line, highway, width, str(material), birth, **lanes))
        start = k
    return things


def _block(plan: _Plan, i: int, j: int, rng: np.random.Generator) -> list[Thing]:
    nodes, birth = plan.nodes, int(plan.births[i, j])
    corners = np.array([nodes[i, j], nodes[i + 1, j], nodes[i + 1, j + 1], nodes[i, j + 1]])
    inset = (
        np.array([11.5 if k in plan.wide[0] else 6.5 for k in (i, i + 1)]),
        np.array([11.5 if k in plan.wide[1] else 6.5 for k in (j, j + 1)]),
    )
    outer = Quad(corners)
    (left, right), (low, high) = inset
    block = Quad(
        outer.points(
            np.array(
                [
                    (left, low),
                    (outer.width_m - right, low),
                    (outer.width_m - right, outer.depth_m - high),
                    (left, outer.depth_m - high),
                ]
            )
        )
    )
    soil = str(rng.choice(["pale_soil", "pale_soil", "brown_soil"]))
    site = Thing(block.outline(), "site", soil, False, birth - 2, SITE, tags={"landuse": "construction"})
    use = _use(plan.closeness[i, j], birth, rng)
    return [site, *use(block, birth, rng)]


def _use(far: float, birth: int, rng: np.random.Generator) -> Callable[[Quad, int, np.random.Generator], list[Thing]]:
    """What a block is for: trade in the middle, works at the edge, housing of its time between."""
    centre, edge = max(0.0, 1 - far / 0.45), max(0.0, (far - 0.55) / 0.45)
    weights = {
        "old_town": 2.2 * (birth < 1998) + 0.4 * (birth < 2008),
        "slabs": 2.2,
        "towers": 1.0 * (birth > 2003) + 0.2,
        "trade": 0.5 + 1.6 * centre,
        "square": 0.25 + 0.5 * centre,
        "school": 0.55,
        "park": 0.85,
        "works": 0.25 + 2.0 * edge,
        "villas": 0.3 + 0.5 * edge,
        "vacant": 0.25 + 0.5 * edge,
    }
    names = list(weights)
    share = np.array([weights[name] for name in names])
    return BLOCKS[names[int(rng.choice(len(names), p=share / share.sum()))]]
