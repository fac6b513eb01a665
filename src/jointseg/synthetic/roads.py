"""Roads outside the cities: motorway, trunk road, links between villages, field tracks, and the trees along them."""

import numpy as np
import shapely
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from jointseg.synthetic.city import City
from jointseg.synthetic.objects import Thing, road
from jointseg.synthetic.terrain import Terrain, river_half_width, river_y


def highways(terrain: Terrain, rng: np.random.Generator) -> list[Thing]:
    """A motorway and a trunk road along the valley, and one crossing road in every reach."""
    frame = terrain.frame
    x = np.arange(-230.0, frame.width_m + 230, 20)
    things = []
    side = frame.reach_m
    low = river_y(frame, x) - river_half_width(frame, x)
    smooth = np.convolve(np.pad(low, 40, mode="edge"), np.ones(81) / 81, mode="valid")
    south = np.maximum(np.minimum(low - 70, smooth - 0.12 * side), 25.0)
    motorway = shapely.LineString(np.column_stack([x, south]))
    for offset in (7.4, -7.4):
        lane = motorway.offset_curve(offset)
        things.append(road(lane, "motorway", 11.4, "asphalt", 2009, lanes="3", oneway="yes"))
    high = river_y(frame, x) + river_half_width(frame, x)
    smooth = np.convolve(np.pad(high, 30, mode="edge"), np.ones(61) / 61, mode="valid")
    north = np.maximum(high + 45, smooth + 0.07 * side)
    things.append(road(shapely.LineString(np.column_stack([x, north])), "trunk", 17.0, "asphalt", 1996, lanes="4"))
    for reach, birth in enumerate((2018, 2003, 2011)):
        cx = (reach + (0.24, 0.80, 0.22)[reach]) * side
        line = wander(np.array([cx, -230.0]), np.array([cx + 0.06 * side, side + 230.0]), rng, 0.03)
        things.append(road(line, "secondary", 13.0, "asphalt", birth, lanes="3"))
    return things


def links(
    terrain: Terrain, villages: list[tuple[float, float, float]], cities: list[City], rng: np.random.Generator
) -> list[Thing]:
    """Roads between neighbouring villages and into the cities; few cross the river."""
    points = np.array(
        [village[:2] for village in villages] + [tuple(city.outline.centroid.coords[0]) for city in cities]
    )
    apart = squareform(pdist(points))
    tree = minimum_spanning_tree(apart).toarray()
    pairs = [(int(i), int(j)) for i, j in np.argwhere(tree > 0)]
    near = np.argsort(apart, axis=1)[:, 1:4]
    pairs += [(i, int(j)) for i in range(len(villages)) for j in near[i] if i < j and rng.random() < 0.28]
    things = []
    for i, j in dict.fromkeys(pairs):
        line = wander(points[i], points[j], rng, 0.07)
        crosses = line.intersects(terrain.river)
        main = rng.random() < 0.3 or max(i, j) >= len(villages)
        if crosses and not (main and rng.random() < 0.5):
            continue
        birth = int(rng.choice([1985, 1998, 2008, 2014, 2018, 2020, 2022], p=[0.2, 0.25, 0.2, 0.15, 0.08, 0.07, 0.05]))
        if main:
            things.append(
                road(line, "tertiary", rng.uniform(7.5, 9.5), str(rng.choice(["asphalt", "old_concrete"])), birth)
            )
        else:
            width = rng.uniform(4.5, 6.5)
            things.append(
                road(line, "unclassified", width, str(rng.choice(["concrete", "old_concrete", "asphalt"])), birth)
            )
    return things


