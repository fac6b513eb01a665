"""Steps `grid` and `reach_grid`: the tiles that cover the study area, in all of its UTM zones."""

import json
import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from jointseg.area.grid import Tile, reproject
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

# Projected straight edges are curved: with a vertex every 0.05 degree, the error is below about 2 m.
_DENSIFY_DEG = 0.05
# Inset of the tiles, half of a 1 m pixel: a tile that only touches the study area is not listed.
_INSET_M = 0.5


def reach_grid(*, outlines: Path, tiles: Path, tile_km: int) -> dict:
    """Write the tiles of the reaches in the format of `grid`. The sample depends on them, and so not on the cities."""
    return _write_tiles({"reaches": _read_outlines(outlines, "reaches")}, tiles, tile_km)


def grid(*, study_area: Path, tiles: Path, tile_km: int) -> dict:
    """Write the tiles as GeoJSON, EPSG:4326, with the properties tile, epsg, reaches and cities (lists of names).

    A tile is listed if it intersects the part of the study area in its zone's own 6 degree strip, so that every area is
    mapped in one zone only. Raises DataError if tile_km is not a positive whole number, or the study area is empty.
    """
    return _write_tiles({kind: _read_outlines(study_area, kind) for kind in ("reaches", "cities")}, tiles, tile_km)


def _write_tiles(layers: dict[str, dict[str, shapely.Geometry]], tiles: Path, tile_km: int) -> dict:
    if tile_km < 1 or int(tile_km) != tile_km:
        raise DataError(f"tile_km {tile_km} is not a positive whole number of kilometres; use for example 30")
    if not layers["reaches"]:
        raise DataError("the study area has no reach; check the reaches of the config")
    names: dict[tuple[int, int, int], dict[str, list[str]]] = {}
    for layer, outlines in layers.items():
        for name, outline in outlines.items():
            for key in _covering_tiles(outline, tile_km):
                names.setdefault(key, {"reaches": [], "cities": []})[layer].append(name)
    # Zones, then rows from the south, then columns from the west.
    order = sorted(names, key=lambda key: (key[0], key[2], key[1]))
    features = [_feature(key, tile_km, names[key]) for key in order]
    collection = {"type": "FeatureCollection", "name": "tiles", "features": features}
    with atomic_write(tiles) as part:
        part.write_text(json.dumps(collection, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    zones = sorted({feature["properties"]["epsg"] for feature in features})
    return {"tiles": len(features), "epsg": zones}


def _read_outlines(path: Path, layer: str) -> dict[str, shapely.Geometry]:
    frame = gpd.read_file(path, layer=layer)
    return dict(zip(frame["name"], frame.geometry))


def _covering_tiles(outline: shapely.Geometry, tile_km: int) -> list[tuple[int, int, int]]:
    """Return (epsg, e_km, n_km) of the tiles that an outline (EPSG:4326) intersects."""
    west, south, east, north = shapely.bounds(outline)
    keys = []
    for zone in range(math.floor((west + 180) / 6) + 1, math.floor((east + 180) / 6) + 2):
        for epsg, low, high in ((32700 + zone, -80.0, 0.0), (32600 + zone, 0.0, 84.0)):
            if high <= south or low >= north:
                continue
            strip = shapely.box((zone - 1) * 6 - 180, low, zone * 6 - 180, high)
            part = shapely.segmentize(shapely.intersection(outline, strip), _DENSIFY_DEG)
            if not shapely.is_empty(part):
                keys += [(epsg, e_km, n_km) for e_km, n_km in _zone_tiles(part, epsg, tile_km)]
    return keys


def _zone_tiles(part: shapely.Geometry, epsg: int, tile_km: int) -> list[tuple[int, int]]:
    """Return (e_km, n_km) of the tiles of one zone that a geometry (EPSG:4326) intersects."""
    local = shapely.make_valid(reproject(part, "EPSG:4326", f"EPSG:{epsg}"))
    side_m = tile_km * 1000
    west, south, east, north = shapely.bounds(local)
    columns = np.arange(math.floor(west / side_m), math.floor(east / side_m) + 1)
    rows = np.arange(math.floor(south / side_m), math.floor(north / side_m) + 1)
    e_m, n_m = (axis.ravel() * side_m for axis in np.meshgrid(columns, rows))
    boxes = shapely.box(e_m + _INSET_M, n_m + _INSET_M, e_m + side_m - _INSET_M, n_m + side_m - _INSET_M)
    shapely.prepare(local)
    hit = shapely.intersects(local, boxes)
    return [(int(e) // 1000, int(n) // 1000) for e, n in zip(e_m[hit], n_m[hit])]


def _feature(key: tuple[int, int, int], tile_km: int, names: dict[str, list[str]]) -> dict:
    epsg, e_km, n_km = key
    tile = Tile(epsg % 100, epsg < 32700, e_km, n_km, tile_km)
    # Ten segments per side, because GeoJSON edges are straight in longitude and latitude.
    outline = shapely.segmentize(shapely.box(*tile.bounds), tile_km * 100.0)
    lonlat = shapely.get_coordinates(reproject(outline, tile.crs, "EPSG:4326"))
    ring = [[round(float(lon), 7), round(float(lat), 7)] for lon, lat in lonlat]
    return {
        "type": "Feature",
        "properties": {"tile": tile.id, "epsg": tile.epsg, **names},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
