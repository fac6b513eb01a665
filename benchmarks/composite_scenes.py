"""A synthetic STAC catalogue of local COGs for the benchmark of compositing."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

SIDE_PX, TILE_KM, TILE, EPSG = 2000, 20, "50N_E0660_N3540", 32650
BOUNDS = (660_000, 3_540_000, 680_000, 3_560_000)
BANDS = ["B04", "B03", "B02", "B08"]
OFFSET_DN = -1000
START, INTERVAL_DAYS = datetime(2023, 4, 2, 2, 50, tzinfo=UTC), 2
MAX_CLOUD = 0.6


def make_scenes(folder: Path, counts: list[int]) -> None:
    """Write the scenes, and a catalogue of the first `count` scenes for every count.

    Child processes keep the memory of this one small: Linux reports the peak of the parent as the peak of a child.
    """
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        names = list(pool.map(make_scene, [folder] * counts[-1], range(counts[-1])))
    for count in counts:
        links = [{"rel": "item", "href": f"../scenes/{name}/{name}.json"} for name in names[:count]]
        content = {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "scenes",
            "description": "synthetic",
            "links": links,
        }
        (folder / f"catalogue-{count}").mkdir()
        (folder / f"catalogue-{count}/catalog.json").write_text(json.dumps(content))


def make_scene(folder: Path, number: int) -> str:
    """Write one scene of textured fields with varying illumination, sensor noise and clouds; return its name."""
    rng = np.random.default_rng([1, number])
    when = START + timedelta(days=INTERVAL_DAYS * number)
    name = f"S2A_50SKA_{when:%Y%m%d}_0_L2A"
    scene_folder = folder / "scenes" / name
    scene_folder.mkdir(parents=True)
    fraction = rng.uniform(0.02, MAX_CLOUD)
    cloud = np.repeat(np.repeat(cloud_mask(rng, SIDE_PX // 2, fraction), 2, axis=0), 2, axis=1)
    surface_rng = np.random.default_rng(0)
    fields = np.kron(surface_rng.uniform(300, 2500, (len(BANDS), 50, 50)), np.ones((SIDE_PX // 50, SIDE_PX // 50)))
    texture = surface_rng.normal(0, 60, fields.shape)
    reflectance = (fields + texture) * rng.normal(1, 0.03, (len(BANDS), 1, 1)) + rng.normal(0, 40, fields.shape)
    stored = np.clip(np.where(cloud, reflectance + 4000, reflectance) - OFFSET_DN, 1, 20_000).astype(np.uint16)
    classes = np.where(cloud[::2, ::2], 9, np.where(fields[0, ::2, ::2] > 1400, 5, 4)).astype(np.uint8)
    if number % 5 == 4:  # the edge of the swath is oblique
        rows, cols = np.mgrid[:SIDE_PX, :SIDE_PX] // 2
        outside = cols * 2 < 700 - 0.21 * rows * 2
        stored[:, outside] = 0
        classes[outside[::2, ::2]] = 0
    assets = {}
    for band, array, res_m in [*((band, layer, 10) for band, layer in zip(BANDS, stored)), ("SCL", classes, 20)]:
        options = {"driver": "COG", "blocksize": 512, "compress": "DEFLATE", "predictor": 2, "overviews": "NONE"}
        write(scene_folder / f"{band}.tif", array[None], res_m, **options)
        assets[band] = {
            "href": f"./{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "raster:bands": [{"data_type": array.dtype.name, "nodata": 0, "spatial_resolution": res_m}],
        }
    (scene_folder / f"{name}.json").write_text(json.dumps(item(name, when, 100 * fraction, assets)))
    return name


def cloud_mask(rng: np.random.Generator, side_px: int, fraction: float) -> np.ndarray:
    """Return clouds of many sizes that cover a fraction of the area, bool [rows, columns] (noise of a steep spectrum)."""
    rows, cols = np.meshgrid(np.fft.fftfreq(side_px), np.fft.rfftfreq(side_px), indexing="ij")
    steep = (rows**2 + cols**2 + 1e-5) ** -0.9
    field = np.fft.irfft2(steep * np.exp(2j * np.pi * rng.random(steep.shape)), s=(side_px, side_px))
    return field > np.quantile(field, 1 - fraction)


def write(path: Path, array: np.ndarray, res_m: int, **options: object) -> None:
    count, height, width = array.shape
    profile = {"count": count, "height": height, "width": width, "dtype": array.dtype, "crs": f"EPSG:{EPSG}"}
    with rasterio.open(
        path, "w", **profile, transform=Affine(res_m, 0, BOUNDS[0], 0, -res_m, BOUNDS[3]), **options
    ) as target:
        target.write(array)


def item(name: str, when: datetime, cloud_percent: float, assets: dict) -> dict:
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(f"EPSG:{EPSG}", "EPSG:4326", *BOUNDS)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": f"{when:%Y-%m-%dT%H:%M:%SZ}",
            "platform": "sentinel-2a",
            "sat:relative_orbit": 75,
            "s2:processing_baseline": "05.09",
            "s2:product_type": "S2MSI2A",
            "eo:cloud_cover": round(cloud_percent, 2),
            "proj:code": f"EPSG:{EPSG}",
        },
        "assets": assets,
        "links": [],
    }
