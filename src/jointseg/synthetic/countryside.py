"""The countryside between the cities: villages, farms, roads and scattered sites."""

import numpy as np
import shapely

from jointseg.synthetic.airport import airport
from jointseg.synthetic.city import City
from jointseg.synthetic.objects import GREEN, ROAD, UNDATED, Feature, Quad, building, paved, road
from jointseg.synthetic.roads import clip_roads, field_tracks, main_roads, split_at_river, village_roads, winding_line
from jointseg.synthetic.terrain import REACHES, Terrain
from jointseg.synthetic.villages import house, random_year, village

VILLAGE_SPACING_M = 410.0


def make_countryside(terrain: Terrain, cities: list[City]) -> list[Feature]:
    """Generate everything built outside the cities' blocks."""
    rng = terrain.frame.rng(30)
    port = airport(terrain)
    built_up = shapely.union_all([city.area for city in cities] + [feature.shape for feature in port]).buffer(12)
    excluded = built_up.union(shapely.union_all([terrain.river, *terrain.lakes]).buffer(6))
    villages = _village_sites(terrain, excluded, rng)
    roads = main_roads(terrain, rng) + village_roads(terrain, villages, cities, rng)
    roads = clip_roads(
        roads,
        shapely.union_all([city.area.buffer(-4) for city in cities] + [feature.shape.buffer(8) for feature in port]),
    )
    features = port + [piece for feature in roads for piece in split_at_river(feature, terrain.river)]
    through_roads = shapely.union_all([feature.shape for feature in features]).buffer(4)
    local: list[Feature] = []
    for x, y, angle in villages:
        local += village(x, y, angle, excluded, rng)
    local += _farms(terrain, excluded, rng)
    local += _sites(terrain, excluded, rng)
    starts = [(x, y) for x, y, _ in villages for _ in range(3)]
    starts += _random_locations(terrain, excluded, _per_km2(terrain, 2), 10, rng)
    local += field_tracks(starts, excluded, rng)
    shapely.prepare(through_roads)
    # Lanes and tracks may cross a through road; nothing else may cover it.
    return features + [
        feature for feature in local if feature.level == ROAD or not through_roads.intersects(feature.shape)
    ]


def _village_sites(
    terrain: Terrain, excluded: shapely.Geometry, rng: np.random.Generator
) -> list[tuple[float, float, float]]:
    """Draw x, y and orientation (radians) of villages: spaced out, on dry land that is not too steep."""
    frame = terrain.frame
    wanted = round(len(REACHES) * 1.75 * (frame.reach_m / 1000) ** 2)
    blocked = excluded.buffer(75)
    shapely.prepare(blocked)
    sites: list[tuple[float, float, float]] = []
    for _ in range(wanted * 60):
        x, y = rng.uniform(60, frame.width_m - 60), rng.uniform(60, frame.reach_m - 60)
        if len(sites) >= wanted:
            break
        if blocked.intersects(shapely.Point(x, y)) or terrain.sample("slope", x, y) > 0.30:
            continue
        if all((x - px) ** 2 + (y - py) ** 2 > VILLAGE_SPACING_M**2 for px, py, _ in sites):
            sites.append((x, y, rng.uniform(-0.5, 0.5)))
    return sites


def _farms(terrain: Terrain, excluded: shapely.Geometry, rng: np.random.Generator) -> list[Feature]:
    """Return scattered houses, each with a dirt path or a narrow concrete lane."""
    features = []
    for x, y in _random_locations(terrain, excluded, _per_km2(terrain, 9), 22, rng):
        angle, year_built = rng.uniform(-0.6, 0.6), random_year(rng)
        features += house(x, y, angle, year_built, rng)
        end = np.array([x, y]) + rng.uniform(40, 120) * np.array([np.cos(k := rng.uniform(0, 6.28)), np.sin(k)])
        lane = winding_line(np.array([x + 7.0, y - 7.0]), end, rng, 0.06)
        if excluded.intersects(lane):
            continue
        if rng.random() < 0.5:
            features.append(road(lane, "service", rng.uniform(3, 3.8), "concrete", year_built))
        else:
            features.append(road(lane, "path", rng.uniform(2.2, 3.2), "dirt_road", UNDATED))
    return features


def _sites(terrain: Terrain, excluded: shapely.Geometry, rng: np.random.Generator) -> list[Feature]:
    """Return factories, bare pits, greenhouses and solar fields."""
    features: list[Feature] = []
    for x, y in _random_locations(terrain, excluded, _per_km2(terrain, 1.5), 75, rng):
        angle = rng.uniform(-0.6, 0.6)
        east, north = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        length, width = rng.uniform(50, 115), rng.uniform(40, 80)
        corner = np.array([x, y]) - east * length / 2 - north * width / 2
        quad = Quad(
            np.array([corner, corner + east * length, corner + east * length + north * width, corner + north * width])
        )
        kind = rng.random()
        if kind < 0.36:
            features += _factory(quad, length, width, rng)
        elif kind < 0.62:
            for v in np.arange(2, width - 8, 10.5):
                shed, tags = quad.box(2, v, length - 4, 8), {"building": "greenhouse"}
                features.append(Feature(shed, "greenhouse", "greenhouse", False, 2012, GREEN, tags=tags))
        elif kind < 0.90:
            soil = str(rng.choice(["pale_soil", "pale_soil", "red_soil", "brown_soil"]))
            shape = quad.outline().buffer(8).intersection(shapely.Point(x, y).buffer(rng.uniform(35, 70)))
            features.append(Feature(shape, "site", soil, False, int(rng.choice([0, 2018, 2020])), GREEN))
        else:
            for v in np.arange(2, width - 5, 6.5):
                features.append(Feature(quad.box(2, v, length - 4, 3.6), "solar", "solar", False, 2019, GREEN))
    return features


def _factory(quad: Quad, length: float, width: float, rng: np.random.Generator) -> list[Feature]:
    """Return rows of sheds on a paved yard."""
    year_built = int(rng.choice([1995, 2008, 2014, 2018, 2020, 2022]))
    ground = str(rng.choice(["concrete", "pale_concrete"]))
    features = [paved(quad.outline(), "yard", ground, year_built, landuse="industrial")]
    for v in np.arange(6, width - 20, rng.uniform(26, 40)):
        shed = quad.box(6, v, length * rng.uniform(0.5, 0.85), rng.uniform(14, 22))
        roof = str(rng.choice(["blue_metal", "grey_metal", "red_tile", "white_metal"]))
        features.append(building(shed, roof, year_built, 9))
    return features


def _random_locations(
    terrain: Terrain, excluded: shapely.Geometry, count: int, clearance_m: float, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Draw up to `count` locations (x, y) on gentle slopes, `clearance_m` outside the excluded area."""
    locations: list[tuple[float, float]] = []
    blocked = excluded.buffer(clearance_m)
    shapely.prepare(blocked)
    for _ in range(count * 40):
        x, y = rng.uniform(20, terrain.frame.width_m - 20), rng.uniform(20, terrain.frame.reach_m - 20)
        if len(locations) == count:
            break
        if terrain.sample("slope", x, y) < 0.34 and not blocked.intersects(shapely.Point(x, y)):
            locations.append((x, y))
    return locations


def _per_km2(terrain: Terrain, density: float) -> int:
    return max(1, round(density * len(REACHES) * (terrain.frame.reach_m / 1000) ** 2))
