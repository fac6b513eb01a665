"""City blocks by use: housing slabs, towers, old towns, trade, squares, schools, parks, works, villas, vacant land."""

from collections.abc import Callable

import numpy as np
import shapely

from jointseg.synthetic.objects import GREEN, PAVED, PITCH, ROOF_PART, Quad, Thing, building, road


def _lawn(block: Quad, birth: int) -> Thing:
    return Thing(block.outline(), "lawn", "lawn", False, birth, GREEN, phase="grass")


def _paved(shape: shapely.Geometry, kind: str, material: str, birth: int, **tags: str) -> Thing:
    return Thing(shape, kind, material, True, birth, PAVED, tags=tags)


def _lane(block: Quad, uv: list[tuple[float, float]], width_m: float, birth: int) -> Thing:
    line = shapely.LineString(block.points(np.array(uv, dtype=float)))
    return road(line, "service", width_m, "concrete", birth)


def _ring(block: Quad, inset: float, width_m: float, birth: int) -> Thing:
    w, d = block.width_m - inset, block.depth_m - inset
    return _lane(block, [(inset, inset), (w, inset), (w, d), (inset, d), (inset, inset)], width_m, birth)


def _roof_details(
    block: Quad, u: float, v: float, length: float, width: float, birth: int, rng: np.random.Generator
) -> list[Thing]:
    """Lift houses and plant on a flat roof."""
    details = []
    for _ in range(int(rng.integers(1, 4))):
        shape = block.box(
            u + rng.uniform(1, max(length - 5, 1.5)),
            v + rng.uniform(0.5, max(width - 4, 1)),
            rng.uniform(3, 5),
            rng.uniform(2.5, 4),
        )
        material = str(rng.choice(["white_metal", "dark_roof", "grey_metal"]))
        if not shape.is_empty:
            details.append(Thing(shape, "roof", material, True, birth, ROOF_PART))
    return details


