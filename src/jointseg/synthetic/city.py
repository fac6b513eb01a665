"""The three cities: a street grid whose blocks are built one after another, each with one use."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely

from jointseg.synthetic.blocks import BLOCKS
from jointseg.synthetic.objects import SITE, Feature, Quad, road
from jointseg.synthetic.terrain import Frame, Terrain, river_half_width, river_y

NAMES = {"upstream": "Shancheng", "midstream": "Pingyuan", "downstream": "Hukou"}

# Fraction of a city's blocks that are built at the end of a year: upstream grows fast, downstream saturates.
GROWTH_YEARS = (1965, 1990, 2005, 2017, 2019, 2021, 2023, 2026)
GROWTH = {
    "upstream": (0, 0.16, 0.32, 0.50, 0.64, 0.79, 0.95, 1),
    "midstream": (0, 0.28, 0.48, 0.68, 0.76, 0.84, 0.92, 1),
    "downstream": (0, 0.36, 0.60, 0.80, 0.89, 0.93, 0.945, 1),
}
UNBUILT = 9999  # construction year beside an unbuilt block


@dataclass(frozen=True)
class City:
    name: str
    reach: str
    outline: shapely.Geometry  # boundary of its largest part, local metres; the mapped city
    area: shapely.Geometry  # polygon of all parts, including those across the river
    features: list[Feature]  # its streets and blocks


@dataclass(frozen=True)
class _Plan:
    """The street grid of a city with i x j blocks."""

    nodes: np.ndarray  # crossings, [i + 1, j + 1, 2]
    avenues: tuple[set[int], set[int]]  # indices of the avenues in both directions
    built: np.ndarray  # whether a block is ever built, bool [i, j]
    years_built: np.ndarray  # int [i, j]
    distance: np.ndarray  # from the centre (0) to the edge (1), float [i, j]


def make_city(terrain: Terrain, reach: int, reach_name: str) -> City:
    rng = terrain.frame.rng(20, reach)
    plan = _plan(terrain, reach, reach_name, rng)
    features = _streets(plan, rng)
    for i, j in np.argwhere(plan.built):
        features += _block(plan, int(i), int(j), rng)
    outline, area = _outline(plan, terrain.frame, reach)
    for feature in features:
        feature.city = True
    return City(NAMES[reach_name], reach_name, outline, area, features)


def _plan(terrain: Terrain, reach: int, reach_name: str, rng: np.random.Generator) -> _Plan:
    """Lay out the street grid; blocks near the centre and on suitable terrain are built first."""
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
        + 0.16 * terrain.sample("patches", middle[..., 0], middle[..., 1]).clip(-1.5, 1.5)
        + rng.normal(0, 0.10, far.shape)
    )
    built = (score < 1) & _dry(terrain, nodes, reach)
    years_built = np.zeros(built.shape, dtype=int)
    order = np.argsort(score[built], kind="stable")
    area = np.abs(_cross_product(nodes[1:, 1:] - nodes[:-1, :-1], nodes[:-1, 1:] - nodes[1:, :-1]))[built] / 2
    fraction = np.empty(order.size)
    fraction[order] = (np.cumsum(area[order]) - area[order] / 2) / area.sum()
    years_built[built] = np.ceil(np.interp(fraction, GROWTH[reach_name], GROWTH_YEARS)).astype(int)
    avenues = tuple({int(k) for k in range(int(rng.integers(1, 3)), nodes.shape[axis], 3)} for axis in (0, 1))
    return _Plan(nodes, (avenues[0], avenues[1]), built, years_built, far)


def _quads(nodes: np.ndarray) -> np.ndarray:
    """Return the corners of all blocks, counter-clockwise: [i, j, 4, 2]."""
    return np.stack([nodes[:-1, :-1], nodes[1:, :-1], nodes[1:, 1:], nodes[:-1, 1:]], axis=2)


def _cross_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _dry(terrain: Terrain, nodes: np.ndarray, reach: int) -> np.ndarray:
    """Return the blocks that are off the water and inside their reach, bool [i, j]."""
    frame = terrain.frame
    x, y = nodes[..., 0], nodes[..., 1]
    clear = terrain.sample("off_river", x, y) > 28
    clear &= (x > reach * frame.reach_m + 45) & (x < (reach + 1) * frame.reach_m - 45)
    clear &= (y > 45) & (y < frame.reach_m - 45)
    waters = shapely.union_all(terrain.lakes).buffer(15)
    shapely.prepare(waters)
    clear &= ~shapely.contains_xy(waters, x, y)
    corners = clear[:-1, :-1] & clear[1:, 1:] & clear[1:, :-1] & clear[:-1, 1:]
    return corners & ~shapely.intersects(waters, shapely.polygons(_quads(nodes)))


def _outline(plan: _Plan, frame: Frame, reach: int) -> tuple[shapely.Geometry, shapely.Geometry]:
    """Return the outline of the largest part of the city, and the area of all parts."""
    blocks = shapely.union_all(shapely.polygons(_quads(plan.nodes)[plan.built]))
    near = blocks.buffer(90).buffer(-60)
    largest = max(shapely.get_parts(near), key=lambda part: part.area)
    inside = shapely.box(reach * frame.reach_m + 6, 6, (reach + 1) * frame.reach_m - 6, frame.reach_m - 6)
    outline = shapely.Polygon(largest.exterior).simplify(8).intersection(inside)
    return outline, outline.union(blocks.buffer(14))


def _streets(plan: _Plan, rng: np.random.Generator) -> list[Feature]:
    """Return the street segments, each as old as the older of its two blocks."""
    features = []
    padded = np.full((plan.years_built.shape[0] + 2, plan.years_built.shape[1] + 2), UNBUILT)
    padded[1:-1, 1:-1] = np.where(plan.built, plan.years_built, UNBUILT)
    for axis in (0, 1):
        count = plan.nodes.shape[axis]
        for k in range(count):
            lane = np.take(plan.nodes, k, axis=axis)
            sides = np.minimum(np.take(padded, k, axis=axis), np.take(padded, k + 1, axis=axis))[1:-1]
            features += _street(lane, sides, k in plan.avenues[axis], rng)
    return features


def _street(lane: np.ndarray, years_built: np.ndarray, avenue: bool, rng: np.random.Generator) -> list[Feature]:
    """Return one road per run of segments that were built in the same year."""
    main, minor = ("primary", "secondary") if avenue else ("tertiary", "residential")
    highway = main if rng.random() < 0.35 else minor
    width = {"primary": 21.0, "secondary": 15.5, "tertiary": 9.5, "residential": 7.0}[highway] * rng.uniform(0.92, 1.1)
    lanes = {"lanes": str(max(2, round((width - 1) / 3.5)))} if avenue else {}
    materials = ["asphalt", "asphalt" if avenue else "concrete", "old_concrete"]
    features = []
    start = 0
    for k in range(1, years_built.size + 1):
        year = int(years_built[start])
        if k < years_built.size and years_built[k] == year:
            continue
        if year < UNBUILT:
            new = year > 2015 and rng.random() < 0.6
            material = "new_asphalt" if new else str(rng.choice(materials))
            features.append(road(shapely.LineString(lane[start : k + 1]), highway, width, material, year, **lanes))
        start = k
    return features


def _block(plan: _Plan, i: int, j: int, rng: np.random.Generator) -> list[Feature]:
    """Return the features of one block, and the construction site of the two years before."""
    nodes, year_built = plan.nodes, int(plan.years_built[i, j])
    outer = Quad(np.array([nodes[i, j], nodes[i + 1, j], nodes[i + 1, j + 1], nodes[i, j + 1]]))
    left, right = (11.5 if k in plan.avenues[0] else 6.5 for k in (i, i + 1))
    low, high = (11.5 if k in plan.avenues[1] else 6.5 for k in (j, j + 1))
    east, north = outer.width_m - right, outer.depth_m - high
    block = Quad(outer.points(np.array([(left, low), (east, low), (east, north), (left, north)])))
    soil = str(rng.choice(["pale_soil", "pale_soil", "brown_soil"]))
    site = Feature(block.outline(), "site", soil, False, year_built - 2, SITE, tags={"landuse": "construction"})
    build = _block_builder(plan.distance[i, j], year_built, rng)
    return [site, *build(block, year_built, rng)]


def _block_builder(
    distance: float, year_built: int, rng: np.random.Generator
) -> Callable[[Quad, int, np.random.Generator], list[Feature]]:
    """Draw the use of a block: trade in the centre, factories at the edge, housing typical of its year."""
    centre, edge = max(0.0, 1 - distance / 0.45), max(0.0, (distance - 0.55) / 0.45)
    weights = {
        "old_town": 2.2 * (year_built < 1998) + 0.4 * (year_built < 2008),
        "slabs": 2.2,
        "towers": 1.0 * (year_built > 2003) + 0.2,
        "trade": 0.5 + 1.6 * centre,
        "square": 0.25 + 0.5 * centre,
        "school": 0.55,
        "park": 0.85,
        "works": 0.25 + 2.0 * edge,
        "villas": 0.3 + 0.5 * edge,
        "vacant": 0.25 + 0.5 * edge,
    }
    names, probability = list(weights), np.array(list(weights.values()))
    return BLOCKS[names[int(rng.choice(len(names), p=probability / probability.sum()))]]
