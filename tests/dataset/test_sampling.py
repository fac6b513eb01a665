"""The two-phase sample: every promise of a draw, and 2,000 draws against the probabilities that they state."""

import hashlib
import json
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from scipy.spatial import cKDTree

from jointseg.area import grid
from jointseg.area.tiles import grid as tiling
from jointseg.dataset.candidates import (
    CHIP_GAP_M,
    Lattice,
    border_width_m,
    draw_candidates,
    gap_m,
    lattice_candidates,
    near_border,
    retaining_zones,
)
from jointseg.dataset.prior_density import PriorDensity
from jointseg.dataset.sampling import samples
from jointseg.dataset.sampling_area import SamplingArea
from jointseg.dataset.two_phase_sampling import Design, draw_sample, plan_sampling
from jointseg.raster import cog
from jointseg.runtime.errors import DataError

GOLDEN = "ecdab3f7a8071f1d"
SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}
PARAMS = {
    "tile_km": 4,
    "chip_m": 320,
    "spacing_m": 400,
    "points": 60,
    "allocation": "equal",
    "counts": {},
    "replacement_fraction": 0.5,
    "density_classes": None,
    "splits": SPLITS,
    "block_m": 1000,
    "seed": 1,
}
# Two reaches that meet in zone 50, the eastern one reaching over 120 degrees east into zone 51.
BORDER, SOUTH, NORTH = 120.0, 31.95, 32.05
REACHES = {"up": (119.90, 119.95), "down": (119.95, 120.06)}


def world(folder: Path, reaches: dict[str, tuple[float, float]] = REACHES, tile_km: int = 4) -> dict[str, Path]:
    """Boxes of longitude as reaches, and the tiles that cover them."""
    boxes = [shapely.box(west, SOUTH, east, NORTH) for west, east in reaches.values()]
    area = folder / "study_area.gpkg"
    gpd.GeoDataFrame({"name": list(reaches)}, geometry=boxes, crs=4326).to_file(area, layer="reaches")
    gpd.GeoDataFrame({"name": ["Town"]}, geometry=boxes[:1], crs=4326).to_file(area, layer="cities")
    tiling(study_area=area, tiles=folder / "tiles.geojson", tile_km=tile_km)
    return {"study_area": area, "tiles": folder / "tiles.geojson"}


def prior(folder: Path) -> Path:
    """Percent of ISA: rises to the east within every 0.03 degree, with a hole that is unknown."""
    lon = 119.88 + 0.002 * np.arange(100)
    share = ((lon - 119.88) % 0.03 / 0.03 * 40).astype(np.uint8)
    plane = np.repeat(share[None], 70, axis=0)
    plane[30:36, 20:26] = 255
    transform = Affine(0.002, 0, 119.88, 0, -0.002, 32.07)
    cog.write(folder / "density.tif", plane[None], crs="EPSG:4326", transform=transform, nodata=255)
    return folder / "density.tif"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("world")
    return world(folder) | {"density": prior(folder)}


def run(folder: Path, inputs: dict[str, Path], name: str = "samples.parquet", **changes: object) -> gpd.GeoDataFrame:
    params = PARAMS | {"density_classes": [0.1, 0.25] if "density" in inputs else None} | changes
    samples(**inputs, samples=folder / name, **params)
    return gpd.read_parquet(folder / name)


def ground_and_design(inputs: dict[str, Path], **changes: object) -> tuple[SamplingArea, Design]:
    reaches = gpd.read_file(inputs["study_area"], layer="reaches")
    polygons = dict(zip(reaches["name"], reaches.geometry))
    given = PARAMS | changes
    ground = SamplingArea(
        polygons, gpd.read_file(inputs["tiles"]), given["tile_km"], given["chip_m"], PriorDensity(inputs["density"])
    )
    del given["density_classes"], given["seed"]
    return ground, Design(**given, classes=(10.0, 25.0))


def distances_m(table: gpd.GeoDataFrame) -> np.ndarray:
    """Ground distances of all pairs, by the straight line through the earth (0.1 mm short at 2 km)."""
    x, y, z = grid.transformer("EPSG:4979", "EPSG:4978").transform(table.geometry.x, table.geometry.y, 0 * table.minx)
    points = np.column_stack([x, y, z])
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    return apart


