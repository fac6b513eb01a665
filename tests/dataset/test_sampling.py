"""The two-phase sample: distances, counts, replacement samples, reproducibility, errors and runtime."""

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
from support.sampling_inputs import BORDER, PARAMS, REACHES, SPLITS, area_and_design, run_samples, write_area

from jointseg.area import grid
from jointseg.area.tiles import grid as tiling
from jointseg.dataset.candidates import CHIP_GAP_M, gap_m
from jointseg.dataset.prior_density import PriorDensity
from jointseg.dataset.sampling import samples
from jointseg.dataset.two_phase_sampling import plan_sampling
from jointseg.raster import cog
from jointseg.runtime.errors import DataError

GOLDEN = "ecdab3f7a8071f1d"


def distances_m(table: gpd.GeoDataFrame) -> np.ndarray:
    """Return the straight-line distances of all pairs (0.1 mm too short at 2 km)."""
    x, y, z = grid.transformer("EPSG:4979", "EPSG:4978").transform(table.geometry.x, table.geometry.y, 0 * table.minx)
    points = np.column_stack([x, y, z])
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    return apart


@pytest.mark.parametrize("seed", range(6))
def test_samples_satisfy_the_design(tmp_path: Path, two_zones: dict[str, Path], seed: int) -> None:
    table = run_samples(tmp_path, two_zones, seed=seed)
    assert set(table["epsg"]) == {32650, 32651}
    assert ((table.geometry.x < BORDER) == (table["epsg"] == 32650)).all()
    assert distances_m(table).min() >= PARAMS["spacing_m"]
    squares = shapely.box(table.minx, table.miny, table.minx + 320, table.miny + 320)
    in_zone_50 = [
        gpd.GeoSeries(squares[table["epsg"] == code], crs=code).to_crs(32650).to_numpy() for code in (32650, 32651)
    ]
    projected = np.empty(len(table), dtype=object)
    for code, part in zip((32650, 32651), in_zone_50):
        projected[table["epsg"] == code] = part
    gaps = shapely.distance(projected[:, None], projected[None])
    np.fill_diagonal(gaps, np.inf)
    # Measured in zone 50; beyond its border, the scale is at least 1.0004.
    assert gaps.min() >= CHIP_GAP_M * 0.999
    for name, (west, east) in REACHES.items():
        lon = table.geometry.x[table["reach"] == name]
        assert ((west <= lon) & (lon <= east)).all()
    assert (table[["minx", "miny"]] % 10 == 0).all(axis=None)
    tiles = {feature["properties"]["tile"] for feature in json.loads(two_zones["tiles"].read_text())["features"]}
    assert set(table["tile"]) <= tiles
    for code, rows in table.groupby("epsg"):
        x, y = grid.transformer("EPSG:4326", f"EPSG:{code}").transform(rows.geometry.x, rows.geometry.y)
        assert np.allclose(np.column_stack([x, y]), rows[["minx", "miny"]] + 160, atol=1e-3)
    assert (table.groupby("block")["split"].nunique() == 1).all()
    for _, rows in table[~table["replacement"]].groupby("reach"):
        assert set(rows["split"]) == set(SPLITS)


def test_counts_ranks_and_replacements(tmp_path: Path, two_zones: dict[str, Path]) -> None:
    params = PARAMS | {"density_classes": [0.1, 0.25]}
    facts = samples(**two_zones, samples=tmp_path / "samples.parquet", **params)
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
    percent = PriorDensity(two_zones["density"]).at(table.geometry.x.to_numpy(), table.geometry.y.to_numpy())
    edge = np.select([percent == 255, percent < 10, percent < 25], [0, 1, 2], 3)
    assert (table["stratum"].str[-1].astype(int) == edge).all()
    assert facts["pitch_m"] == facts["gap_m"] + facts["window_m"] - 10


