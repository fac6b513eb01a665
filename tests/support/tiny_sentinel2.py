"""Write tiny Sentinel-2 archives from arrays, in the formats of real ones."""

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from jointseg.area.grid import parse_tile
from jointseg.raster.io import read
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scene import lonlat_box
from jointseg.sentinel2.scenes import scenes

TILE, TILE_KM = "50N_E0660_N3540", 1
WEST, NORTH, SIDE = 660_000, 3_541_000, 100
# Arguments of the steps `scenes` and `composite`.
COMMON = {
    "year": "2021",
    "tile": TILE,
    "tile_km": TILE_KM,
    "source": {"kind": "archive"},
    "bands": ["B04", "B03", "B02"],
}


def raster(path, array, res_m=10, west=WEST, north=NORTH, crs="EPSG:32650", driver="GTiff", **options):
    """Write a raster from [bands, rows, columns] or [rows, columns]."""
    array = np.atleast_3d(array.T).T if array.ndim == 2 else array
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": driver, "count": len(array), "height": array.shape[1], "width": array.shape[2]}
    with rasterio.open(
        path, "w", **profile, dtype=array.dtype, crs=crs, transform=Affine(res_m, 0, west, 0, -res_m, north), **options
    ) as target:
        target.write(array)


def plain(value, side=SIDE):
    return np.full((side, side), value, dtype=np.uint16)


def item(root, name, assets, *, level="L2A", when="2021-07-01T02:50:00Z", baseline="05.00", cloud=5.0, **properties):
    """Write one STAC item and its files; assets: key -> array (10 m) or (array, options of `raster`)."""
    folder = root / name
    item_assets = {}
    for key, value in assets.items():
        array, options = value if isinstance(value, tuple) else (value, {})
        raster(folder / f"{key}.tif", array, **options)
        item_assets[key] = {"href": f"./{key}.tif", "type": "image/tiff; application=geotiff"}
    bounds = parse_tile(TILE, TILE_KM).bounds
    content = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": f"sentinel-2-{level.lower()}",
        "geometry": lonlat_box(bounds, "EPSG:32650").__geo_interface__,
        "bbox": list(lonlat_box(bounds, "EPSG:32650").bounds),
        "properties": {
            "datetime": when,
            "platform": "sentinel-2a",
            "s2:processing_baseline": baseline,
            "s2:product_type": "S2MSI" + level[1:],
            "eo:cloud_cover": cloud,
            "proj:code": "EPSG:32650",
            **properties,
        },
        "assets": item_assets,
        "links": [],
    }
    (folder / f"{name}.json").write_text(json.dumps(content))
    return content


def catalogue(root: Path) -> Path:
    """Write a catalog.json of every item in `root`."""
    links = [{"rel": "item", "href": f"./{path.relative_to(root)}"} for path in sorted(root.glob("*/*.json"))]
    content = {"type": "Catalog", "stac_version": "1.0.0", "id": "tiny", "description": "tiny", "links": links}
    (root / "catalog.json").write_text(json.dumps(content))
    return root


def listing(**changes):
    """Return the arguments of the step `scenes`, without files."""
    return COMMON | {"level": "L2A", "season": ["04-01", "10-31"], "max_cloud_percent": 60} | changes


def compositing(**changes):
    """Return the arguments of the step `composite`, without files."""
    return (
        COMMON
        | {
            "method": "median",
            "scl_mask_classes": [0, 1, 3, 8, 9, 10],
            "mask_dilation_m": 0,
            "min_clear_observations": 1,
        }
        | changes
    )


def rgb(value, offset=1000):
    """Return three bands of constant reflectance x 10000 as DN of baseline 04.00 or later."""
    return {"B04": plain(value + offset), "B03": plain(value + offset + 100), "B02": plain(value + offset + 200)}


def scl(value=4):
    return plain(value, SIDE // 2).astype(np.uint8), {"res_m": 20}


def build_composite(tmp_path, root, name="out", listed=None, reference=None, **changes):
    """Build the scene list and composite of an archive; return (array [bands, rows, columns], facts of the manifest)."""
    catalogue(root)
    scenes(scenes=tmp_path / f"{name}.json", archive=root, **listing(**(listed or {})))
    facts = composite(
        scenes=tmp_path / f"{name}.json",
        composite=tmp_path / f"{name}.tif",
        archive=root,
        reference=reference,
        **compositing(**changes),
    )
    return read(tmp_path / f"{name}.tif")[0], facts