@pytest.mark.parametrize("seed", range(6))
def test_a_draw_keeps_every_promise(tmp_path: Path, two: dict[str, Path], seed: int) -> None:
    table = run(tmp_path, two, seed=seed)
    assert set(table["epsg"]) == {32650, 32651}
    assert ((table.geometry.x < BORDER) == (table["epsg"] == 32650)).all()
    assert distances_m(table).min() >= PARAMS["spacing_m"]
    squares = shapely.box(table.minx, table.miny, table.minx + 320, table.miny + 320)
    here = [gpd.GeoSeries(squares[table["epsg"] == code], crs=code).to_crs(32650).to_numpy() for code in (32650, 32651)]
    ground = np.empty(len(table), dtype=object)
    for code, part in zip((32650, 32651), here):
        ground[table["epsg"] == code] = part
    gaps = shapely.distance(ground[:, None], ground[None])
    np.fill_diagonal(gaps, np.inf)
    # Measured in zone 50, beyond whose border the scale is 1.0004 or more.
    assert gaps.min() >= CHIP_GAP_M * 0.999
    for name, (west, east) in REACHES.items():
        lon = table.geometry.x[table["reach"] == name]
        assert ((west <= lon) & (lon <= east)).all()
    assert (table[["minx", "miny"]] % 10 == 0).all(axis=None)
    tiles = {feature["properties"]["tile"] for feature in json.loads(two["tiles"].read_text())["features"]}
    assert set(table["tile"]) <= tiles
    for code, rows in table.groupby("epsg"):
        x, y = grid.transformer("EPSG:4326", f"EPSG:{code}").transform(rows.geometry.x, rows.geometry.y)
        assert np.allclose(np.column_stack([x, y]), rows[["minx", "miny"]] + 160, atol=1e-3)
    assert (table.groupby("block")["split"].nunique() == 1).all()
    for _, rows in table[~table["replacement"]].groupby("reach"):
        assert set(rows["split"]) == set(SPLITS)


