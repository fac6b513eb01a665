"""Outputs of the synthetic scene: formats, names, grids, and equal bytes for equal seeds."""

import csv
import hashlib
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
from pyproj import Transformer

from jointseg.synthetic.scene import synthetic
from jointseg.synthetic.terrain import EPSG, ORIGIN_M, Frame, make_terrain

NAMES = (
    *("study_area.gpkg", "sentinel2", "jilin1", "osm.gpkg", "footprints.gpkg", "corrections", "products"),
    *("elevation.tif", "truth"),
)
SETTINGS = {"reach_km": 1, "years": [2017, 2021, 2023], "dates_per_year": 3, "jilin1_year": 2022}


def make(folder: Path) -> Path:
    outputs = {name.split(".")[0]: folder / name for name in NAMES}
    synthetic(**outputs, settings=SETTINGS, seed=11)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sources"))


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes(sources: Path, tmp_path: Path) -> None:
    assert _hashes(make(tmp_path)) == _hashes(sources)


def test_catalogue_is_valid_and_has_the_sizes_and_checksums_of_its_files(sources: Path) -> None:
    items = list(pystac.Catalog.from_file(sources / "sentinel2" / "catalog.json").get_items(recursive=True))
    assert len(items) == 3 * 4
    for item in items:
        masks = {"scl"} if item.collection_id == "sentinel-2-l2a" else {"classi"}
        assert set(item.assets) == {"red", "green", "blue", "nir"} | masks
        for asset in item.assets.values():
            path = Path(asset.get_absolute_href())
            assert not asset.href.startswith("/")
            assert path.stat().st_size == asset.extra_fields["file:size"]
            assert "1220" + hashlib.sha256(path.read_bytes()).hexdigest() == asset.extra_fields["file:checksum"]


def test_bands_are_on_the_lattices_of_the_mgrs_tile(sources: Path) -> None:
    for path in sorted((sources / "sentinel2").rglob("*.tif")):
        with rasterio.open(path) as source:
            res = source.transform.a
            assert source.crs.to_epsg() == 32650
            assert res == {"SCL": 20, "MSK_CLASSI": 60}.get(path.stem, 10)
            assert (source.transform.c - 600_000) % res == (3_600_000 - source.transform.f) % res == 0
            if path.stem == "SCL":
                assert source.read(1).max() <= 11


def test_jilin1_scenes_have_the_format_of_their_product_level(sources: Path) -> None:
    folders = sorted((sources / "jilin1").iterdir())
    assert sum(folder.name.endswith("_L1") for folder in folders) == 1
    for folder in folders:
        if folder.name.endswith("_L3C_PSH"):
            with rasterio.open(folder / f"{folder.name}.tif") as source:
                assert (source.count, source.dtypes[0], source.res) == (3, "uint16", (0.75, 0.75))
                assert source.read(1).any()
        assert "<CloudPercent>" in next(folder.glob("*_meta.xml")).read_text()


def test_vectors_have_the_layers_and_fields_of_their_sources(sources: Path) -> None:
    regions = gpd.read_file(sources / "study_area.gpkg", layer="regions")
    cities = gpd.read_file(sources / "study_area.gpkg", layer="cities")
    assert list(regions["name"]) == ["Shangyou", "Zhongyou", "Xiayou"]
    assert sorted(cities["name"]) == ["Hukou", "Pingyuan", "Shancheng"]
    assert regions.crs.to_epsg() == cities.crs.to_epsg() == 4326
    lines = gpd.read_file(sources / "osm.gpkg", layer="lines")
    areas = gpd.read_file(sources / "osm.gpkg", layer="multipolygons")
    assert {"osm_id", "highway", "other_tags"} <= set(lines.columns)
    assert {"building", "landuse", "leisure", "amenity", "aeroway", "natural", "other_tags"} <= set(areas.columns)
    assert lines["other_tags"].str.contains('"tunnel"=>"yes"').any()
    assert len(gpd.read_file(sources / "footprints.gpkg")) > 50


def test_corrections_reference_their_scene_and_are_inside_it(sources: Path) -> None:
    shapes = 0
    for path in sorted((sources / "corrections").glob("*.json")):
        content = json.loads(path.read_text())
        with rasterio.open(path.parent / content["imagePath"]) as source:
            assert (source.height, source.width) == (content["imageHeight"], content["imageWidth"])
        for shape in content["shapes"]:
            assert shape["label"] in {"isa", "not_isa"}
            points = np.array(shape["points"])
            assert points.min() >= 0 and (points <= [content["imageWidth"], content["imageHeight"]]).all()
            shapes += 1
    assert shapes > 20


@pytest.mark.parametrize(
    ("name", "codes", "step"),
    [
        ("worldcover/ESA_WorldCover_10m_2021_v200_N30E117_Map.tif", {10, 30, 40, 50, 60, 80}, 1 / 12_000),
        ("gisa/GISA_v01_1972_2019_35N_115E.tif", set(range(38)), 0.000269494585),
        ("gisd30/GISD30_1985-2020_E115N35.tif", set(range(9)), 0.000269494585),
        ("sinolc1/Central_Zhongyou_Pingyuan.tif", {0, 1, 2, 4, 5, 6, 7, 9}, 9.6e-06),
    ],
)
def test_reference_products_have_their_own_codes_and_grids(
    sources: Path, name: str, codes: set[int], step: float
) -> None:
    with rasterio.open(sources / "products" / name) as source:
        assert source.crs.to_epsg() == 4326
        assert source.transform.a == pytest.approx(step, rel=1e-9)
        values = set(np.unique(source.read(1)).tolist())
    assert values <= codes and len(values) > 3


def test_elevation_equals_the_relief_of_the_terrain(sources: Path) -> None:
    terrain = make_terrain(Frame(SETTINGS["reach_km"] * 1000, 11))
    x, y = np.meshgrid(np.arange(100, 2900, 150.0), np.arange(100, 900, 150.0))
    lon, lat = Transformer.from_crs(EPSG, 4326, always_xy=True).transform(x + ORIGIN_M[0], y + ORIGIN_M[1])
    with rasterio.open(sources / "elevation.tif") as source:
        assert source.res == pytest.approx((1 / 3600, 1 / 3600)) and source.dtypes == ("float32",)
        elevation = np.array([value[0] for value in source.sample(zip(lon.ravel(), lat.ravel()))])
    expected = terrain.sample("relief", x, y).ravel()
    # A 30 m cell is a mean, and a location is up to half a cell away from its centre.
    slope = terrain.sample("slope", x, y).ravel()
    assert (np.abs(elevation - expected) <= 25 * slope + 3).all() and np.ptp(expected) > 20


def test_isa_of_cities_grows_every_year(sources: Path) -> None:
    with (sources / "truth" / "growth.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 4
    for city in ("Hukou", "Pingyuan", "Shancheng"):
        areas = [float(row["isa_km2"]) for row in rows if row["city"] == city]
        assert areas == sorted(areas) and areas[-1] > areas[0] > 0
    with rasterio.open(sources / "truth" / "2021" / "upstream.tif") as source:
        assert source.shape == (1000, 1000)
        assert set(np.unique(source.read(1)).tolist()) == {0, 1}
