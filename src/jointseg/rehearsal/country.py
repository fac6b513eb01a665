"""The country between the cities: highways, villages, lanes, field tracks, an airport, works, greenhouses."""

import numpy as np
import shapely
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from jointseg.rehearsal.city import City
from jointseg.rehearsal.terrain import REACHES, Terrain, river_half_width, river_y
from jointseg.rehearsal.things import (
    ALWAYS,
    GREEN,
    PAVED,
    PITCH,
    ROAD,
    Quad,
    Thing,
    building,
    gable,
    rectangle,
    road,
)


def make_country(terrain: Terrain, cities: list[City]) -> list[Thing]:
    """Everything people built outside the cities' blocks."""
    rng = terrain.frame.rng(30)
    port = airport(terrain, cities, rng)
    blocked = shapely.union_all([city.area for city in cities] + [thing.shape for thing in port]).buffer(12)
    wet = shapely.union_all([terrain.river, *terrain.lakes]).buffer(6)
    villages = _sites(terrain, blocked.union(wet), rng)
    roads = _highways(terrain, rng) + _links(terrain, villages, cities, rng)
    roads = _clipped(
        roads,
        shapely.union_all([city.area.buffer(-4) for city in cities] + [thing.shape.buffer(8) for thing in port]),
    )
    bridged = [_bridge(piece, terrain.river) for piece in roads]
    things = port + [piece for pieces in bridged for piece in pieces]
    paved = shapely.union_all([thing.shape for thing in things]).buffer(4)
    houses: list[Thing] = []
    for x, y, angle in villages:
        houses += _village(x, y, angle, blocked.union(wet), rng)
    houses += _farms(terrain, blocked.union(wet), rng)
    houses += _yards(terrain, blocked.union(wet), rng)
    houses += _tracks(terrain, villages, blocked.union(wet), rng)
    shapely.prepare(paved)
    # Nothing stands on a through road; lanes and tracks may cross it.
    return things + [thing for thing in houses if thing.level == ROAD or not paved.intersects(thing.shape)]


def airport(terrain: Terrain, cities: list[City], rng: np.random.Generator) -> list[Thing]:
    """Runway, taxiway, apron, terminal and hangars beside the midstream city."""
    frame = terrain.frame
    size = max(0.3, min(frame.scale, 1.0))
    length, angle = 1500 * size, 0.12
    x, y = frame.reach_m * 1.56, frame.reach_m * 0.115
    axis = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-axis[1], axis[0]])

    def part(along_m: float, off_m: float, long: float, wide: float) -> shapely.Geometry:
        cx, cy = np.array([x, y]) + axis * along_m + across * off_m
        return rectangle(cx, cy, long, wide, angle)

    grass = Thing(part(0, 50 * size, length * 1.08, 270 * size), "lawn", "lawn", False, 2004, GREEN, phase="grass")
    strip = [
        Thing(
            part(0, 0, length, 45 * max(size, 0.6)), "runway", "asphalt", True, 2004, PAVED, tags={"aeroway": "runway"}
        ),
        Thing(
            part(0, 90 * size, length * 0.9, 18), "taxiway", "concrete", True, 2004, PAVED, tags={"aeroway": "taxiway"}
        ),
        Thing(
            part(0, 140 * size, length * 0.3, 90 * size),
            "apron",
            "pale_concrete",
            True,
            2004,
            PAVED,
            tags={"aeroway": "apron"},
        ),
    ]
    for k in (-0.44, -0.2, 0.2, 0.44):
        shape = part(k * length, 45 * size, 18, 95 * size)
        strip.append(Thing(shape, "taxiway", "concrete", True, 2004, PAVED, tags={"aeroway": "taxiway"}))
    apron = Thing(
        part(length * 0.3, 140 * size, length * 0.22, 80 * size),
        "apron",
        "pale_concrete",
        True,
        2020,
        PAVED,
        tags={"aeroway": "apron"},
    )
    halls = [
        building(
            part(-length * 0.05, 175 * size, length * 0.12, 26 * size), "white_metal", 2004, 20, aeroway="terminal"
        ),
        building(part(length * 0.3, 168 * size, 60 * size, 30 * size), "blue_metal", 2020, 14, aeroway="hangar"),
    ]
    # Marks of rubber and paint on the runway.
    marks = [
        Thing(part(k * length, 0, 60 * size, 20 * size), "roof", "new_asphalt", True, 2004, PITCH)
        for k in (-0.38, 0.38)
    ]
    return [grass, *strip, apron, *halls, *marks]


