"""Rural roads: motorway, trunk road, roads between villages, field tracks, and the trees along them."""

import numpy as np
import shapely
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from jointseg.synthetic.city import City
from jointseg.synthetic.objects import UNDATED, Feature, road
from jointseg.synthetic.terrain import Terrain, river_half_width, river_y

# Probability of a tree line along a road of a class.
TREE_LINED = {"motorway": 0.15, "trunk": 0.5, "primary": 0.6, "secondary": 0.6, "tertiary": 0.5}


def main_roads(terrain: Terrain, rng: np.random.Generator) -> list[Feature]:
    """Return a motorway and a trunk road along the valley, and one crossing road per reach."""
    frame = terrain.frame
    x = np.arange(-230.0, frame.width_m + 230, 20)
    features = []
    side = frame.reach_m
    low = river_y(frame, x) - river_half_width(frame, x)
    smooth = np.convolve(np.pad(low, 40, mode="edge"), np.ones(81) / 81, mode="valid")
    south = np.maximum(np.minimum(low - 70, smooth - 0.12 * side), 25.0)
    motorway = shapely.LineString(np.column_stack([x, south]))
    for offset in (7.4, -7.4):
        carriageway = motorway.offset_curve(offset)
        features.append(road(carriageway, "motorway", 11.4, "asphalt", 2009, lanes="3", oneway="yes"))
    high = river_y(frame, x) + river_half_width(frame, x)
    smooth = np.convolve(np.pad(high, 30, mode="edge"), np.ones(61) / 61, mode="valid")
    north = np.maximum(high + 45, smooth + 0.07 * side)
    features.append(road(shapely.LineString(np.column_stack([x, north])), "trunk", 17.0, "asphalt", 1996, lanes="4"))
    for reach, year_built in enumerate((2018, 2003, 2011)):
        cx = (reach + (0.24, 0.80, 0.22)[reach]) * side
        line = winding_line(np.array([cx, -230.0]), np.array([cx + 0.06 * side, side + 230.0]), rng, 0.03)
        features.append(road(line, "secondary", 13.0, "asphalt", year_built, lanes="3"))
    return features


def village_roads(
    terrain: Terrain, villages: list[tuple[float, float, float]], cities: list[City], rng: np.random.Generator
) -> list[Feature]:
    """Return roads between neighbouring villages and into the cities; few of them cross the river."""
    points = np.array(
        [village[:2] for village in villages] + [tuple(city.outline.centroid.coords[0]) for city in cities]
    )
    distance = squareform(pdist(points))
    tree = minimum_spanning_tree(distance).toarray()
    pairs = [(int(i), int(j)) for i, j in np.argwhere(tree > 0)]
    nearest = np.argsort(distance, axis=1)[:, 1:4]
    pairs += [(i, int(j)) for i in range(len(villages)) for j in nearest[i] if i < j and rng.random() < 0.28]
    features = []
    for i, j in dict.fromkeys(pairs):
        line = winding_line(points[i], points[j], rng, 0.07)
        crosses = line.intersects(terrain.river)
        main = rng.random() < 0.3 or max(i, j) >= len(villages)
        if crosses and not (main and rng.random() < 0.5):
            continue
        year = int(rng.choice([1985, 1998, 2008, 2014, 2018, 2020, 2022], p=[0.2, 0.25, 0.2, 0.15, 0.08, 0.07, 0.05]))
        if main:
            highway, width, materials = "tertiary", rng.uniform(7.5, 9.5), ["asphalt", "old_concrete"]
        else:
            highway, width, materials = "unclassified", rng.uniform(4.5, 6.5), ["concrete", "old_concrete", "asphalt"]
        features.append(road(line, highway, width, str(rng.choice(materials)), year))
    return features