def tracks(starts: list[tuple[float, float]], taken: shapely.Geometry, rng: np.random.Generator) -> list[Thing]:
    """Field tracks of 3 to 4 m from each of the starts, concrete or earth, and forest paths."""
    things = []
    shapely.prepare(taken)
    for x, y in starts:
        heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(140, 420)
        start = np.array([x, y]) + 45 * np.array([np.cos(heading), np.sin(heading)])
        line = wander(start, start + length * np.array([np.cos(heading), np.sin(heading)]), rng, 0.05)
        if taken.intersects(line):
            continue
        if rng.random() < 0.6:
            birth = int(rng.choice([1999, 2010, 2016, 2018, 2020, 2022], p=[0.25, 0.3, 0.2, 0.1, 0.1, 0.05]))
            things.append(
                road(
                    line,
                    "track",
                    rng.uniform(3, 4),
                    str(rng.choice(["concrete", "old_concrete"])),
                    birth,
                    surface="concrete",
                )
            )
        else:
            highway = "path" if rng.random() < 0.85 else "track"
            things.append(road(line, highway, rng.uniform(2.2, 3.5), "dirt_road", 0, surface="dirt"))
    return things


def clipped(roads: list[Thing], taken: shapely.Geometry) -> list[Thing]:
    """Roads without their parts inside the cities and the airport."""
    things = []
    for thing in roads:
        assert thing.line is not None
        left = thing.line.difference(taken)
        for part in getattr(left, "geoms", [left]):
            if part.length > 25:
                tags = {key: value for key, value in thing.tags.items() if key not in {"highway", "width"}}
                things.append(
                    road(part, thing.tags["highway"], float(thing.tags["width"]), thing.material, thing.birth, **tags)
                )
    return things


def bridged(thing: Thing, river: shapely.Geometry) -> list[Thing]:
    """Splits a road where it crosses the river; the crossing is tagged as a bridge."""
    assert thing.line is not None
    if not thing.line.intersects(river):
        return [thing]
    tags = {key: value for key, value in thing.tags.items() if key not in {"highway", "width"}}
    width, pieces = float(thing.tags["width"]), []
    over = thing.line.intersection(river.buffer(8))
    for line, extra in ((thing.line.difference(river.buffer(8)), {}), (over, {"bridge": "yes", "layer": "1"})):
        for part in getattr(line, "geoms", [line]):
            if part.length > 1:
                material = "concrete" if extra else thing.material
                pieces.append(road(part, thing.tags["highway"], width, material, thing.birth, **tags, **extra))
    return pieces


def wander(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, bend: float = 0.10) -> shapely.Geometry:
    """A road that does not quite go straight from a to b."""
    length = float(np.hypot(*(b - a)))
    t = np.linspace(0, 1, max(4, int(length / 25)))
    across = np.array([-(b - a)[1], (b - a)[0]]) / max(length, 1)
    sway = np.sum([rng.normal(0, bend * length / k**1.3) * np.sin(k * np.pi * t) for k in (1, 2, 3, 5)], axis=0)
    return shapely.LineString(a + t[:, None] * (b - a) + sway[:, None] * across)


def canopies(things: list[Thing], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Tree crowns along roads, among them many that hang over the carriageway.

    Returns centres float [n, 2] and radii float [n], metres.
    """
    centres, radii = [], []
    for thing in things:
        if thing.line is None or thing.line.length < 20 or "bridge" in thing.tags:
            continue
        lined = {"motorway": 0.15, "trunk": 0.5, "primary": 0.6, "secondary": 0.6, "tertiary": 0.5}.get(
            thing.tags["highway"], 0.33
        )
        if rng.random() > lined:
            continue
        half, step = float(thing.tags["width"]) / 2, rng.uniform(6.5, 13)
        for side in (-1, 1) if rng.random() < 0.7 else (1,):
            edge = thing.line.offset_curve(side * (half + rng.uniform(0.2, 2.2)))
            if edge.is_empty or edge.length < step:
                continue
            at = np.arange(step / 2, edge.length, step)
            at = at[rng.random(at.size) < 0.85]
            centres.append(
                shapely.get_coordinates(shapely.line_interpolate_point(edge, at)) + rng.normal(0, 0.6, (at.size, 2))
            )
            radii.append(rng.uniform(1.7, 4.2) * rng.uniform(0.75, 1.25, at.size))
    if not centres:
        return np.empty((0, 2)), np.empty(0)
    return np.vstack(centres), np.concatenate(radii)