def slabs(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """Rows of housing slabs with lawns, a ring lane and parking strips."""
    things = [_lawn(block, birth), _ring(block, 3.5, rng.uniform(4, 6), birth)]
    height = float(rng.choice([18, 18, 33, 54]))
    depth, gap = rng.uniform(11, 14), rng.uniform(15, 22)
    material = str(rng.choice(["flat_roof", "flat_roof", "grey_tile", "red_tile", "dark_roof"]))
    v = 9.0
    while v + depth < block.depth_m - 7:
        parts = 2 if block.width_m > 80 else 1
        length = (block.width_m - 20 - 7 * (parts - 1)) / parts
        for k in range(parts):
            if rng.random() < 0.93:
                u = 10 + k * (length + 7)
                things.append(building(block.box(u, v, length, depth), material, birth, height))
                things += _roof_details(block, u, v, length, depth, birth, rng)
        if rng.random() < 0.6:
            strip = block.box(8, v + depth + 2, block.width_m - 16, rng.uniform(4, 7))
            things.append(_paved(strip, "parking", "old_concrete", birth, amenity="parking"))
        v += depth + gap
    return things


def towers(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """Point towers on a podium of lawns and paving."""
    things = [_lawn(block, birth), _ring(block, 4, 6, birth)]
    things.append(
        _paved(
            block.box(block.width_m * 0.3, block.depth_m * 0.3, block.width_m * 0.4, block.depth_m * 0.4),
            "plaza",
            "granite",
            birth,
            place="square",
        )
    )
    height = rng.uniform(45, 95)
    for u in (0.24, 0.74):
        for v in (0.22, 0.74):
            side = rng.uniform(19, 27)
            x, y = block.width_m * u - side / 2, block.depth_m * v - side / 2
            things.append(building(block.box(x, y, side, side * rng.uniform(0.75, 1)), "flat_roof", birth, height))
            things += _roof_details(block, x, y, side, side * 0.7, birth, rng)
    return things


def old_town(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """Low houses wall to wall along narrow alleys; the ground between them is paved."""
    things = [_paved(block.outline(), "yard", "old_concrete", birth, landuse="residential")]
    v = 1.0
    while v < block.depth_m - 8:
        depth, u = rng.uniform(8, 12), 1.0
        while u < block.width_m - 7:
            length = rng.uniform(7, 16)
            if rng.random() < 0.9:
                material = str(
                    rng.choice(["red_tile", "grey_tile", "grey_tile", "flat_roof", "dark_roof", "blue_metal"])
                )
                things.append(building(block.box(u, v, length, depth), material, birth, rng.uniform(4, 11)))
                if material.endswith("tile"):
                    things.append(
                        Thing(
                            block.box(u, v + depth / 2, length, depth / 2),
                            "roof",
                            material,
                            True,
                            birth,
                            ROOF_PART,
                            tags={"shade": "0.75"},
                        )
                    )
            elif rng.random() < 0.6:
                things.append(
                    Thing(block.box(u, v, length, depth), "lawn", "lawn", False, birth, PITCH, phase="evergreen")
                )
            u += length + rng.choice([0.0, 1.5])
        v += depth + rng.uniform(2.5, 5)
    return things


def trade(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """Large buildings with parking and a forecourt."""
    things = [_paved(block.outline(), "plaza", str(rng.choice(["granite", "concrete"])), birth, place="square")]
    w, d = block.width_m, block.depth_m
    cut = rng.uniform(0.4, 0.65)
    material = str(rng.choice(["flat_roof", "grey_metal", "white_metal", "dark_roof"]))
    things.append(building(block.box(6, 8, w * cut - 6, d - 16), material, birth, rng.uniform(14, 32)))
    things += _roof_details(block, 8, 10, w * cut - 12, d - 22, birth, rng)
    if rng.random() < 0.5:
        things.append(
            building(
                block.box(w * cut + 10, d * 0.55, w * (1 - cut) - 20, d * 0.35), "flat_roof", birth, rng.uniform(30, 80)
            )
        )
    lot = block.box(w * cut + 6, 6, w * (1 - cut) - 12, d * 0.42)
    things.append(_paved(lot, "parking", "asphalt", birth, amenity="parking"))
    if rng.random() < 0.6:
        things.append(Thing(block.box(3, 1, w - 6, 5), "lawn", "lawn", False, birth, PITCH, phase="grass"))
    return things


def square(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """An open square with beds and one public building."""
    w, d = block.width_m, block.depth_m
    things = [_paved(block.outline(), "plaza", str(rng.choice(["granite", "pale_concrete"])), birth, place="square")]
    for u, v in ((0.12, 0.12), (0.62, 0.12), (0.12, 0.5), (0.62, 0.5)):
        things.append(
            Thing(block.box(w * u, d * v, w * 0.24, d * 0.2), "lawn", "lawn", False, birth, PITCH, phase="grass")
        )
    things.append(building(block.box(w * 0.2, d * 0.78, w * 0.6, d * 0.18), "flat_roof", birth, rng.uniform(15, 30)))
    return things


def school(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """Teaching blocks, a running track with a pitch inside, ball courts."""
    w, d = block.width_m, block.depth_m
    things = [_lawn(block, birth), _ring(block, 3, 5, birth)]
    r = min(d * 0.26, 30)
    u0, u1, v = r + 8, min(w * 0.62, r + 8 + 60), d * 0.34
    oval = shapely.LineString(block.points(np.array([(u0, v), (u1, v)]))).buffer(r)
    things.append(Thing(oval, "track", "rubber_track", True, birth, PAVED, tags={"leisure": "track"}))
    inner = Quad(
        block.points(
            np.array([(u0 - 3, v - r * 0.55), (u1 + 3, v - r * 0.55), (u1 + 3, v + r * 0.55), (u0 - 3, v + r * 0.55)])
        )
    )
    things.append(Thing(inner.outline(), "pitch", "artificial_turf", True, birth, PITCH, tags={"leisure": "pitch"}))
    court = block.box(w * 0.78, d * 0.12, w * 0.17, d * 0.4)
    things.append(
        Thing(
            court,
            "pitch",
            str(rng.choice(["blue_metal", "rubber_track"])),
            True,
            birth,
            PITCH,
            tags={"leisure": "pitch"},
        )
    )
    for k in range(2):
        things.append(building(block.box(w * 0.1, d * (0.68 + 0.15 * k), w * 0.8, 11), "flat_roof", birth, 18))
    things.append(_paved(block.box(w * 0.08, d * 0.64, w * 0.84, d * 0.32), "plaza", "concrete", birth, place="square"))
    return things


def park(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """Lawns and trees with a pond, two paths and a small square."""
    w, d = block.width_m, block.depth_m
    things = [_lawn(block, birth)]
    grove = Thing(
        block.box(w * 0.08, d * 0.5, w * 0.5, d * 0.42), "lawn", "understorey", False, birth, GREEN, phase="evergreen"
    )
    middle = block.points(np.array([[w * 0.7, d * 0.35]]))[0]
    pond = Thing(
        shapely.Point(middle).buffer(min(w, d) * rng.uniform(0.1, 0.2)),
        "pond",
        "pond",
        False,
        birth,
        PITCH,
        tags={"natural": "water"},
    )
    things += [grove, pond]
    things.append(_lane(block, [(0, d * 0.2), (w * 0.4, d * 0.45), (w, d * 0.8)], 3.5, birth))
    things.append(_lane(block, [(w * 0.2, d), (w * 0.4, d * 0.45), (w * 0.5, 0)], 3.0, birth))
    things.append(_paved(block.box(w * 0.33, d * 0.36, 18, 18), "plaza", "granite", birth, place="square"))
    return things


def works(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """Sheds on a hard yard, a green strip along the street."""
    w, d = block.width_m, block.depth_m
    things = [_lawn(block, birth)]
    yard = block.box(5, 5, w - 10, d - 10)
    things.append(
        _paved(
            yard,
            "yard",
            str(rng.choice(["concrete", "concrete", "pale_concrete", "old_concrete"])),
            birth,
            landuse="industrial",
        )
    )
    material = str(rng.choice(["blue_metal", "blue_metal", "grey_metal", "white_metal", "dark_roof", "red_tile"]))
    v = 10.0
    while v + 18 < d - 6:
        depth = min(rng.uniform(20, 38), d - 8 - v)
        length = (w - 20) * rng.uniform(0.6, 1)
        things.append(building(block.box(9, v, length, depth), material, birth, rng.uniform(8, 13)))
        if depth > 26:
            ridge = block.box(9, v + depth / 2 - 1, length, 2)
            things.append(Thing(ridge, "roof", "white_metal", True, birth, ROOF_PART))
        v += depth + rng.uniform(9, 22)
    return things


def villas(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """Detached houses in gardens."""
    things = [_lawn(block, birth), _lane(block, [(0, block.depth_m / 2), (block.width_m, block.depth_m / 2)], 5, birth)]
    for v in (0.12, 0.3, 0.62, 0.8):
        for u in np.arange(8, block.width_m - 16, rng.uniform(20, 27)):
            if rng.random() < 0.9:
                material = str(rng.choice(["red_tile", "grey_tile", "dark_roof"]))
                y = block.depth_m * v
                things.append(building(block.box(u, y, rng.uniform(10, 14), rng.uniform(9, 12)), material, birth, 9))
                things.append(
                    Thing(block.box(u, y + 5, 11, 5), "roof", material, True, birth, ROOF_PART, tags={"shade": "0.75"})
                )
    return things


def vacant(block: Quad, birth: int, rng: np.random.Generator) -> list[Thing]:
    """Cleared land that nobody built on: bare, pale, not impervious."""
    soil = str(rng.choice(["pale_soil", "pale_soil", "brown_soil"]))
    things = [Thing(block.outline(), "site", soil, False, birth, GREEN)]
    if rng.random() < 0.5:
        rough = block.box(block.width_m * 0.1, block.depth_m * 0.15, block.width_m * 0.5, block.depth_m * 0.5)
        things.append(Thing(rough, "lawn", "lawn", False, birth, PITCH, phase="grass"))
    return things


BLOCKS: dict[str, Callable[[Quad, int, np.random.Generator], list[Thing]]] = {
    block.__name__: block for block in (slabs, towers, old_town, trade, square, school, park, works, villas, vacant)
}
