"""The country between the cities: what stands where, and what makes way for what."""

import numpy as np
import shapely

from jointseg.synthetic.airport import airport
from jointseg.synthetic.city import City
from jointseg.synthetic.objects import ALWAYS, GREEN, PAVED, ROAD, Quad, Thing, building, road
from jointseg.synthetic.roads import bridged, clipped, highways, links, tracks, wander
from jointseg.synthetic.terrain import REACHES, Terrain
from jointseg.synthetic.villages import birth_year, house, village


def make_country(terrain: Terrain, cities: list[City]) -> list[Thing]:
    """Everything people built outside the cities' blocks."""
    rng = terrain.frame.rng(30)
    port = airport(terrain)
    blocked = shapely.union_all([city.area for city in cities] + [thing.shape for thing in port]).buffer(12)
    taken = blocked.union(shapely.union_all([terrain.river, *terrain.lakes]).buffer(6))
    villages = _sites(terrain, taken, rng)
    roads = highways(terrain, rng) + links(terrain, villages, cities, rng)
    roads = clipped(
        roads,
        shapely.union_all([city.area.buffer(-4) for city in cities] + [thing.shape.buffer(8) for thing in port]),
    )
    things = port + [piece for thing in roads for piece in bridged(thing, terrain.river)]
    paved = shapely.union_all([thing.shape for thing in things]).buffer(4)
    houses: list[Thing] = []
    for x, y, angle in villages:
        houses += village(x, y, angle, taken, rng)
    houses += _farms(terrain, taken, rng)
    houses += _yards(terrain, taken, rng)
    starts = [(x, y) for x, y, _ in villages for _ in range(3)]
    starts += _free(terrain, taken, _per_km2(terrain, 2), 10, rng)
    houses += tracks(starts, taken, rng)
    shapely.prepare(paved)
    # Nothing stands on a through road; lanes and tracks may cross it.
    return things + [thing for thing in houses if thing.level == ROAD or not paved.intersects(thing.shape)]


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


def _farms(terrain: Terrain, taken: shapely.Geometry, rng: np.random.Generator) -> list[Thing]:
    """Scattered houses, with a dirt path or a narrow concrete lane to each."""
    things = []
    for x, y in _free(terrain, taken, _per_km2(terrain, 9), 22, rng):
        angle, birth = rng.uniform(-0.6, 0.6), birth_year(rng)
        things += house(x, y, angle, birth, rng)
        end = np.array([x, y]) + rng.uniform(40, 120) * np.array([np.cos(k := rng.uniform(0, 6.28)), np.sin(k)])
        lane = wander(np.array([x + 7.0, y - 7.0]), end, rng, 0.06)
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
