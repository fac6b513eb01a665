"""City blocks by use: each function returns the features of one block."""

from collections.abc import Callable

import numpy as np
import shapely

from jointseg.synthetic.objects import GREEN, PITCH, Feature, Quad, building, lawn, paved, road, roof_part


def _lane(block: Quad, uv: list[tuple[float, float]], width_m: float, year_built: int) -> Feature:
    line = shapely.LineString(block.points(np.array(uv, dtype=float)))
    return road(line, "service", width_m, "concrete", year_built)


def _ring_lane(block: Quad, inset: float, width_m: float, year_built: int) -> Feature:
    w, d = block.width_m - inset, block.depth_m - inset
    return _lane(block, [(inset, inset), (w, inset), (w, d), (inset, d), (inset, inset)], width_m, year_built)


def _roof_details(
    block: Quad, u: float, v: float, length: float, width: float, year_built: int, rng: np.random.Generator
) -> list[Feature]:
    """Return lift houses and technical equipment on a flat roof."""
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
            details.append(roof_part(shape, material, year_built))
    return details


def slabs(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """Rows of apartment slabs with lawns, a ring lane and parking strips."""
    features = [lawn(block.outline(), year_built, GREEN), _ring_lane(block, 3.5, rng.uniform(4, 6), year_built)]
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
                features.append(building(block.box(u, v, length, depth), material, year_built, height))
                features += _roof_details(block, u, v, length, depth, year_built, rng)
        if rng.random() < 0.6:
            strip = block.box(8, v + depth + 2, block.width_m - 16, rng.uniform(4, 7))
            features.append(paved(strip, "parking", "old_concrete", year_built, amenity="parking"))
        v += depth + gap
    return features


def towers(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """Four tower blocks on lawns around a paved square."""
    w, d = block.width_m, block.depth_m
    features = [lawn(block.outline(), year_built, GREEN), _ring_lane(block, 4, 6, year_built)]
    plaza = block.box(w * 0.3, d * 0.3, w * 0.4, d * 0.4)
    features.append(paved(plaza, "plaza", "granite", year_built, place="square"))
    height = rng.uniform(45, 95)
    for u in (0.24, 0.74):
        for v in (0.22, 0.74):
            side = rng.uniform(19, 27)
            x, y = w * u - side / 2, d * v - side / 2
            shape = block.box(x, y, side, side * rng.uniform(0.75, 1))
            features.append(building(shape, "flat_roof", year_built, height))
            features += _roof_details(block, x, y, side, side * 0.7, year_built, rng)
    return features


def old_town(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """Low attached houses along narrow paved alleys."""
    features = [paved(block.outline(), "yard", "old_concrete", year_built, landuse="residential")]
    materials = ["red_tile", "grey_tile", "grey_tile", "flat_roof", "dark_roof", "blue_metal"]
    v = 1.0
    while v < block.depth_m - 8:
        depth, u = rng.uniform(8, 12), 1.0
        while u < block.width_m - 7:
            length = rng.uniform(7, 16)
            if rng.random() < 0.9:
                material = str(rng.choice(materials))
                features.append(building(block.box(u, v, length, depth), material, year_built, rng.uniform(4, 11)))
                if material.endswith("tile"):
                    half = block.box(u, v + depth / 2, length, depth / 2)
                    features.append(roof_part(half, material, year_built, "0.75"))
            elif rng.random() < 0.6:
                features.append(lawn(block.box(u, v, length, depth), year_built, vegetation="evergreen"))
            u += length + rng.choice([0.0, 1.5])
        v += depth + rng.uniform(2.5, 5)
    return features


def trade(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """Large commercial buildings with parking and a forecourt."""
    material = str(rng.choice(["granite", "concrete"]))
    features = [paved(block.outline(), "plaza", material, year_built, place="square")]
    w, d = block.width_m, block.depth_m
    cut = rng.uniform(0.4, 0.65)
    roof = str(rng.choice(["flat_roof", "grey_metal", "white_metal", "dark_roof"]))
    features.append(building(block.box(6, 8, w * cut - 6, d - 16), roof, year_built, rng.uniform(14, 32)))
    features += _roof_details(block, 8, 10, w * cut - 12, d - 22, year_built, rng)
    if rng.random() < 0.5:
        office = block.box(w * cut + 10, d * 0.55, w * (1 - cut) - 20, d * 0.35)
        features.append(building(office, "flat_roof", year_built, rng.uniform(30, 80)))
    lot = block.box(w * cut + 6, 6, w * (1 - cut) - 12, d * 0.42)
    features.append(paved(lot, "parking", "asphalt", year_built, amenity="parking"))
    if rng.random() < 0.6:
        features.append(lawn(block.box(3, 1, w - 6, 5), year_built))
    return features


def square(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """An open square with flower beds and one public building."""
    w, d = block.width_m, block.depth_m
    material = str(rng.choice(["granite", "pale_concrete"]))
    features = [paved(block.outline(), "plaza", material, year_built, place="square")]
    for u, v in ((0.12, 0.12), (0.62, 0.12), (0.12, 0.5), (0.62, 0.5)):
        features.append(lawn(block.box(w * u, d * v, w * 0.24, d * 0.2), year_built))
    hall = block.box(w * 0.2, d * 0.78, w * 0.6, d * 0.18)
    features.append(building(hall, "flat_roof", year_built, rng.uniform(15, 30)))
    return features


def school(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """School buildings, a running track around a pitch, and a ball court."""
    w, d = block.width_m, block.depth_m
    features = [lawn(block.outline(), year_built, GREEN), _ring_lane(block, 3, 5, year_built)]
    r = min(d * 0.26, 30)
    u0, u1, v = r + 8, min(w * 0.62, r + 8 + 60), d * 0.34
    oval = shapely.LineString(block.points(np.array([(u0, v), (u1, v)]))).buffer(r)
    features.append(paved(oval, "track", "rubber_track", year_built, leisure="track"))
    low, high = v - r * 0.55, v + r * 0.55
    pitch = block.polygon([(u0 - 3, low), (u1 + 3, low), (u1 + 3, high), (u0 - 3, high)])
    court = block.box(w * 0.78, d * 0.12, w * 0.17, d * 0.4)
    for shape, material in ((pitch, "artificial_turf"), (court, str(rng.choice(["blue_metal", "rubber_track"])))):
        features.append(Feature(shape, "pitch", material, True, year_built, PITCH, tags={"leisure": "pitch"}))
    for k in range(2):
        features.append(building(block.box(w * 0.1, d * (0.68 + 0.15 * k), w * 0.8, 11), "flat_roof", year_built, 18))
    yard = block.box(w * 0.08, d * 0.64, w * 0.84, d * 0.32)
    features.append(paved(yard, "plaza", "concrete", year_built, place="square"))
    return features


def park(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """Lawns and trees with a pond, two paths and a small square."""
    w, d = block.width_m, block.depth_m
    grove = block.box(w * 0.08, d * 0.5, w * 0.5, d * 0.42)
    middle = block.points(np.array([[w * 0.7, d * 0.35]]))[0]
    pond = shapely.Point(middle).buffer(min(w, d) * rng.uniform(0.1, 0.2))
    return [
        lawn(block.outline(), year_built, GREEN),
        Feature(grove, "lawn", "understorey", False, year_built, GREEN, vegetation="evergreen"),
        Feature(pond, "pond", "pond", False, year_built, PITCH, tags={"natural": "water"}),
        _lane(block, [(0, d * 0.2), (w * 0.4, d * 0.45), (w, d * 0.8)], 3.5, year_built),
        _lane(block, [(w * 0.2, d), (w * 0.4, d * 0.45), (w * 0.5, 0)], 3.0, year_built),
        paved(block.box(w * 0.33, d * 0.36, 18, 18), "plaza", "granite", year_built, place="square"),
    ]


def works(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """Factory sheds on a paved yard, with a green strip along the street."""
    w, d = block.width_m, block.depth_m
    ground = str(rng.choice(["concrete", "concrete", "pale_concrete", "old_concrete"]))
    features = [lawn(block.outline(), year_built, GREEN)]
    features.append(paved(block.box(5, 5, w - 10, d - 10), "yard", ground, year_built, landuse="industrial"))
    material = str(rng.choice(["blue_metal", "blue_metal", "grey_metal", "white_metal", "dark_roof", "red_tile"]))
    v = 10.0
    while v + 18 < d - 6:
        depth = min(rng.uniform(20, 38), d - 8 - v)
        length = (w - 20) * rng.uniform(0.6, 1)
        features.append(building(block.box(9, v, length, depth), material, year_built, rng.uniform(8, 13)))
        if depth > 26:
            ridge = block.box(9, v + depth / 2 - 1, length, 2)
            features.append(roof_part(ridge, "white_metal", year_built))
        v += depth + rng.uniform(9, 22)
    return features


def villas(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """Detached houses in gardens."""
    w, d = block.width_m, block.depth_m
    features = [lawn(block.outline(), year_built, GREEN), _lane(block, [(0, d / 2), (w, d / 2)], 5, year_built)]
    for v in (0.12, 0.3, 0.62, 0.8):
        for u in np.arange(8, w - 16, rng.uniform(20, 27)):
            if rng.random() < 0.9:
                material = str(rng.choice(["red_tile", "grey_tile", "dark_roof"]))
                y = d * v
                house = block.box(u, y, rng.uniform(10, 14), rng.uniform(9, 12))
                features.append(building(house, material, year_built, 9))
                features.append(roof_part(block.box(u, y + 5, 11, 5), material, year_built, "0.75"))
    return features


def vacant(block: Quad, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """Cleared, unbuilt land: bright bare soil that is pervious."""
    w, d = block.width_m, block.depth_m
    soil = str(rng.choice(["pale_soil", "pale_soil", "brown_soil"]))
    features = [Feature(block.outline(), "site", soil, False, year_built, GREEN)]
    if rng.random() < 0.5:
        features.append(lawn(block.box(w * 0.1, d * 0.15, w * 0.5, d * 0.5), year_built))
    return features


BLOCKS: dict[str, Callable[[Quad, int, np.random.Generator], list[Feature]]] = {
    block.__name__: block for block in (slabs, towers, old_town, trade, square, school, park, works, villas, vacant)
}
