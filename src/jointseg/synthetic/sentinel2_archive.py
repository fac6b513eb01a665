"""Write the simulated Sentinel-2 products as a static STAC catalogue of COGs, like a download from a public archive."""

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
from jointseg.synthetic.acquisitions import MGRS_TILE, Sentinel2Acquisition
from jointseg.synthetic.terrain import EPSG, ORIGIN_M, Frame

BANDS = ("red", "green", "blue", "nir")
EO_NAMES = {"red": "B04", "green": "B03", "blue": "B02", "nir": "B08"}
TILE_CORNER_M = (600_000, 3_600_000)  # upper left of the MGRS tile, origin of the 20 m and 60 m lattices


@dataclass
class Visibility:
    """Cloud opacity and shadow (0..1) and swath mask of one acquisition at 10 m."""

    opacity: np.ndarray
    shadow: np.ndarray
    in_swath: np.ndarray


def visibilities(frame: Frame, year: int, acquisitions: list[Sentinel2Acquisition]) -> list[Visibility]:
    """Simulate the clouds of one year, thinned until every pixel has MIN_CLEAR_OBSERVATIONS clear observations."""
    shape = (frame.reach_m // 10, frame.width_m // 10)
    clouds = [acquisition.cloud_fraction for acquisition in acquisitions]
    out = [_visibility(frame, year, number, each, clouds[number], shape) for number, each in enumerate(acquisitions)]
    while True:
        counts = sensors.count_clear_observations([(each.opacity, each.shadow, each.in_swath) for each in out])
        # Thin the cloudiest acquisition, except for the overcast one.
        thinnable = [k for k, acquisition in enumerate(acquisitions) if acquisition.cloud_fraction < 0.5]
        worst = max(thinnable, key=lambda k: clouds[k])
        if counts.min() >= sensors.MIN_CLEAR_OBSERVATIONS or not clouds[worst]:
            return out
        clouds[worst] = clouds[worst] * 0.6 if clouds[worst] > 0.04 else 0.0
        out[worst] = _visibility(frame, year, worst, acquisitions[worst], clouds[worst], shape)


def _visibility(
    frame: Frame, year: int, number: int, acquisition: Sentinel2Acquisition, clouds: float, shape: tuple[int, int]
) -> Visibility:
    opacity, shadow = sensors.cloud_layers(frame.rng(80, year, number), shape, clouds)
    in_swath = np.ones(shape, dtype=bool)
    if acquisition.partial:  # the western edge of the swath is slanted like the orbit
        rows, cols = np.mgrid[: shape[0], : shape[1]]
        in_swath = cols > 0.12 * shape[1] - 0.21 * rows
    return Visibility(opacity, shadow, in_swath)


def write_archive(
    folder: Path,
    frame: Frame,
    acquisitions: dict[int, list[Sentinel2Acquisition]],
    surface: dict[int, list[np.ndarray]],
) -> None:
    """Write catalogue and rasters; `surface` is by year and acquisition, reflectance float32 [4, rows, columns] at 10
    m.
    """
    catalog = pystac.Catalog("sentinel-2-valley", "Sentinel-2 products over the valley, as downloaded")
    items_of: dict[str, list[pystac.Item]] = {}
    for year, dates in sorted(acquisitions.items()):
        for number, (acquisition, visibility) in enumerate(zip(dates, visibilities(frame, year, dates))):
            collection = f"sentinel-2-{acquisition.level.lower()}"
            rng = frame.rng(81, year, number)
            home = folder / collection / acquisition.id
            item = _product(home, frame, acquisition, visibility, surface[year][number], rng)
            items_of.setdefault(collection, []).append(item)
    for name, items in sorted(items_of.items()):
        catalog.add_child(_collection(name, items))
    catalog.normalize_hrefs(str(folder))
    for item in catalog.get_items(recursive=True):
        for asset in item.assets.values():
            asset.href = f"./{Path(asset.href).name}"
    catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED, dest_href=str(folder))


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
    home: Path,
    frame: Frame,
    acquisition: Sentinel2Acquisition,
    visibility: Visibility,
    surface: np.ndarray,
    rng: np.random.Generator,
) -> pystac.Item:
    """Write the rasters of one product and return its STAC item."""
    cloudy = sensors.add_clouds(surface, visibility.opacity, visibility.shadow, rng)
    if acquisition.level == "L1C":
        reflectance = sensors.top_of_atmosphere(cloudy, float(rng.uniform(0.7, 1.5)))
    else:  # residual of the atmospheric correction
        reflectance = cloudy * rng.normal(1, 0.025, (4, 1, 1)) + rng.normal(0.002, 0.003, (4, 1, 1))
    stored = sensors.digital_numbers(reflectance.astype(np.float32), acquisition.offset_dn, visibility.in_swath, rng)
    lattice = Affine(10, 0, ORIGIN_M[0], 0, -10, ORIGIN_M[1] + frame.reach_m)
    assets = {}
    for name, band in zip(BANDS, stored):
        path = home / f"{EO_NAMES[name]}.tif"
        cog.write(path, band[None], crs=f"EPSG:{EPSG}", transform=lattice, nodata=0, overviews="average")
        assets[name] = _asset(path, name, acquisition)
    if acquisition.level == "L2A":
        classes = sensors.scene_classes(surface, visibility.opacity, visibility.shadow, visibility.in_swath, rng)
        cog.write(home / "SCL.tif", classes[None], crs=f"EPSG:{EPSG}", transform=lattice @ Affine.scale(2), nodata=0)
        assets["scl"] = _asset(home / "SCL.tif", "scl", acquisition)
    else:
        _write_classi(home / "MSK_CLASSI.tif", frame, visibility)
        assets["classi"] = _asset(home / "MSK_CLASSI.tif", "classi", acquisition)
    return _item(frame, acquisition, visibility, assets)