def test_counts_ranks_and_reserves(tmp_path: Path, two: dict[str, Path]) -> None:
    params = PARAMS | {"density_classes": [0.1, 0.25]}
    facts = samples(**two, samples=tmp_path / "samples.parquet", **params)
    table = gpd.read_parquet(tmp_path / "samples.parquet")
    main = table[~table["replacement"]]
    assert len(main) == 60
    assert main["reach"].value_counts().to_dict() == {"up": 30, "down": 30}
    names = [row["stratum"] for row in facts["strata"]]
    assert names == ["down/1", "down/2", "down/3", "up/0", "up/1", "up/2", "up/3"]
    for row in facts["strata"]:
        rows = table[table["stratum"] == row["stratum"]].sort_values("rank")
        assert row["allocated"] == row["wanted"] == (~rows["replacement"]).sum() >= 2
        assert row["replacements"] == rows["replacement"].sum() == -(-row["allocated"] // 2)
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert rows["replacement"].tolist() == sorted(rows["replacement"])
        expected = 320**2 / facts["pitch_m"] ** 2 * row["allocated"] / row["candidates"]
        assert set(np.round(rows["inclusion_probability"] / expected, 9)) <= {0.5, 1}
        assert row["inclusion_probability"] == pytest.approx(expected)
    percent = PriorDensity(two["density"]).at(table.geometry.x.to_numpy(), table.geometry.y.to_numpy())
    edge = np.select([percent == 255, percent < 10, percent < 25], [0, 1, 2], 3)
    assert (table["stratum"].str[-1].astype(int) == edge).all()
    assert facts["pitch_m"] == facts["gap_m"] + facts["window_m"] - 10


def test_the_same_seed_gives_the_same_points_everywhere(tmp_path: Path, two: dict[str, Path]) -> None:
    table = run(tmp_path, two)
    whole = table[["sample_id", "stratum", "rank", "replacement", "split", "block", "tile", "epsg", "minx", "miny"]]
    text = whole.to_csv(index=False, lineterminator="\n", float_format="%.0f")
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == GOLDEN


def test_the_same_bytes_whatever_the_order_of_rows(tmp_path: Path, two: dict[str, Path]) -> None:
    run(tmp_path, two, "a.parquet")
    reaches = gpd.read_file(two["study_area"], layer="reaches")
    reaches.iloc[::-1].to_file(tmp_path / "other.gpkg", layer="reaches")
    tiles = json.loads(two["tiles"].read_text())
    tiles["features"].reverse()
    (tmp_path / "other.geojson").write_text(json.dumps(tiles))
    other = two | {"study_area": tmp_path / "other.gpkg", "tiles": tmp_path / "other.geojson"}
    run(tmp_path, other, "b.parquet")
    run(tmp_path, two, "c.parquet", seed=2)
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("lattice", [Lattice(30, 10), Lattice(40, 30), Lattice(20, 60)])
def test_every_position_is_candidate_with_the_probability_of_the_lattice(lattice: Lattice) -> None:
    """1,600 positions, 6,000 draws: the counts are binomial, none of them beyond 5 standard deviations."""
    draws = 6000
    counts = np.zeros((40, 40))
    for seed in range(draws):
        x, y = lattice_candidates(lattice, seed, 50, (0, 0, 400, 400))
        inside = (x >= 0) & (x < 400) & (y >= 0) & (y < 400)
        np.add.at(counts, (y[inside] // 10, x[inside] // 10), 1)
        apart = np.maximum(np.abs(x[:, None] - x[None]), np.abs(y[:, None] - y[None]))
        np.fill_diagonal(apart, 10_000)
        assert apart.min() >= lattice.gap_m
    p = 100 / lattice.pitch_m**2
    z = (counts - draws * p) / np.sqrt(draws * p * (1 - p))
    assert np.abs(z).max() < 5
    assert np.abs(z.mean()) * 40 < 4 * max(1, lattice.pitch_m / 10)


def places(lon: np.ndarray, lat: np.ndarray, border: float) -> dict[str, np.ndarray]:
    """Regions of the world, and strips beside the border of the zones and the edges of the reaches."""
    east = (lon - BORDER) * 94_500
    return {
        "all": lon > 0,
        "up": lon < 119.95,
        "beside the border, west": (east < 0) & (east > -border),
        "beside the border, east": (east >= 0) & (east < border),
        "across the edge of that strip": np.abs(east + border) < 300,
        "where reaches meet": np.abs(lon - 119.95) < 0.003,
        "edge of a reach": lon < 119.903,
        "south edge": lat < 31.953,
        "corner": (lon > 120.05) & (lat > 32.04),
        "one class": (lon - 119.88) % 0.03 < 0.004,
        "about the unknown": (np.abs(lon - 119.926) < 0.008) & (np.abs(lat - 32.004) < 0.008),
    }


def test_2000_draws_agree_with_their_probabilities(two: dict[str, Path]) -> None:
    """Everything random is drawn anew: origin, jitter, coin, order. Three ways of allocation take turns.

    Double-expansion estimates of the area of regions agree with it, and so do those of the chips that cover a point: the
    sum of 1 / probability over them is the share of the positions about it that are in the population.
    """
    draws = 2000
    designs = []
    for allocation in ("equal", "neyman", "proportional"):
        ground, design = ground_and_design(two, points=44, replacement_fraction=0.2, allocation=allocation)
        designs.append((design, plan_sampling(ground, design)))
    border = border_width_m(design.spacing_m, design.chip_m)
    area = dict.fromkeys(places(np.zeros(1), np.zeros(1), border), 0.0)
    for zone in ground.zones:
        west, south, east, north = ground.extent(zone)
        x, y = (axis.ravel() for axis in np.meshgrid(np.arange(west, east, 10), np.arange(south, north, 10)))
        part = ground.locate(zone, x, y)
        for name, mine in places(part.lon, part.lat, border).items():
            area[name] += 100.0 * mine.sum()

    rng = np.random.default_rng(0)
    point_lon = np.concatenate([rng.uniform(119.897, 120.063, 60), BORDER + rng.uniform(-0.006, 0.006, 60)])
    point_lat = rng.uniform(SOUTH - 0.002, NORTH + 0.002, 120)
    at, share = {}, np.zeros(120)
    for zone in ground.zones:
        to = grid.transformer("EPSG:4326", f"EPSG:{32600 + zone}")
        at[32600 + zone] = np.column_stack(to.transform(point_lon, point_lat))
        for i, (x, y) in enumerate(at[32600 + zone]):
            first = np.ceil((np.array([x, y]) - 160) / 10) * 10
            steps = np.arange(32, dtype=np.int64) * 10
            near = np.meshgrid(int(first[0]) + steps, int(first[1]) + steps)
            share[i] += len(ground.locate(zone, near[0].ravel(), near[1].ravel())) / 1024

    areas = {name: np.zeros(draws) for name in area}
    covering = np.zeros((draws, 120))
    for seed in range(draws):
        table, facts = draw_sample(ground, *designs[seed % 3], seed)
        assert sum(row["allocated"] for row in facts) == 44
        main = table[~table["replacement"].to_numpy()]
        weight = 1 / main["inclusion_probability"].to_numpy()
        centre = main[["minx", "miny"]].to_numpy() + 160
        epsg = main["epsg"].to_numpy()
        for name, mine in places(main.geometry.x.to_numpy(), main.geometry.y.to_numpy(), border).items():
            areas[name][seed] = design.chip_m**2 * weight[mine].sum()
        for code, points in at.items():
            mine = epsg == code
            hit = (np.abs(points[:, None] - centre[mine][None]) < 160).all(axis=2)
            assert hit.sum(axis=1).max(initial=0) <= 1
            covering[seed] += hit @ weight[mine]
    for name, values in areas.items():
        se = values.std(ddof=1) / draws**0.5
        assert abs(values.mean() - area[name]) < 4 * se, name
        assert se < 0.12 * area[name], name
    se = covering.std(axis=0, ddof=1) / draws**0.5
    assert (covering[:, share == 0] == 0).all()
    inside = share > 0.2  # what is covered in a few draws only has no normal mean
    z = (covering.mean(axis=0) - share)[inside] / se[inside]
    assert np.abs(z).max() < 4
    assert abs(z.mean()) < 0.4
    assert ((share > 0.2) & (share < 0.8)).sum() >= 3 and (share > 0.99).sum() >= 90


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spacing_m": 300}, "spacing_m is 300"),
        ({"chip_m": 330}, "chip_m is 330"),
        ({"block_m": 200}, "block_m is 200"),
        ({"block_m": 1005}, "block_m is 1005"),
        ({"allocation": "even"}, "allocation is 'even'"),
        ({"splits": {"train": 0.6, "validation": 0.2, "test": 0.3}}, "add up to 1"),
        ({"splits": {"train": 1, "validation": 0, "test": 0}}, "need a fraction above 0"),
        ({"points": 5}, "fewer than 2 per stratum"),
        ({"block_m": 400_000}, "reach .*: . blocks contain chips, but 3 splits need one each"),
        ({"density_classes": None}, "density classes and the raster"),
        ({"allocation": "fixed", "counts": {"up": 9}}, "must contain either reach down or its strata"),
    ],
)
def test_bad_parameters_are_named(tmp_path: Path, two: dict[str, Path], change: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        run(tmp_path, two, **change)
    assert not (tmp_path / "samples.parquet").exists()


def test_a_reach_with_no_room_for_a_chip_is_named(tmp_path: Path) -> None:
    inputs = world(tmp_path)
    tiles = json.loads(inputs["tiles"].read_text())
    for feature in tiles["features"]:
        feature["properties"]["reaches"] = ["down"]
    inputs["tiles"].write_text(json.dumps(tiles))
    with pytest.raises(DataError, match=r"reaches \['up'\] have no position for a chip of 320 m"):
        run(tmp_path, inputs)


def test_too_few_candidates_are_told_with_a_remedy(
    tmp_path: Path, two: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    table = run(tmp_path, two, points=2000)
    assert not table["replacement"].any() and 800 < len(table) < 2000
    assert "too few candidates for the sample: " in caplog.text and "lower dataset.spacing_m" in caplog.text
    assert "too few candidates for the replacement samples: " in caplog.text
    caplog.clear()
    run(tmp_path, two)
    assert not caplog.text


def test_fixed_counts_of_a_reach_and_of_strata(tmp_path: Path, two: dict[str, Path]) -> None:
    counts = {"up": 12, "down/1": 5, "down/2": 3, "down/3": 9}
    table = run(tmp_path, two, allocation="fixed", counts=counts, points=1)
    main = table[~table["replacement"]]
    assert (main["reach"] == "up").sum() == 12
    for stratum in ("down/1", "down/2", "down/3"):
        assert (main["stratum"] == stratum).sum() == counts[stratum]


def test_the_window_is_as_wide_as_the_wanted_points_allow(two: dict[str, Path]) -> None:
    pitches = []
    for points in (16, 60, 90, 150, 600):
        ground, design = ground_and_design(two, points=points, allocation="proportional")
        lattice = plan_sampling(ground, design).lattice
        assert lattice.gap_m == gap_m(400, 320) == 420
        assert 10 <= lattice.window_m <= 420 and lattice.window_m % 10 == 0
        pitches.append(lattice.pitch_m)
    assert pitches == sorted(pitches, reverse=True)
    assert pitches[0] == 830 and pitches[-1] == 420 and len(set(pitches)) > 2


def test_one_side_of_a_border_keeps_its_candidates(two: dict[str, Path]) -> None:
    ground, design = ground_and_design(two)
    border = border_width_m(400, 320)
    kept = set()
    for seed in range(12):
        found, factor = draw_candidates(ground, plan_sampling(ground, design).lattice, border, seed)
        ((pair, keeper),) = retaining_zones(ground.zones, seed).items()
        assert pair == (50, 51)
        near = near_border(pair, found.lon, found.lat, border)
        assert set(found.epsg[near]) == {32600 + keeper}
        assert (factor == np.where(near, 0.5, 1)).all()
        kept.add(keeper)
    assert kept == {50, 51}


def test_one_stratum_a_reach_without_a_prior(tmp_path: Path, two: dict[str, Path]) -> None:
    inputs = {name: two[name] for name in ("study_area", "tiles")}
    table = run(tmp_path, inputs)
    assert (table["stratum"] == table["reach"]).all()
    first = table[table["reach"] == "up"]
    assert first["sample_id"].tolist() == [f"up-{i:04d}" for i in range(1, len(first) + 1)]


def test_the_belt_is_sampled_within_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """20,000 points on 2 million km2 over zones 46 to 51, with outlines of 60,000 vertices."""
    edges = {"upstream": (92.0, 107.0), "midstream": (107.0, 115.5), "downstream": (115.5, 121.9)}
    outlines = []
    for west, east in edges.values():
        along = np.linspace(west, east, 10_000)
        wave = 0.05 * np.sin(97 * along) + 0.02 * np.sin(901 * along)
        low, high = np.column_stack([along, 25.1 + wave]), np.column_stack([along, 32.0 + wave])
        outlines.append(shapely.Polygon(np.vstack([low, high[::-1]])))
    area = tmp_path / "study_area.gpkg"
    belt = gpd.GeoDataFrame({"name": list(edges)}, geometry=outlines, crs=4326)
    assert belt.to_crs("ESRI:102025").area.sum() / 1e6 == pytest.approx(2.2e6, rel=0.1)
    belt.to_file(area, layer="reaches")
    belt.iloc[:0].to_file(area, layer="cities")
    tiling(study_area=area, tiles=tmp_path / "tiles.geojson", tile_km=30)
    rng = np.random.default_rng(3)
    cells = np.kron(rng.gamma(0.3, 12, (180, 720)).clip(0, 100), np.ones((7, 7))).astype(np.uint8)
    transform = Affine(0.006, 0, 91.8, 0, -0.006, 32.3)
    cog.write(tmp_path / "density.tif", cells[None], crs="EPSG:4326", transform=transform, nodata=255)
    inputs = {"study_area": area, "tiles": tmp_path / "tiles.geojson", "density": tmp_path / "density.tif"}
    belt_params = {"tile_km": 30, "chip_m": 640, "spacing_m": 3000, "block_m": 30_000, "points": 20_000}
    started = time.perf_counter()
    table = run(tmp_path, inputs, **belt_params, density_classes=[0.02, 0.2])
    assert time.perf_counter() - started < 60
    main = table[~table["replacement"]]
    assert len(main) == 20_000 and table["replacement"].sum() == pytest.approx(10_000, abs=20)
    assert main["epsg"].nunique() == 6 and main["stratum"].nunique() == 9
    assert not caplog.text
    x, y, z = grid.transformer("EPSG:4979", "EPSG:4978").transform(table.geometry.x, table.geometry.y, 0 * table.minx)
    nearest = cKDTree(np.column_stack([x, y, z])).query(np.column_stack([x, y, z]), k=2)[0][:, 1]
    assert nearest.min() >= 3000 - 1e-3
    share = main["split"].value_counts(normalize=True)
    assert share["test"] == pytest.approx(0.25, abs=0.01) and share["validation"] == pytest.approx(0.15, abs=0.01)
