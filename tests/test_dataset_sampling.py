import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from jointseg import grid
from jointseg.dataset.sampling import BLOCK_GAP_M, allocate, samples, split_blocks
from jointseg.errors import DataError

SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}


def lonlat(geometry: shapely.Geometry, epsg: int) -> shapely.Geometry:
    to = grid.transformer(f"EPSG:{epsg}", "EPSG:4326")
    dense = shapely.segmentize(geometry, 100)
    return shapely.transform(dense, lambda points: np.column_stack(to.transform(points[:, 0], points[:, 1])))


def world(folder: Path, corners_km: dict[str, tuple[int, int]], side_km: int = 4, zone: int = 50) -> dict[str, Path]:
    """Square reaches of one tile each, with their south-west corners."""
    tiles, reaches = [], {}
    for name, (e_km, n_km) in corners_km.items():
        tile = grid.Tile(zone, True, e_km, n_km, side_km)
        reaches[name] = lonlat(shapely.box(*tile.bounds), tile.epsg)
        properties = {"tile": tile.id, "epsg": tile.epsg, "reaches": [name], "cities": []}
        geometry = shapely.geometry.mapping(reaches[name])
        tiles.append({"type": "Feature", "properties": properties, "geometry": geometry})
    frame = gpd.GeoDataFrame({"name": list(reaches)}, geometry=list(reaches.values()), crs=4326)
    frame.to_file(folder / "study_area.gpkg", layer="reaches")
    (folder / "tiles.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": tiles}))
    return {"study_area": folder / "study_area.gpkg", "tiles": folder / "tiles.geojson"}


def draw(folder: Path, inputs: dict[str, Path], name: str = "samples.parquet", **changes: object) -> gpd.GeoDataFrame:
    params = {"tile_km": 4, "chip_m": 320, "spacing_m": 400, "points": 40, "allocation": "equal", "splits": SPLITS}
    samples(**inputs, samples=folder / name, **(params | {"block_m": 1000, "seed": 1} | changes))
    return gpd.read_parquet(folder / name)


@pytest.fixture
def two(tmp_path: Path) -> dict[str, Path]:
    return world(tmp_path, {"up": (660, 3540), "down": (664, 3540)})