def test_same_seed_gives_the_same_points_on_every_machine(tmp_path: Path, two_zones: dict[str, Path]) -> None:
    table = run_samples(tmp_path, two_zones)
    columns = table[["sample_id", "stratum", "rank", "replacement", "split", "block", "tile", "epsg", "minx", "miny"]]
    text = columns.to_csv(index=False, lineterminator="\n", float_format="%.0f")
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == GOLDEN


def test_bytes_do_not_depend_on_the_order_of_rows(tmp_path: Path, two_zones: dict[str, Path]) -> None:
    run_samples(tmp_path, two_zones, "a.parquet")
    reaches = gpd.read_file(two_zones["study_area"], layer="reaches")
    reaches.iloc[::-1].to_file(tmp_path / "other.gpkg", layer="reaches")
    tiles = json.loads(two_zones["tiles"].read_text())
    tiles["features"].reverse()
    (tmp_path / "other.geojson").write_text(json.dumps(tiles))
    other = two_zones | {"study_area": tmp_path / "other.gpkg", "tiles": tmp_path / "other.geojson"}
    run_samples(tmp_path, other, "b.parquet")
    run_samples(tmp_path, two_zones, "c.parquet", seed=2)
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("change", "message"),
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
def test_error_for_invalid_parameters(tmp_path: Path, two_zones: dict[str, Path], change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run_samples(tmp_path, two_zones, **change)
    assert not (tmp_path / "samples.parquet").exists()


def test_error_for_a_reach_without_positions(tmp_path: Path) -> None:
    inputs = write_area(tmp_path)
    tiles = json.loads(inputs["tiles"].read_text())
    for feature in tiles["features"]:
        feature["properties"]["reaches"] = ["down"]
    inputs["tiles"].write_text(json.dumps(tiles))
    with pytest.raises(DataError, match=r"reaches \['up'\] have no position for a chip of 320 m"):
        run_samples(tmp_path, inputs)


def test_warning_for_too_few_candidates(
    tmp_path: Path, two_zones: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    table = run_samples(tmp_path, two_zones, points=2000)
    assert not table["replacement"].any() and 800 < len(table) < 2000
    assert "too few candidates for the sample: " in caplog.text and "lower dataset.spacing_m" in caplog.text
    assert "too few candidates for the replacement samples: " in caplog.text
    caplog.clear()
    run_samples(tmp_path, two_zones)
    assert not caplog.text


def test_fixed_counts_of_reaches_and_strata(tmp_path: Path, two_zones: dict[str, Path]) -> None:
    counts = {"up": 12, "down/1": 5, "down/2": 3, "down/3": 9}
    table = run_samples(tmp_path, two_zones, allocation="fixed", counts=counts, points=1)
    main = table[~table["replacement"]]
    assert (main["reach"] == "up").sum() == 12
    for stratum in ("down/1", "down/2", "down/3"):
        assert (main["stratum"] == stratum).sum() == counts[stratum]


def test_window_narrows_with_the_number_of_points(two_zones: dict[str, Path]) -> None:
    pitches = []
    for points in (16, 60, 90, 150, 600):
        population, design = area_and_design(two_zones, points=points, allocation="proportional")
        lattice = plan_sampling(population, design).lattice
        assert lattice.gap_m == gap_m(400, 320) == 420
        assert 10 <= lattice.window_m <= 420 and lattice.window_m % 10 == 0
        pitches.append(lattice.pitch_m)
    assert pitches == sorted(pitches, reverse=True)
    assert pitches[0] == 830 and pitches[-1] == 420 and len(set(pitches)) > 2


def test_reaches_are_strata_without_a_prior(tmp_path: Path, two_zones: dict[str, Path]) -> None:
    inputs = {name: two_zones[name] for name in ("study_area", "tiles")}
    table = run_samples(tmp_path, inputs)
    assert (table["stratum"] == table["reach"]).all()
    first = table[table["reach"] == "up"]
    assert first["sample_id"].tolist() == [f"up-{i:04d}" for i in range(1, len(first) + 1)]


def test_study_area_of_2_million_km2_is_sampled_within_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
    table = run_samples(tmp_path, inputs, **belt_params, density_classes=[0.02, 0.2])
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
