"""A run of one tile with real scenes and a real composite; map, dataset and checkpoints are placeholders."""

import shutil
import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np
from support.provenance_flow import job, quiet
from support.tiny_sentinel2 import NORTH, TILE, TILE_KM, WEST, catalogue, compositing, item, listing, rgb, scl

from jointseg.area.grid import parse_tile
from jointseg.area.study_area import study_area
from jointseg.area.tiles import grid
from jointseg.provenance.job_record import run_job
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scene import lonlat_box
from jointseg.sentinel2.scenes import scenes

RESULTS = "results/tiny"
_CACHE = tempfile.TemporaryDirectory()
MAY, JUNE, JULY, AUGUST = (f"2021-{month:02d}-01T02:50:00Z" for month in (5, 6, 7, 8))


def isa(*, composites, superres, segmentation, isa, year, tile, tile_km, method, window_m, stride_m, batch, threads):
    """Write a map: impervious in the northern half, nodata where the composite is nodata."""
    tile = parse_tile(tile, tile_km)
    valid = raster_io.read(composites[0])[0][3] > 0
    classes = np.zeros(tile.shape(1), dtype=np.uint8)
    classes[: classes.shape[0] // 2] = 1
    classes[~valid.repeat(10, axis=0).repeat(10, axis=1)] = 255
    cog.write(isa, classes[None], crs=tile.crs, transform=tile.transform(1), nodata=255)
    return {"windows": 16, "device": "cpu", "threshold": 0.45}


def train(*, index, checkpoint, training, seed, threads):
    """Write a placeholder checkpoint."""
    checkpoint.write_bytes(index.read_bytes()[:100])
    return {"chips": {"train": 1}}


def chip(sample_id, split, minx, miny, side_m=320):
    square = lonlat_box((minx, miny, minx + side_m, miny + side_m), "EPSG:32650")
    return {"sample_id": sample_id, "reach": "upper", "split": split, "epsg": 32650, "minx": float(minx),
            "miny": float(miny), "geometry": square}  # fmt: skip


CHIPS = [
    chip("upper-1", "train", WEST + 200, NORTH - 400),
    chip("upper-2", "test", WEST + 600, NORTH - 900),
    chip("upper-3", "train", WEST + 5000, NORTH - 320),
]


def index(*, index):
    """Write an index of three chips."""
    gpd.GeoDataFrame(CHIPS, crs=4326).to_parquet(index)


def make(archive: Path, level: str = "L2A", **settings) -> None:
    """Run all jobs of one tile with results in RESULTS below the working directory; `settings` are of the composite."""
    _write_boundaries()
    catalogue(archive)
    scene_params = listing(level=level) | {"source": {"kind": "archive", "path": str(archive)}}
    composite_params = compositing(**settings) | {"source": scene_params["source"]}
    wildcards = {name: scene_params.pop(name) for name in ("year", "tile")}
    for name in wildcards:
        composite_params.pop(name)
    area, tiles = f"{RESULTS}/study_area/study_area.gpkg", f"{RESULTS}/grid/tiles.geojson"
    scene_list = f"{RESULTS}/sentinel2/scenes/2021/{TILE}.json"
    image = f"{RESULTS}/sentinel2/composites/2021/{TILE}.tif"
    chips = f"{RESULTS}/dataset/index.parquet"
    superres, segmentation = f"{RESULTS}/superres.safetensors", f"{RESULTS}/seg.safetensors"
    fields = {"region_field": "name", "city_field": "name", "reaches": {"upper": ["Shang"]}}
    training = {"training": {"steps": 7}, "seed": 3, "threads": 1}
    prediction = {"tile_km": TILE_KM, "method": "superres", "window_m": 320, "stride_m": 280, "batch": 1, "threads": 1}
    boundaries = {"regions": "regions.geojson", "cities": "cities.geojson"}
    networks = {"superres": superres, "segmentation": segmentation}
    with quiet():
        _run("study_area", study_area, boundaries, {"study_area": area}, fields | {"city_reach": {"Cheng": "upper"}})
        _run("grid", grid, {"study_area": area}, {"tiles": tiles}, {"tile_km": TILE_KM})
        _run("scenes", scenes, {"archive": str(archive)}, {"scenes": scene_list}, scene_params, wildcards)
        inputs = {"archive": str(archive), "scenes": scene_list}
        _run("composite", composite, inputs, {"composite": image}, composite_params, wildcards)
        _run("dataset", index, {}, {"index": chips}, {})
        _run("superres_adversarial", train, {"index": chips}, {"checkpoint": superres}, training)
        _run("segmentation", train, {"index": chips}, {"checkpoint": segmentation}, training)
        inputs = {"composites": [image], **networks}
        _run("predict", isa, inputs, {"isa": f"{RESULTS}/isa/2021/{TILE}.tif"}, prediction, wildcards)


def _write_boundaries() -> None:
    west, south, east, north = parse_tile(TILE, TILE_KM).bounds
    region = lonlat_box((west + 5, south + 5, east - 5, north - 5), "EPSG:32650")
    city = lonlat_box((west + 5, south + 500, east - 5, north - 5), "EPSG:32650")
    gpd.GeoDataFrame({"name": ["Shang"]}, geometry=[region], crs=4326).to_file("regions.geojson")
    gpd.GeoDataFrame({"name": ["Cheng"]}, geometry=[city], crs=4326).to_file("cities.geojson")


def _run(rule, step, inputs, outputs, params, wildcards=None) -> None:
    run_job(job(rule, RESULTS, inputs=inputs, outputs=outputs, params=params, wildcards=wildcards), step)


def cached_run() -> Path:
    """Copy a run with the scenes of `four_dates` into the working directory; return its results folder."""
    if not any(Path(_CACHE.name).iterdir()):
        make(four_dates(Path("archive")), method="medoid", mask_dilation_m=30)
        shutil.copytree(".", _CACHE.name, dirs_exist_ok=True)
    else:
        shutil.copytree(_CACHE.name, ".", dirs_exist_ok=True)
    return Path(RESULTS)


def four_dates(root: Path) -> Path:
    """Write four scenes: clear, with a cloud, with nodata and a saturated pixel, and clear but bright."""
    item(root, "a", rgb(1000) | {"SCL": scl()}, when=MAY)
    cloudy = scl()[0]
    cloudy[10:15, 10:15] = 9  # rows and columns 20 to 29 at 10 m
    item(root, "b", rgb(1010) | {"SCL": (cloudy, {"res_m": 20})}, when=JUNE)
    gap = rgb(1100)
    gap["B03"][:, 90:] = 0
    gap["B04"][50, 50] = 65535
    item(root, "c", gap | {"SCL": scl()}, when=JULY)
    item(root, "d", rgb(3000) | {"SCL": scl()}, when=AUGUST)
    return root
