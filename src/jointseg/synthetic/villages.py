"""Villages and farmhouses."""

import numpy as np
import shapely

from jointseg.synthetic.objects import GREEN, ROAD, Feature, building, paved, rectangle, road, shaded_roof_half


def village(x: float, y: float, angle: float, excluded: shapely.Geometry, rng: np.random.Generator) -> list[Feature]:
    """Return houses in rows along lanes, ponds, gardens and a threshing floor."""
    rows, columns = int(rng.integers(2, 6)), int(rng.integers(5, 12))
    pitch, gap = rng.uniform(15, 19), rng.uniform(27, 34)
    east, north = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    features: list[Feature] = []
    shapely.prepare(excluded)
    for r in range(rows):
        base = np.array([x, y]) + north * (r - rows / 2) * gap + east * rng.normal(0, 12)
        for c in range(columns):
            location = base + east * (c - columns / 2) * pitch + rng.normal(0, 0.8, 2)
            features += _lot(location, angle, excluded, rng)
        start, end = base - east * (columns / 2 * pitch + 12), base + east * (columns / 2 * pitch + 6)
        lane = shapely.LineString([start - north * 11.5, end - north * 11.5])
        width, material = rng.uniform(3.5, 5), str(rng.choice(["concrete", "old_concrete"]))
        features.append(road(lane, "residential", width, material, 1999))
    half = rows / 2 * gap
    spine = shapely.LineString([np.array([x, y]) - north * (half + 12), np.array([x, y]) + north * (half + 4)])
    features.append(road(spine, "residential", rng.uniform(4, 5.5), "concrete", 1997))
    if rng.random() < 0.6:
        location = np.array([x, y]) + east * (columns / 2 * pitch + 24)
        floor = rectangle(location[0], location[1], rng.uniform(18, 34), rng.uniform(16, 26), angle)
        if not excluded.intersects(floor):
            features.append(paved(floor, "plaza", "concrete", int(rng.choice([1995, 2012, 2019])), place="square"))
    return [feature for feature in features if feature.level != ROAD or not excluded.intersects(feature.shape)]


def _lot(location: np.ndarray, angle: float, excluded: shapely.Geometry, rng: np.random.Generator) -> list[Feature]:
    """Return what is on one lot of a village: a house, a garden, a pond or nothing."""
    kind = rng.random()
    x, y = location
    if excluded.intersects(shapely.Point(location).buffer(9)):
        return []
    if kind < 0.80:
        return house(x, y, angle + rng.normal(0, 0.02), random_year(rng), rng)
    if kind < 0.88:
        garden = rectangle(x, y, 13, 11, angle)
        return [Feature(garden, "lawn", "brown_soil", False, 0, GREEN, vegetation="double_crop")]
    if kind < 0.91:
        pond = shapely.Point(location).buffer(rng.uniform(6, 11), quad_segs=4)
        return [Feature(pond, "pond", "pond", False, 0, GREEN)]
    return []


def house(x: float, y: float, angle: float, year_built: int, rng: np.random.Generator) -> list[Feature]:
    """Return a farmhouse, mostly with a concrete yard in front and sometimes with a shed."""
    length, width = rng.uniform(9, 14), rng.uniform(7.5, 10)
    material = str(rng.choice(["red_tile", "grey_tile", "grey_tile", "flat_roof", "blue_metal", "dark_roof"]))
    farmhouse = building(rectangle(x, y, length, width, angle), material, year_built, rng.uniform(5, 11))
    features = [farmhouse]
    if material.endswith("tile"):
        features.append(shaded_roof_half(farmhouse, x, y, length, width, angle))
    front = np.array([np.sin(angle), -np.cos(angle)])
    if rng.random() < 0.8:
        depth = rng.uniform(5, 10)
        cx, cy = np.array([x, y]) + front * (width / 2 + depth / 2)
        material = str(rng.choice(["concrete", "old_concrete"]))
        features.append(paved(rectangle(cx, cy, length, depth, angle), "yard", material, year_built))
    if rng.random() < 0.3:
        cx, cy = np.array([x, y]) - front * (width / 2 + 4)
        shed = rectangle(cx, cy, rng.uniform(4, 7), 4.5, angle)
        features.append(building(shed, str(rng.choice(["blue_metal", "dark_roof"])), year_built, 3))
    return features


def random_year(rng: np.random.Generator) -> int:
    years = [1975, 1986, 1994, 2003, 2010, 2015, 2018, 2020, 2022]
    return int(rng.choice(years, p=[0.1, 0.18, 0.2, 0.2, 0.12, 0.08, 0.05, 0.04, 0.03]))
