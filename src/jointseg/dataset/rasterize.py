"""Label polygons of a chip as pixels: classes by pixel centre, and the exact part of every pixel that is covered."""

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize

from jointseg.dataset.contract import FRACTION_NODATA, FRACTION_SCALE, ISA_KINDS, UNLABELLED
from jointseg.dataset.polygons import parts_of, valid

LABEL_CODES = {"add": 1, "remove": 0, "unknown": UNLABELLED}
FRACTION_BANDS = ("isa", *ISA_KINDS)


def rasterize_labels(
    shapes: gpd.GeoDataFrame | None, epsg: int, corner: tuple[float, float], side_px: int
) -> np.ndarray:
    """The label at 1 m: what is added, then what is removed, then what is unknown; a pixel counts by its centre.

    Args:
        shapes: rows with `action` and geometry, or None where a chip has none.
        epsg: the chip's UTM zone.
        corner: upper left, metres of the zone.

    Returns:
        uint8 [side_px, side_px].
    """
    out = np.zeros((side_px, side_px), dtype=np.uint8)
    if shapes is None:
        return out
    here = shapes.to_crs(epsg)
    transform = Affine(1, 0, corner[0], 0, -1, corner[1])
    for action, value in LABEL_CODES.items():
        if polygons := [(shape, value) for shape in here.geometry[here["action"] == action]]:
            rasterize(polygons, out=out, transform=transform)
    return out


def rasterize_fractions(
    shapes: gpd.GeoDataFrame | None, epsg: int, corner: tuple[float, float], side_px: int
) -> np.ndarray:
    """The part of every 1 m pixel that is impervious: all of it, and by kind.

    Polygons of a kind are united first, so that nothing counts twice; removed ground is taken off. Kinds overlap (a
    building on industrial ground), and ground that only a correction adds is of no kind. Areas are exact but for the
    rounding to a part of 10,000, of 0.5 cm2 a pixel at most.

    Args:
        shapes: rows with `action`, `kind` and geometry, or None where a chip has none.
        epsg: the chip's UTM zone.
        corner: upper left, metres of the zone.

    Returns:
        uint16 [1 + kinds, side_px, side_px] in parts of 10,000, bands as in BANDS; 65535 where any of it is unknown.
    """
    out = np.zeros((len(FRACTION_BANDS), side_px, side_px), dtype=np.uint16)
    if shapes is None:
        return out
    here = shapes.to_crs(epsg)
    polygons = valid(here.geometry.to_numpy())
    action = here["action"].to_numpy()
    kind = np.where(action == "add", here["kind"].to_numpy(), action)
    ground = {name: shapely.union_all(polygons[kind == name]) for name in sorted(set(kind))}
    removed, unknown = (ground.pop(name, shapely.Polygon()) for name in ("remove", "unknown"))
    # Few unions are united faster than many polygons.
    ground["isa"] = shapely.union_all(list(ground.values()))
    for name in set(ground) & set(FRACTION_BANDS):
        there = shapely.difference(ground[name], removed)
        out[FRACTION_BANDS.index(name)] = np.rint(coverage(there, corner, side_px) * FRACTION_SCALE)
    out[:, np.rint(coverage(unknown, corner, side_px) * FRACTION_SCALE) > 0] = FRACTION_NODATA
    return out


def coverage(polygon: shapely.Geometry, corner: tuple[float, float], side_px: int) -> np.ndarray:
    """The part of every 1 m pixel that a valid polygon covers, exact to rounding: float64 [side_px, side_px], 0 to 1.

    Green's theorem by pixel: an edge, cut where it crosses lines of the grid, adds the signed area between itself and
    the right end of its row: to its own pixel what lies in it, to all on the right its whole height. Sums along the
    rows make the areas, as font renderers do.

    Args:
        polygon: without overlap of its parts; what lies outside the square is left out.
        corner: upper left of the square, metres.
    """
    square = shapely.box(corner[0], corner[1] - side_px, corner[0] + side_px, corner[1])
    rings = shapely.get_rings(shapely.orient_polygons(parts_of(shapely.intersection(polygon, square))))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    x, y = points[:, 0] - corner[0], corner[1] - points[:, 1]
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    start, run = np.stack([x[edge], y[edge]]), np.stack([x[edge + 1] - x[edge], y[edge + 1] - y[edge]])
    cut_x, cut_y = _crossings(start[0], run[0]), _crossings(start[1], run[1])
    ends = np.arange(len(edge))
    at = np.concatenate([ends, cut_x[0], cut_y[0], ends])
    along = np.concatenate([np.zeros(len(edge)), cut_x[1], cut_y[1], np.ones(len(edge))])
    order = np.lexsort((along, at))
    at, along = at[order], along[order]
    same = np.flatnonzero(at[1:] == at[:-1])
    at, first, last = at[same], along[same], along[same + 1]
    middle = start[:, at] + (first + last) / 2 * run[:, at]
    col, row = np.clip(np.floor(middle), 0, side_px - 1).astype(np.int64)
    # Counter-clockwise rings go down, with y growing, on their left side.
    height = (last - first) * run[1, at]
    own = height * (col + 1 - middle[0])
    cell, cells = row * (side_px + 1) + col, side_px * (side_px + 1)
    sums = np.bincount(cell, own, cells) + np.bincount(cell + 1, height - own, cells)
    return np.clip(np.cumsum(sums.reshape(side_px, side_px + 1), axis=1)[:, :side_px], 0, 1)


def _crossings(start: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(edge, part of its length) of the crossings of edges with whole numbers, along one axis."""
    low, high = np.minimum(start, start + run), np.maximum(start, start + run)
    first = np.floor(low) + 1
    count = np.maximum(np.ceil(high) - first, 0).astype(np.int64)
    edge = np.repeat(np.arange(len(start)), count)
    number = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return edge, (first[edge] + number - start[edge]) / run[edge]