def field_tracks(
    starts: list[tuple[float, float]], excluded: shapely.Geometry, rng: np.random.Generator
) -> list[Feature]:
    """Return concrete field tracks, dirt tracks and paths, one near each start."""
    features = []
    shapely.prepare(excluded)
    for x, y in starts:
        heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(140, 420)
        start = np.array([x, y]) + 45 * np.array([np.cos(heading), np.sin(heading)])
        line = winding_line(start, start + length * np.array([np.cos(heading), np.sin(heading)]), rng, 0.05)
        if excluded.intersects(line):
            continue
        if rng.random() < 0.6:
            year = int(rng.choice([1999, 2010, 2016, 2018, 2020, 2022], p=[0.25, 0.3, 0.2, 0.1, 0.1, 0.05]))
            width, material = rng.uniform(3, 4), str(rng.choice(["concrete", "old_concrete"]))
            features.append(road(line, "track", width, material, year, surface="concrete"))
        else:
            highway = "path" if rng.random() < 0.85 else "track"
            features.append(road(line, highway, rng.uniform(2.2, 3.5), "dirt_road", UNDATED, surface="dirt"))
    return features


def _like(feature: Feature, line: shapely.Geometry, material: str | None = None, **tags: str) -> Feature:
    """Return a road with the attributes of another one along a new line."""
    tags = {key: value for key, value in feature.tags.items() if key not in {"highway", "width"}} | tags
    highway, width = feature.tags["highway"], float(feature.tags["width"])
    return road(line, highway, width, material or feature.material, feature.year_built, **tags)


def clip_roads(roads: list[Feature], excluded: shapely.Geometry) -> list[Feature]:
    """Cut off the parts of roads inside the cities and the airport."""
    features = []
    for feature in roads:
        assert feature.line is not None
        outside = feature.line.difference(excluded)
        features += [_like(feature, part) for part in shapely.get_parts(outside) if part.length > 25]
    return features


def split_at_river(feature: Feature, river: shapely.Geometry) -> list[Feature]:
    """Split a road where it crosses the river; the crossing is a concrete bridge."""
    assert feature.line is not None
    if not feature.line.intersects(river):
        return [feature]
    channel = river.buffer(8)
    approaches, crossings = (
        [part for part in shapely.get_parts(line) if part.length > 1]
        for line in (feature.line.difference(channel), feature.line.intersection(channel))
    )
    bridges = [_like(feature, part, "concrete", bridge="yes", layer="1") for part in crossings]
    return [_like(feature, part) for part in approaches] + bridges


def winding_line(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, bend: float = 0.10) -> shapely.Geometry:
    """Draw a winding line from a to b, with a deviation of about `bend` times the distance."""
    length = float(np.hypot(*(b - a)))
    t = np.linspace(0, 1, max(4, int(length / 25)))
    across = np.array([-(b - a)[1], (b - a)[0]]) / max(length, 1)
    sway = np.sum([rng.normal(0, bend * length / k**1.3) * np.sin(k * np.pi * t) for k in (1, 2, 3, 5)], axis=0)
    return shapely.LineString(a + t[:, None] * (b - a) + sway[:, None] * across)


def tree_crowns(features: list[Feature], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw tree crowns along roads, many of which hang over the carriageway: centres [n, 2] and radii [n], metres."""
    centres, radii = [], []
    for feature in features:
        if feature.line is None or feature.line.length < 20 or "bridge" in feature.tags:
            continue
        if rng.random() > TREE_LINED.get(feature.tags["highway"], 0.33):
            continue
        half, step = float(feature.tags["width"]) / 2, rng.uniform(6.5, 13)
        for side in (-1, 1) if rng.random() < 0.7 else (1,):
            edge = feature.line.offset_curve(side * (half + rng.uniform(0.2, 2.2)))
            if edge.is_empty or edge.length < step:
                continue
            at = np.arange(step / 2, edge.length, step)
            at = at[rng.random(at.size) < 0.85]
            points = shapely.get_coordinates(shapely.line_interpolate_point(edge, at))
            centres.append(points + rng.normal(0, 0.6, (at.size, 2)))
            radii.append(rng.uniform(1.7, 4.2) * rng.uniform(0.75, 1.25, at.size))
    if not centres:
        return np.empty((0, 2)), np.empty(0)
    return np.vstack(centres), np.concatenate(radii)
