"""The dataset as a STAC 1.1 collection with one item per chip and relative links, independent of the run's time."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely

from jointseg.dataset.contract import CHIP_RASTERS
from jointseg.provenance.digest import Entry

STAC = "1.1.0"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_GEOJSON, _MARKDOWN = "application/geo+json", "text/markdown"
_SCHEMA = "https://stac-extensions.github.io/{}/schema.json"
_EXTENSIONS = [_SCHEMA.format(name) for name in ("file/v2.1.0", "projection/v2.0.0", "raster/v2.0.0")]
_COLLECTION_EXTENSIONS = [_SCHEMA.format(name) for name in ("projection/v2.0.0", "raster/v2.0.0", "version/v1.2.0")]
_FIELDS = (
    *("split", "stratum", "inclusion_probability", "scene_id", "s2_year"),
    *("registration_correlation", "isa_fraction"),
)
_DIGITS = 7


def write_items(
    folder: Path, table: gpd.GeoDataFrame, files: Mapping[str, Entry], bands: list[str], chip_m: int
) -> None:
    """Write folder/REACH/ID.json, one item per chip; `files` has size and checksum of each path of the index."""
    for row in table.to_dict("records"):
        path = folder / item_path(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_json(_item(row, files, bands, chip_m)), encoding="utf-8")


def item_path(row: Mapping[str, Any]) -> str:
    return f"{row['reach']}/{row['sample_id']}.json"


def collection(table: gpd.GeoDataFrame, facts: Mapping[str, Any]) -> str:
    """Return the text of collection.json from an index table and the statistics with `version` and `content_sha256`."""
    dates = sorted(table["hr_date"])
    links = [
        {"rel": "root", "href": "./collection.json", "type": "application/json"},
        {"rel": "describedby", "href": "./card.md", "type": _MARKDOWN, "title": "Dataset card"},
        {"rel": "license", "href": "./card.md", "type": _MARKDOWN, "title": "Licences of the sources"},
        *(
            {"rel": "item", "href": f"./items/{item_path(row)}", "type": _GEOJSON}
            for row in table[["reach", "sample_id"]].to_dict("records")
        ),
    ]
    return _json(
        {
            "type": "Collection",
            "stac_version": STAC,
            "stac_extensions": _COLLECTION_EXTENSIONS,
            "id": "isaseg",
            "title": "ISASeg",
            "description": "Chips of a 10 m Sentinel-2 composite, a 1 m Jilin-1 image and a 1 m label of impervious "
            "surface area, by reach and split",
            "license": "other",
            "version": facts["version"],
            "isaseg:content_sha256": facts["content_sha256"],
            "extent": {
                "spatial": {"bbox": [[round(float(edge), _DIGITS) for edge in table.total_bounds]]},
                "temporal": {"interval": [[dates[0], dates[-1]]]},
            },
            "summaries": {
                "proj:code": [f"EPSG:{code}" for code in sorted(set(table["epsg"]))],
                "isaseg:reach": sorted(set(table["reach"])),
                "isaseg:split": sorted(set(table["split"])),
                "raster:spatial_resolution": sorted({raster.pixel_m for raster in CHIP_RASTERS.values()}),
            },
            "item_assets": {
                name: {"title": raster.title, "type": COG, "roles": ["data"]} for name, raster in CHIP_RASTERS.items()
            },
            "links": links,
        }
    )


def _item(row: dict[str, Any], files: Mapping[str, Entry], bands: list[str], chip_m: int) -> dict[str, Any]:
    outline = shapely.set_precision(row["geometry"], 10**-_DIGITS)
    up = {"href": "../../collection.json", "type": "application/json"}
    return {
        "type": "Feature",
        "stac_version": STAC,
        "stac_extensions": _EXTENSIONS,
        "id": row["sample_id"],
        "collection": "isaseg",
        "geometry": shapely.geometry.mapping(outline),
        "bbox": [round(edge, _DIGITS) for edge in outline.bounds],
        "properties": {
            "datetime": row["hr_date"],
            "proj:code": f"EPSG:{row['epsg']}",
            "proj:bbox": [row["minx"], row["miny"], row["minx"] + chip_m, row["miny"] + chip_m],
            "isaseg:reach": row["reach"],
            **{f"isaseg:{name}": _nan_to_none(row[name]) for name in _FIELDS if name in row},
        },
        "assets": {name: _asset(name, row, files[row[name]], bands, chip_m) for name in CHIP_RASTERS},
        "links": [{"rel": rel, **up} for rel in ("root", "parent", "collection")],
    }


def _asset(name: str, row: dict[str, Any], entry: Entry, bands: list[str], chip_m: int) -> dict[str, Any]:
    raster = CHIP_RASTERS[name]
    band_names = bands if raster.bands is None else raster.bands or [name]
    side = chip_m // raster.pixel_m
    return {
        "href": f"../../chips/{row[name]}",
        "type": COG,
        "title": raster.title,
        "roles": ["data"],
        "bands": [{"name": band} for band in band_names],
        "data_type": raster.dtype,
        "nodata": raster.nodata,
        "raster:spatial_resolution": raster.pixel_m,
        "proj:shape": [side, side],
        "proj:transform": list(raster.transform(row["minx"], row["miny"], chip_m))[:6],
        "file:size": entry.size,
        "file:checksum": f"1220{entry.sha256}",  # multihash: 0x12 for sha2-256, 0x20 for 32 bytes
    }


def _nan_to_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
