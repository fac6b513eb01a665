"""Rasterisation of a chip's label polygons: classes by pixel centre, and the exact covered fraction of every pixel."""

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize

from jointseg.dataset.contract import FRACTION_NODATA, FRACTION_SCALE, ISA_KINDS, UNLABELLED
from jointseg.dataset.polygons import make_valid, polygon_parts

LABEL_CODES = {"add": 1, "remove": 0, "unlabelled": UNLABELLED}
FRACTION_BANDS = ("isa", *ISA_KINDS)


def rasterize_labels(
    shapes: gpd.GeoDataFrame | None, epsg: int, corner: tuple[float, float], side_px: int
) -> np.ndarray:
    """Return the 1 m label, uint8 [side_px, side_px]; a polygon covers the pixels whose centres it contains.

    Polygons are burnt in the order add, remove, unlabelled. Their rows have `action` and geometry; None if the chip has
    none. `corner` is the upper left, metres in the zone.
    """
    out = np.zeros((side_px, side_px), dtype=np.uint8)
    if shapes is None:
        return out
    projected = shapes.to_crs(epsg)
    transform = Affine(1, 0, corner[0], 0, -1, corner[1])
    for action, code in LABEL_CODES.items():
        if polygons := [(shape, code) for shape in projected.geometry[projected["action"] == action]]:
            rasterize(polygons, out=out, transform=transform)
    return out


def rasterize_fractions(
    shapes: gpd.GeoDataFrame | None, epsg: int, corner: tuple[float, float], side_px: int
) -> np.ndarray:
    """Return the impervious fraction of every 1 m pixel, uint16 [1 + kinds, side_px, side_px], in parts of 10,000.

    Bands are FRACTION_BANDS; 65535 in pixels that are partly unlabelled. The polygons of a kind are merged first, so
    that overlaps count once; removed areas are subtracted. Kinds may overlap (a building in an industrial area), and an
    area that only a correction adds has no kind. Areas are exact except for rounding, at most 0.5 cm2 per pixel.
    Arguments are as for `rasterize_labels`; the rows also have `kind`.
    """
    out = np.zeros((len(FRACTION_BANDS), side_px, side_px), dtype=np.uint16)
    if shapes is None:
        return out
    projected = shapes.to_crs(epsg)
    polygons = make_valid(projected.geometry.to_numpy())
    action = projected["action"].to_numpy()
    kind = np.where(action == "add", projected["kind"].to_numpy(), action)
    areas = {name: shapely.union_all(polygons[kind == name]) for name in sorted(set(kind))}
    removed, unlabelled = (areas.pop(name, shapely.Polygon()) for name in ("remove", "unlabelled"))
    # Merging a few unions is faster than merging all polygons.
    areas["isa"] = shapely.union_all(list(areas.values()))
    for name in set(areas) & set(FRACTION_BANDS):
        remaining = shapely.difference(areas[name], removed)
        out[FRACTION_BANDS.index(name)] = np.rint(coverage(remaining, corner, side_px) * FRACTION_SCALE)
    out[:, np.rint(coverage(unlabelled, corner, side_px) * FRACTION_SCALE) > 0] = FRACTION_NODATA
    return out


def coverage(polygon: shapely.Geometry, corner: tuple[float, float], side_px: int) -> np.ndarray:
    """Return the fraction of every 1 m pixel that a valid polygon covers, exact to rounding: float64 [side_px,
    side_px].

    Green's theorem per pixel: an edge is cut where it crosses grid lines. Each piece adds the signed area between
    itself and the right end of its row: partly to its own pixel, and its height to all pixels on the right. Cumulative
    sums along the rows give the areas, as in font rasterisers. The polygon's parts must not overlap; the part outside
    the square with upper left `corner` (m) is ignored.
    """
    square = shapely.box(corner[0], corner[1] - side_px, corner[0] + side_px, corner[1])
    rings = shapely.get_rings(shapely.orient_polygons(polygon_parts(shapely.intersection(polygon, square))))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    x, y = points[:, 0] - corner[0], corner[1] - points[:, 1]
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    start, run = np.stack([x[edge], y[edge]]), np.stack([x[edge + 1] - x[edge], y[edge + 1] - y[edge]])
    cut_x, cut_y = _crossings(start[0], run[0]), _crossings(start[1], run[1])
    ends = np.arange(len(edge))
    piece = np.concatenate([ends, cut_x[0], cut_y[0], ends])
    along = np.concatenate([np.zeros(len(edge)), cut_x[1], cut_y[1], np.ones(len(edge))])
    order = np.lexsort((along, piece))
    piece, along = piece[order], along[order]
    same = np.flatnonzero(piece[1:] == piece[:-1])
    piece, first, last = piece[same], along[same], along[same + 1]
    middle = start[:, piece] + (first + last) / 2 * run[:, piece]
    col, row = np.clip(np.floor(middle), 0, side_px - 1).astype(np.int64)
    # Counter-clockwise rings descend (y grows) on their left side.
    height = (last - first) * run[1, piece]
    own = height * (col + 1 - middle[0])
    cell, cells = row * (side_px + 1) + col, side_px * (side_px + 1)
    sums = np.bincount(cell, own, cells) + np.bincount(cell + 1, height - own, cells)
    return np.clip(np.cumsum(sums.reshape(side_px, side_px + 1), axis=1)[:, :side_px], 0, 1)


def _crossings(start: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (edge, fraction of its length) of the points where edges cross integer coordinates, along one axis."""
    low, high = np.minimum(start, start + run), np.maximum(start, start + run)
    first = np.floor(low) + 1
    count = np.maximum(np.ceil(high) - first, 0).astype(np.int64)
    edge = np.repeat(np.arange(len(start)), count)
    number = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return edge, (first[edge] + number - start[edge]) / run[edge]
