"""Villages and farmhouses."""

import numpy as np
import shapely

from jointseg.synthetic.objects import GREEN, PAVED, ROAD, Thing, building, gable, rectangle, road


def village(x: float, y: float, angle: float, taken: shapely.Geometry, rng: np.random.Generator) -> list[Thing]:
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
                things += house(spot[0], spot[1], angle + rng.normal(0, 0.02), birth_year(rng), rng)
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


def house(x: float, y: float, angle: float, birth: int, rng: np.random.Generator) -> list[Thing]:
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


def birth_year(rng: np.random.Generator) -> int:
    return int(
        rng.choice(
            [1975, 1986, 1994, 2003, 2010, 2015, 2018, 2020, 2022],
            p=[0.1, 0.18, 0.2, 0.2, 0.12, 0.08, 0.05, 0.04, 0.03],
        )
    )