def _sites(terrain: Terrain, taken: shapely.Geometry, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Villages: spread out, on dry and not too steep land."""
    frame = terrain.frame
    wanted = round(len(REACHES) * 1.75 * (frame.reach_m / 1000) ** 2)
    spacing = 410.0
    room = taken.buffer(75)
    shapely.prepare(room)
    sites: list[tuple[float, float, float]] = []
    for _ in range(wanted * 60):
        x, y = rng.uniform(60, frame.width_m - 60), rng.uniform(60, frame.reach_m - 60)
        if len(sites) >= wanted:
            break
        if room.intersects(shapely.Point(x, y)) or terrain.at("slope", x, y) > 0.30:
            continue
        if all((x - px) ** 2 + (y - py) ** 2 > spacing**2 for px, py, _ in sites):
            sites.append((x, y, rng.uniform(-0.5, 0.5)))
    return sites


def _wander(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, bend: float = 0.10) -> shapely.Geometry:
    """A road that does not quite go straight from a to b."""
    length = float(np.hypot(*(b - a)))
    t = np.linspace(0, 1, max(4, int(length / 25)))
    across = np.array([-(b - a)[1], (b - a)[0]]) / max(length, 1)
    sway = np.sum([rng.normal(0, bend * length / k**1.3) * np.sin(k * np.pi * t) for k in (1, 2, 3, 5)], axis=0)
    return shapely.LineString(a + t[:, None] * (b - a) + sway[:, None] * across)


def _highways(terrain: Terrain, rng: np.random.Generator) -> list[Thing]:
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
        line = _wander(np.array([cx, -230.0]), np.array([cx + 0.06 * side, side + 230.0]), rng, 0.03)
        things.append(road(line, "secondary", 13.0, "asphalt", birth, lanes="3"))
    return things


def _links(
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
        line = _wander(points[i], points[j], rng, 0.07)
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


def _clipped(roads: list[Thing], taken: shapely.Geometry) -> list[Thing]:
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


def _bridge(thing: Thing, river: shapely.Geometry) -> list[Thing]:
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


def _house(x: float, y: float, angle: float, birth: int, rng: np.random.Generator) -> list[Thing]:
    """A farmhouse with a concrete yard in front and often a shed."""
    length, width = rng.uniform(9, 14), rng.uniform(7.5, 10)
    material = str(rng.choice(["red_tile", "grey_tile", "grey_tile", "flat_roof", "blue_metal", "dark_roof"]))
    house = building(rectangle(x, y, length, width, angle), material, birth, rng.uniform(5, 11))
    things = [house]
    if material.endswith("tile"):
        things.append(gable(house, x, y, length, width, angle))
    front = np.array([np.sin(angle), -np.cos(angle)])
    if rng.random() < 0.8:
        deep = rng.uniform(5, 10)
        cx, cy = np.array([x, y]) + front * (width / 2 + deep / 2)
        things.append(
            Thing(
                rectangle(cx, cy, length, deep, angle),
                "yard",
                str(rng.choice(["concrete", "old_concrete"])),
                True,
                birth,
                PAVED,
            )
        )
    if rng.random() < 0.3:
        cx, cy = np.array([x, y]) - front * (width / 2 + 4)
        things.append(
            building(
                rectangle(cx, cy, rng.uniform(4, 7), 4.5, angle), str(rng.choice(["blue_metal", "dark_roof"])), birth, 3
            )
        )
    return things


def _birth(rng: np.random.Generator) -> int:
    return int(
        rng.choice(
            [1975, 1986, 1994, 2003, 2010, 2015, 2018, 2020, 2022],
            p=[0.1, 0.18, 0.2, 0.2, 0.12, 0.08, 0.05, 0.04, 0.03],
        )
    )


def _village(x: float, y: float, angle: float, taken: shapely.Geometry, rng: np.random.Generator) -> list[Thing]:
    """Houses in rows along lanes, a threshing floor, ponds, gardens."""
    rows, columns = int(rng.integers(2, 6)), int(rng.integers(5, 12))
    pitch, gap = rng.uniform(15, 19), rng.uniform(27, 34)
    east, north = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    things: list[Thing] = []
    shapely.prepare(taken)
    for r in range(rows):
        base = np.array([x, y]) + north * (r - rows / 2) * gap + east * rng.normal(0, 12)
        for c in range(columns):
            spot = base + east * (c - columns / 2) * pitch + rng.normal(0, 0.8, 2)
            kind = rng.random()
            if taken.intersects(shapely.Point(spot).buffer(9)):
                continue
            if kind < 0.80:
                things += _house(spot[0], spot[1], angle + rng.normal(0, 0.02), _birth(rng), rng)
            elif kind < 0.88:
                shape = rectangle(spot[0], spot[1], 13, 11, angle)
                things.append(Thing(shape, "lawn", "brown_soil", False, 0, GREEN, phase="double_crop"))
            elif kind < 0.91:
                things.append(
                    Thing(shapely.Point(spot).buffer(rng.uniform(6, 11), quad_segs=4), "pond", "pond", False, 0, GREEN)
                )
        start, end = base - east * (columns / 2 * pitch + 12), base + east * (columns / 2 * pitch + 6)
        lane = shapely.LineString([start - north * 11.5, end - north * 11.5])
        things.append(
            road(lane, "residential", rng.uniform(3.5, 5), str(rng.choice(["concrete", "old_concrete"])), 1999)
        )
    half = rows / 2 * gap
    spine = shapely.LineString([np.array([x, y]) - north * (half + 12), np.array([x, y]) + north * (half + 4)])
    things.append(road(spine, "residential", rng.uniform(4, 5.5), "concrete", 1997))
    if rng.random() < 0.6:
        spot = np.array([x, y]) + east * (columns / 2 * pitch + 24)
        floor = rectangle(spot[0], spot[1], rng.uniform(18, 34), rng.uniform(16, 26), angle)
        if not taken.intersects(floor):
            things.append(
                Thing(
                    floor,
                    "plaza",
                    "concrete",
                    True,
                    int(rng.choice([1995, 2012, 2019])),
                    PAVED,
                    tags={"place": "square"},
                )
            )
    return [thing for thing in things if thing.level != ROAD or not taken.intersects(thing.shape)]


def _free(
    terrain: Terrain, taken: shapely.Geometry, count: int, clear_m: float, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Random dry, gentle spots outside what is taken."""
    spots: list[tuple[float, float]] = []
    room = taken.buffer(clear_m)
    shapely.prepare(room)
    for _ in range(count * 40):
        x, y = rng.uniform(20, terrain.frame.width_m - 20), rng.uniform(20, terrain.frame.reach_m - 20)
        if len(spots) == count:
            break
        if terrain.at("slope", x, y) < 0.34 and not room.intersects(shapely.Point(x, y)):
            spots.append((x, y))
    return spots


def _per_km2(terrain: Terrain, density: float) -> int:
    return max(1, round(density * len(REACHES) * (terrain.frame.reach_m / 1000) ** 2))


def _farms(terrain: Terrain, taken: shapely.Geometry, rng: np.random.Generator) -> list[Thing]:
    """Scattered houses, with a dirt path or a narrow concrete lane to each."""
    things = []
    for x, y in _free(terrain, taken, _per_km2(terrain, 9), 22, rng):
        angle, birth = rng.uniform(-0.6, 0.6), _birth(rng)
        things += _house(x, y, angle, birth, rng)
        end = np.array([x, y]) + rng.uniform(40, 120) * np.array([np.cos(k := rng.uniform(0, 6.28)), np.sin(k)])
        lane = _wander(np.array([x + 7.0, y - 7.0]), end, rng, 0.06)
        if taken.intersects(lane):
            continue
        if rng.random() < 0.5:
            things.append(road(lane, "service", rng.uniform(3, 3.8), "concrete", birth))
        else:
            things.append(road(lane, "path", rng.uniform(2.2, 3.2), "dirt_road", ALWAYS))
    return things


def _yards(terrain: Terrain, taken: shapely.Geometry, rng: np.random.Generator) -> list[Thing]:
    """Works, bare pits, greenhouses and solar fields in the open country."""
    things: list[Thing] = []
    for x, y in _free(terrain, taken, _per_km2(terrain, 1.5), 75, rng):
        angle = rng.uniform(-0.6, 0.6)
        east, north = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        length, width = rng.uniform(50, 115), rng.uniform(40, 80)
        corner = np.array([x, y]) - east * length / 2 - north * width / 2
        quad = Quad(
            np.array([corner, corner + east * length, corner + east * length + north * width, corner + north * width])
        )
        kind = rng.random()
        if kind < 0.36:
            birth = int(rng.choice([1995, 2008, 2014, 2018, 2020, 2022]))
            things.append(
                Thing(
                    quad.outline(),
                    "yard",
                    str(rng.choice(["concrete", "pale_concrete"])),
                    True,
                    birth,
                    PAVED,
                    tags={"landuse": "industrial"},
                )
            )
            for v in np.arange(6, width - 20, rng.uniform(26, 40)):
                shed = quad.box(6, v, length * rng.uniform(0.5, 0.85), rng.uniform(14, 22))
                things.append(
                    building(shed, str(rng.choice(["blue_metal", "grey_metal", "red_tile", "white_metal"])), birth, 9)
                )
        elif kind < 0.62:
            for v in np.arange(2, width - 8, 10.5):
                shed = quad.box(2, v, length - 4, 8)
                things.append(
                    Thing(shed, "greenhouse", "greenhouse", False, 2012, GREEN, tags={"building": "greenhouse"})
                )
        elif kind < 0.90:
            soil = str(rng.choice(["pale_soil", "pale_soil", "red_soil", "brown_soil"]))
            shape = quad.outline().buffer(8).intersection(shapely.Point(x, y).buffer(rng.uniform(35, 70)))
            things.append(Thing(shape, "site", soil, False, int(rng.choice([0, 2018, 2020])), GREEN))
        else:
            for v in np.arange(2, width - 5, 6.5):
                things.append(Thing(quad.box(2, v, length - 4, 3.6), "solar", "solar", False, 2019, GREEN))
    return things


def _tracks(
    terrain: Terrain, villages: list[tuple[float, float, float]], taken: shapely.Geometry, rng: np.random.Generator
) -> list[Thing]:
    """Field tracks of 3 to 4 m out of the villages, concrete or earth, and forest paths."""
    things = []
    shapely.prepare(taken)
    starts = [(x, y) for x, y, _ in villages for _ in range(3)] + _free(terrain, taken, _per_km2(terrain, 2), 10, rng)
    for x, y in starts:
        heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(140, 420)
        start = np.array([x, y]) + 45 * np.array([np.cos(heading), np.sin(heading)])
        line = _wander(start, start + length * np.array([np.cos(heading), np.sin(heading)]), rng, 0.05)
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