def test_chips_keep_every_promise(tmp_path: Path, two: dict[str, Path]) -> None:
    table = draw(tmp_path, two)
    assert dict(table["reach"].value_counts()) == {"up": 20, "down": 20}
    corner = table[["minx", "miny"]].to_numpy()
    assert (corner % 10 == 0).all()
    assert (corner // 1000 == (corner + 319) // 1000).all(), "a chip straddles a block"
    west = np.where(table["reach"] == "up", 660_000, 664_000)
    assert ((corner[:, 0] >= west) & (corner[:, 0] + 320 <= west + 4000)).all()
    apart = np.abs(corner[:, None] - corner[None])
    off = ~np.eye(len(corner), dtype=bool)
    assert np.hypot(*np.moveaxis(apart, -1, 0))[off].min() >= 400
    gap = apart.max(axis=-1) - 320
    assert gap[off].min() >= 0
    split = table["split"].to_numpy()
    assert gap[split[:, None] != split[None]].min() >= BLOCK_GAP_M
    assert (table.groupby("block")["split"].nunique() == 1).all()
    for _, rows in table.groupby("reach"):
        assert set(rows["split"]) == set(SPLITS)
    to_utm = grid.transformer("EPSG:4326", "EPSG:32650")
    x, y = to_utm.transform(table.geometry.x, table.geometry.y)
    assert np.allclose(np.column_stack([x, y]), corner + 160, atol=1e-3)


def test_weights_of_a_split_add_up_to_the_area_of_the_reach(tmp_path: Path, two: dict[str, Path]) -> None:
    table = draw(tmp_path, two)
    for (_, _), rows in table.groupby(["reach", "split"]):
        area = (320**2 / rows["inclusion_probability"]).sum()
        assert area == pytest.approx(16e6, rel=2e-3)  # the UTM scale is 0.9999 here


def test_positions_are_uniform(tmp_path: Path, two: dict[str, Path]) -> None:
    corners = [draw(tmp_path, two, seed=seed, points=24)[["minx", "miny"]].to_numpy() % 4000 for seed in range(12)]
    quarters = np.histogram2d(*np.vstack(corners).T, bins=2, range=[[0, 4000]] * 2)[0]
    assert quarters.sum() == 12 * 24
    # Chi square with 3 degrees of freedom; spacing makes counts more even than chance, never less.
    assert ((quarters - 72) ** 2 / 72).sum() < 16


def test_the_same_seed_gives_the_same_bytes_whatever_the_order_of_rows(tmp_path: Path, two: dict[str, Path]) -> None:
    draw(tmp_path, two, "a.parquet")
    reaches = gpd.read_file(two["study_area"], layer="reaches")
    reaches.iloc[::-1].to_file(tmp_path / "other.gpkg", layer="reaches")
    tiles = json.loads(two["tiles"].read_text())
    tiles["features"].reverse()
    (tmp_path / "other.geojson").write_text(json.dumps(tiles))
    draw(tmp_path, {"study_area": tmp_path / "other.gpkg", "tiles": tmp_path / "other.geojson"}, "b.parquet")
    draw(tmp_path, two, "c.parquet", seed=2)
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_chips_stay_in_the_strip_of_their_zone(tmp_path: Path) -> None:
    # 6 degrees east of the central meridian of zone 50 ends at 120 E, near easting 784 km at this latitude.
    x, _ = grid.transformer("EPSG:4326", "EPSG:32650").transform(120.0, 31.99)
    edge_km = int(x // 1000)
    inputs = world(tmp_path, {"edge": (edge_km - 2, 3540)})
    table = draw(tmp_path, inputs, points=6, splits={"train": 0.5, "validation": 0, "test": 0.5})
    corners = shapely.box(table.minx, table.miny, table.minx + 320, table.miny + 320)
    to = grid.transformer("EPSG:32650", "EPSG:4326")
    assert max(to.transform(*point)[0] for box in corners for point in box.exterior.coords) <= 120 + 1e-9


def test_chips_keep_apart_across_the_border_of_two_zones(tmp_path: Path) -> None:
    corner = {}
    for zone in (50, 51):
        x, y = grid.transformer("EPSG:4326", f"EPSG:{32600 + zone}").transform(120.0, 31.99)
        corner[zone] = (int(x // 1000) - 2, int(y // 1000))
    features = []
    for zone, (e_km, n_km) in corner.items():
        tile = grid.Tile(zone, True, e_km, n_km, 4)
        properties = {"tile": tile.id, "epsg": tile.epsg, "reaches": ["up"], "cities": []}
        geometry = shapely.geometry.mapping(lonlat(shapely.box(*tile.bounds), tile.epsg))
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    (tmp_path / "tiles.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    reach = gpd.GeoDataFrame({"name": ["up"]}, geometry=[shapely.box(119.985, 31.99, 120.015, 32.02)], crs=4326)
    reach.to_file(tmp_path / "study_area.gpkg", layer="reaches")
    inputs = {"study_area": tmp_path / "study_area.gpkg", "tiles": tmp_path / "tiles.geojson"}
    table = draw(tmp_path, inputs, points=14, spacing_m=320, block_m=700)
    assert set(table["epsg"]) == {32650, 32651}
    assert ((table.geometry.x < 120) == (table["epsg"] == 32650)).all()
    squares = shapely.box(table.minx, table.miny, table.minx + 320, table.miny + 320)
    ground = [gpd.GeoSeries([one], crs=epsg).to_crs(32650).iloc[0] for one, epsg in zip(squares, table["epsg"])]
    overlap = max(a.intersection(b).area for i, a in enumerate(ground) for b in ground[:i])
    assert overlap < 1


def test_a_full_reach_gets_fewer_chips_and_says_so(
    tmp_path: Path, two: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    table = draw(tmp_path, two, points=120)
    assert 30 < len(table) < 120
    assert "of 60 chips found room" in caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spacing_m": 300}, "spacing_m is 300"),
        ({"chip_m": 325}, "chip_m is 325"),
        ({"block_m": 200}, "block_m is 200"),
        ({"allocation": "even"}, "allocation is 'even'"),
        ({"splits": {"train": 0.6, "validation": 0.2, "test": 0.3}}, "add up to 1"),
        ({"splits": {"train": 1, "validation": 0, "test": 0}}, "need a share above 0"),
        ({"points": 1}, "leave a reach without chips"),
        ({"block_m": 4000}, "splits want one"),
    ],
)
def test_bad_parameters_are_named(tmp_path: Path, two: dict[str, Path], change: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        draw(tmp_path, two, **change)
    assert not (tmp_path / "samples.parquet").exists()


def test_a_reach_too_narrow_for_a_chip_is_named(tmp_path: Path, two: dict[str, Path]) -> None:
    strip = lonlat(shapely.box(661_000, 3_540_000, 661_200, 3_544_000), 32650)
    gpd.GeoDataFrame({"name": ["up"]}, geometry=[strip], crs=4326).to_file(two["study_area"], layer="reaches")
    with pytest.raises(DataError, match="reach up has no room"):
        draw(tmp_path, two)


@given(st.dictionaries(st.text(min_size=1), st.floats(1, 1e3), min_size=1, max_size=6), st.integers(3000, 9000))
def test_allocation_adds_up_and_is_near_its_share(areas: dict[str, float], count: int) -> None:
    given = allocate(areas, count, "proportional")
    assert sum(given.values()) == count
    assert all(abs(given[name] - count * area / sum(areas.values())) < 1 for name, area in areas.items())


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 9), min_size=3, max_size=40), st.integers(0, 5))
def test_every_split_gets_blocks_near_its_share(sizes: dict[str, int], seed: int) -> None:
    given = split_blocks(sizes, SPLITS, np.random.default_rng(seed))
    assert set(given) == set(sizes)
    assert set(given.values()) == set(SPLITS)
    if len(sizes) >= 12:
        for split, share in SPLITS.items():
            got = sum(size for block, size in sizes.items() if given[block] == split)
            assert abs(got - share * sum(sizes.values())) <= max(sizes.values())
