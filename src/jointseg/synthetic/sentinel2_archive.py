"""Delivers the Sentinel-2 looks as a static STAC catalogue of COGs, as a download from a public archive would leave it."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import numpy as np
import pystac
from affine import Affine
from pyproj import Transformer
from shapely import box, to_geojson

from jointseg.raster import cog
from jointseg.synthetic import sensors
from jointseg.synthetic.acquisitions import MGRS_TILE, Look
from jointseg.synthetic.terrain import EPSG, ORIGIN_M, Frame

BANDS = ("red", "green", "blue", "nir")
EO_NAMES = {"red": "B04", "green": "B03", "blue": "B02", "nir": "B08"}
TILE_CORNER_M = (600_000, 3_600_000)  # upper left of the MGRS tile: the lattices of 20 and 60 m start there


@dataclass
class Sky:
    """What lies between a look and the ground, at 10 m: opacity and shadow 0..1, and what the swath holds."""

    opacity: np.ndarray
    shade: np.ndarray
    seen: np.ndarray


def skies(frame: Frame, year: int, looks: list[Look]) -> list[Sky]:
    """Clouds of a year's looks; some are thinned until every pixel has two clear looks."""
    shape = (frame.reach_m // 10, frame.width_m // 10)
    shares = [look.cloud_share for look in looks]
    made = [_sky(frame, year, number, look, look.cloud_share, shape) for number, look in enumerate(looks)]
    while True:
        fewest = sensors.clear_looks([(sky.opacity, sky.shade, sky.seen) for sky in made]).min()
        # The cloudiest look that is not meant to be overcast gives way.
        worst = max((k for k, look in enumerate(looks) if look.cloud_share < 0.5), key=lambda k: shares[k])
        if fewest >= sensors.CLEAR_LOOKS or not shares[worst]:
            return made
        shares[worst] = shares[worst] * 0.6 if shares[worst] > 0.04 else 0.0
        made[worst] = _sky(frame, year, worst, looks[worst], shares[worst], shape)


def _sky(frame: Frame, year: int, number: int, look: Look, share: float, shape: tuple[int, int]) -> Sky:
    opacity, shade = sensors.clouds(frame.rng(80, year, number), shape, share)
    seen = np.ones(shape, dtype=bool)
    if look.partial:  # the swath's western edge leans like the orbit
        rows, cols = np.mgrid[: shape[0], : shape[1]]
        seen = cols > 0.12 * shape[1] - 0.21 * rows
    return Sky(opacity, shade, seen)


def deliver(
    folder: Path, frame: Frame, looks: dict[int, list[Look]], surface: dict[int, list[np.ndarray]]
) -> dict[str, float]:
    """Writes catalogue, collections, items and rasters; returns the cloud percentage of each product."""
    catalog = pystac.Catalog("sentinel-2-valley", "Sentinel-2 products over the valley, as downloaded")
    percent: dict[str, float] = {}
    homes: dict[str, list[pystac.Item]] = {}
    for year, wanted in sorted(looks.items()):
        for number, (look, sky) in enumerate(zip(wanted, skies(frame, year, wanted))):
            collection = f"sentinel-2-{look.level.lower()}"
            rng = frame.rng(81, year, number)
            item = _product(folder / collection / look.id, frame, look, sky, surface[year][number], rng)
            homes.setdefault(collection, []).append(item)
            percent[look.id] = item.properties["eo:cloud_cover"]
    for name, items in sorted(homes.items()):
        catalog.add_child(_collection(name, items))
    catalog.normalize_hrefs(str(folder))
    for item in catalog.get_items(recursive=True):
        for asset in item.assets.values():
            asset.href = f"./{Path(asset.href).name}"
    catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED, dest_href=str(folder))
    return percent


def _collection(name: str, items: list[pystac.Item]) -> pystac.Collection:
    times = sorted(item.datetime for item in items if item.datetime)
    boxes = np.array([item.bbox for item in items])
    extent = pystac.Extent(
        pystac.SpatialExtent([[*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]]),
        pystac.TemporalExtent([[times[0], times[-1]]]),
    )
    collection = pystac.Collection(name, f"{name} products of tile {MGRS_TILE}", extent, license="proprietary")
    collection.add_items(items)
    return collection


