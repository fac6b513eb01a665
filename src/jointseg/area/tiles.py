"""Step `grid`: the tiles that cover the study area, in every UTM zone it touches."""

import json
import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from jointseg.area.grid import Tile, transformer
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

# Straight edges bend under projection: a vertex every 0.05 degree keeps the bend under about 2 m.
_DENSIFY_DEG = 0.05
# A tile that only touches the study area is left out: half of the finest pixel.
_TOUCH_M = 0.5


def reach_grid(*, outlines: Path, tiles: Path, tile_km: int) -> dict:
    """Writes the tiles of the reaches alone, as `grid` does: what the sample is drawn from, whatever the cities.

    Args:
        outlines: GeoPackage of step `reaches`.
    """
    return _cut({"reaches": _named(outlines, "reaches")}, tiles, tile_km)


def grid(*, study_area: Path, tiles: Path, tile_km: int) -> dict:
    """Writes tiles.geojson: properties tile, epsg, reaches and cities (lists of names), EPSG:4326.

    A tile is listed when the part of the study area in its zone's own 6 degree strip reaches into it, so
    that ground near a zone edge is mapped by one zone alone.

    Raises:
        DataError: tile_km is not a positive whole number, or the study area is empty.
    """
    return _cut({kind: _named(study_area, kind) for kind in ("reaches", "cities")}, tiles, tile_km)


def _cut(kinds: dict[str, dict[str, shapely.Geometry]], tiles: Path, tile_km: int) -> dict:
    if tile_km < 1 or int(tile_km) != tile_km:
        raise DataError(f"tile_km {tile_km} is not a whole number of kilometres; take for example 30")
    if not kinds["reaches"]:
        raise DataError("the study area has no reach; check the reaches of the config")
    found: dict[tuple[int, int, int], dict[str, list[str]]] = {}
    for kind, outlines in kinds.items():
        for name, outline in outlines.items():
            for key in _covering(outline, tile_km):
                found.setdefault(key, {"reaches": [], "cities": []})[kind].append(name)
    # The zone first, then rows from the south and columns from the west.
    order = sorted(found, key=lambda key: (key[0], key[2], key[1]))
    features = [_feature(key, tile_km, found[key]) for key in order]
    collection = {"type": "FeatureCollection", "name": "tiles", "features": features}
    with atomic_write(tiles) as part:
        part.write_text(json.dumps(collection, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    zones = sorted({feature["properties"]["epsg"] for feature in features})
    return {"tiles": len(features), "epsg": zones}


def _named(path: Path, layer: str) -> dict[str, shapely.Geometry]:
    frame = gpd.read_file(path, layer=layer)
    return dict(zip(frame["name"], frame.geometry))


def _covering(outline: shapely.Geometry, tile_km: int) -> list[tuple[int, int, int]]:
    """(epsg, e_km, n_km) of the tiles that an outline (EPSG:4326) reaches into."""
    west, south, east, north = shapely.bounds(outline)
    keys = []
    for zone in range(math.floor((west + 180) / 6) + 1, math.floor((east + 180) / 6) + 2):
        for epsg, low, high in ((32700 + zone, -80.0, 0.0), (32600 + zone, 0.0, 84.0)):
            if high <= south or low >= north:
                continue
            strip = shapely.box((zone - 1) * 6 - 180, low, zone * 6 - 180, high)
            part = shapely.segmentize(shapely.intersection(outline, strip), _DENSIFY_DEG)
            if not shapely.is_empty(part):
                keys += [(epsg, e_km, n_km) for e_km, n_km in _cells(part, epsg, tile_km)]
    return keys


def _cells(part: shapely.Geometry, epsg: int, tile_km: int) -> list[tuple[int, int]]:
    """(e_km, n_km) of the cells of one zone's lattice that a geometry (EPSG:4326) reaches into."""
    project = transformer("EPSG:4326", f"EPSG:{epsg}")
    local = shapely.transform(part, lambda lonlat: np.stack(project.transform(*lonlat.T), axis=1))
    local = shapely.make_valid(local)
    side_m = tile_km * 1000
    west, south, east, north = shapely.bounds(local)
    columns = np.arange(math.floor(west / side_m), math.floor(east / side_m) + 1)
    rows = np.arange(math.floor(south / side_m), math.floor(north / side_m) + 1)
    e_m, n_m = (axis.ravel() * side_m for axis in np.meshgrid(columns, rows))
    inset = _TOUCH_M
    boxes = shapely.box(e_m + inset, n_m + inset, e_m + side_m - inset, n_m + side_m - inset)
    shapely.prepare(local)
    hit = shapely.intersects(local, boxes)
    return [(int(e) // 1000, int(n) // 1000) for e, n in zip(e_m[hit], n_m[hit])]


def _feature(key: tuple[int, int, int], tile_km: int, names: dict[str, list[str]]) -> dict:
    epsg, e_km, n_km = key
    tile = Tile(epsg % 100, epsg < 32700, e_km, n_km, tile_km)
    # Ten pieces a side: GeoJSON draws straight lines in longitude and latitude.
    edge = shapely.get_coordinates(shapely.segmentize(shapely.box(*tile.bounds), tile_km * 100.0))
    lon, lat = transformer(tile.crs, "EPSG:4326").transform(edge[:, 0], edge[:, 1])
    ring = [[round(float(x), 7), round(float(y), 7)] for x, y in zip(lon, lat)]
    return {
        "type": "Feature",
        "properties": {"tile": tile.id, "epsg": tile.epsg, **names},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