def _write_classi(path: Path, frame: Frame, visibility: Visibility) -> None:
    """Write the 60 m cloud mask on the lattice of the MGRS tile, which extends slightly beyond the valley."""
    west = TILE_CORNER_M[0] + (ORIGIN_M[0] - TILE_CORNER_M[0]) // 60 * 60
    top = ORIGIN_M[1] + frame.reach_m
    north = TILE_CORNER_M[1] - (TILE_CORNER_M[1] - top) // 60 * 60
    rows = -(-(north - ORIGIN_M[1]) // 60)
    cols = -(-(ORIGIN_M[0] + frame.width_m - west) // 60)
    mask = sensors.cloud_mask_60m(visibility.opacity, ((north - top) // 10, (ORIGIN_M[0] - west) // 10), (rows, cols))
    names = ("opaque_clouds", "cirrus_clouds", "snow_ice_areas")
    cog.write(path, mask, crs=f"EPSG:{EPSG}", transform=Affine(60, 0, west, 0, -60, north), descriptions=names)


def _asset(path: Path, key: str, acquisition: Sentinel2Acquisition) -> pystac.Asset:
    content = path.read_bytes()
    checksum = "1220" + hashlib.sha256(content).hexdigest()  # multihash of sha2-256
    fields: dict[str, object] = {"file:size": len(content), "file:checksum": checksum}
    if key in EO_NAMES:
        fields["eo:bands"] = [{"name": key, "common_name": key}]
        scaling = {"scale": 0.0001, "offset": -acquisition.offset_dn / 10_000}
        fields["raster:bands"] = [{"nodata": 0, "data_type": "uint16", "spatial_resolution": 10, **scaling}]
        roles = ["data", "reflectance"]
    else:
        fields["raster:bands"] = [{"data_type": "uint8", "spatial_resolution": 20 if key == "scl" else 60}]
        roles = ["data"] if key == "scl" else ["data", "mask"]
    media = "image/tiff; application=geotiff; profile=cloud-optimized"
    return pystac.Asset(str(path), title=path.stem, media_type=media, roles=roles, extra_fields=fields)


def _item(
    frame: Frame, acquisition: Sentinel2Acquisition, visibility: Visibility, assets: dict[str, pystac.Asset]
) -> pystac.Item:
    x, y = ORIGIN_M
    to_lonlat = Transformer.from_crs(EPSG, 4326, always_xy=True)
    bounds = [round(edge, 7) for edge in to_lonlat.transform_bounds(x, y, x + frame.width_m, y + frame.reach_m)]
    cloud_cover = float(round(100 * np.mean((visibility.opacity > 0.06)[visibility.in_swath]), 4))
    properties = {
        "platform": acquisition.platform.replace("S2", "sentinel-2").lower(),
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": cloud_cover,
        "sat:relative_orbit": acquisition.orbit,
        "mgrs:utm_zone": 50,
        "mgrs:latitude_band": MGRS_TILE[2],
        "mgrs:grid_square": MGRS_TILE[3:],
        "grid:code": f"MGRS-{MGRS_TILE}",
        "proj:epsg": EPSG,
        "proj:code": f"EPSG:{EPSG}",
        "proj:shape": [frame.reach_m // 10, frame.width_m // 10],
        "proj:transform": [10, 0, x, 0, -10, y + frame.reach_m],
        "s2:product_type": f"S2MSI{acquisition.level.removeprefix('L')}",
        "s2:product_uri": f"{acquisition.id}.SAFE",
        "s2:processing_baseline": acquisition.baseline,
        "s2:nodata_pixel_percentage": float(round(100 * (1 - visibility.in_swath.mean()), 4)),
        "earthsearch:boa_offset_applied": False,
    }
    names = ("eo/v1.1.0", "file/v2.1.0", "projection/v1.1.0", "raster/v1.1.0", "sat/v1.0.0")
    extensions = [f"https://stac-extensions.github.io/{name}/schema.json" for name in names]
    item = pystac.Item(
        acquisition.id,
        json.loads(to_geojson(box(*bounds))),
        bounds,
        acquisition.time_utc.astimezone(UTC),
        properties,
        stac_extensions=extensions,
    )
    for key, asset in assets.items():
        item.add_asset(key, asset)
    return item