def _product(
    home: Path, frame: Frame, look: Look, sky: Sky, surface: np.ndarray, rng: np.random.Generator
) -> pystac.Item:
    """Writes the rasters of one product and describes them."""
    seen_from_above = sensors.under_clouds(surface, sky.opacity, sky.shade, rng)
    if look.level == "L1C":
        reflectance = sensors.top_of_atmosphere(seen_from_above, float(rng.uniform(0.7, 1.5)))
    else:  # what the atmospheric correction leaves behind
        reflectance = seen_from_above * rng.normal(1, 0.025, (4, 1, 1)) + rng.normal(0.002, 0.003, (4, 1, 1))
    stored = sensors.digital_numbers(reflectance.astype(np.float32), look.offset_dn, sky.seen, rng)
    lattice = Affine(10, 0, ORIGIN_M[0], 0, -10, ORIGIN_M[1] + frame.reach_m)
    assets = {}
    for name, band in zip(BANDS, stored):
        path = home / f"{EO_NAMES[name]}.tif"
        cog.write(path, band[None], crs=f"EPSG:{EPSG}", transform=lattice, nodata=0, overviews="average")
        assets[name] = _asset(path, name, look)
    if look.level == "L2A":
        classes = sensors.scene_classes(surface, sky.opacity, sky.shade, sky.seen, rng)
        cog.write(home / "SCL.tif", classes[None], crs=f"EPSG:{EPSG}", transform=lattice @ Affine.scale(2), nodata=0)
        assets["scl"] = _asset(home / "SCL.tif", "scl", look)
    else:
        _write_classi(home / "MSK_CLASSI.tif", frame, sky)
        assets["classi"] = _asset(home / "MSK_CLASSI.tif", "classi", look)
    return _item(frame, look, sky, assets)


def _write_classi(path: Path, frame: Frame, sky: Sky) -> None:
    """The 60 m mask lies on the tile's own lattice, which reaches a little beyond the valley."""
    west = TILE_CORNER_M[0] + (ORIGIN_M[0] - TILE_CORNER_M[0]) // 60 * 60
    top = ORIGIN_M[1] + frame.reach_m
    north = TILE_CORNER_M[1] - (TILE_CORNER_M[1] - top) // 60 * 60
    rows = -(-(north - ORIGIN_M[1]) // 60)
    cols = -(-(ORIGIN_M[0] + frame.width_m - west) // 60)
    mask = sensors.cloud_mask_60m(sky.opacity, ((north - top) // 10, (ORIGIN_M[0] - west) // 10), (rows, cols))
    names = ("opaque_clouds", "cirrus_clouds", "snow_ice_areas")
    cog.write(path, mask, crs=f"EPSG:{EPSG}", transform=Affine(60, 0, west, 0, -60, north), descriptions=names)


def _asset(path: Path, key: str, look: Look) -> pystac.Asset:
    content = path.read_bytes()
    fields: dict[str, object] = {
        "file:size": len(content),
        "file:checksum": "1220" + hashlib.sha256(content).hexdigest(),
    }
    if key in EO_NAMES:
        fields["eo:bands"] = [{"name": key, "common_name": key}]
        fields["raster:bands"] = [
            {
                "nodata": 0,
                "data_type": "uint16",
                "spatial_resolution": 10,
                "scale": 0.0001,
                "offset": -look.offset_dn / 10_000,
            }
        ]
        roles = ["data", "reflectance"]
    else:
        fields["raster:bands"] = [{"data_type": "uint8", "spatial_resolution": 20 if key == "scl" else 60}]
        roles = ["data"] if key == "scl" else ["data", "mask"]
    media = "image/tiff; application=geotiff; profile=cloud-optimized"
    return pystac.Asset(str(path), title=path.stem, media_type=media, roles=roles, extra_fields=fields)


def _item(frame: Frame, look: Look, sky: Sky, assets: dict[str, pystac.Asset]) -> pystac.Item:
    x, y = ORIGIN_M
    to_lonlat = Transformer.from_crs(EPSG, 4326, always_xy=True)
    bounds = [round(edge, 7) for edge in to_lonlat.transform_bounds(x, y, x + frame.width_m, y + frame.reach_m)]
    cloudy = float(round(100 * np.mean((sky.opacity > 0.06)[sky.seen]), 4))
    properties = {
        "platform": look.platform.replace("S2", "sentinel-2").lower(),
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": cloudy,
        "sat:relative_orbit": look.orbit,
        "mgrs:utm_zone": 50,
        "mgrs:latitude_band": MGRS_TILE[2],
        "mgrs:grid_square": MGRS_TILE[3:],
        "grid:code": f"MGRS-{MGRS_TILE}",
        "proj:epsg": EPSG,
        "proj:code": f"EPSG:{EPSG}",
        "proj:shape": [frame.reach_m // 10, frame.width_m // 10],
        "proj:transform": [10, 0, x, 0, -10, y + frame.reach_m],
        "s2:product_type": f"S2MSI{look.level.removeprefix('L')}",
        "s2:product_uri": f"{look.id}.SAFE",
        "s2:processing_baseline": look.baseline,
        "s2:nodata_pixel_percentage": float(round(100 * (1 - sky.seen.mean()), 4)),
        "earthsearch:boa_offset_applied": False,
    }
    extensions = [
        "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
        "https://stac-extensions.github.io/file/v2.1.0/schema.json",
        "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
        "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        "https://stac-extensions.github.io/sat/v1.0.0/schema.json",
    ]
    item = pystac.Item(
        look.id,
        json.loads(to_geojson(box(*bounds))),
        bounds,
        look.when.astimezone(UTC),
        properties,
        stac_extensions=extensions,
    )
    for key, asset in assets.items():
        item.add_asset(key, asset)
    return item
