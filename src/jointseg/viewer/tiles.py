"""Map tiles of a layer as PNG, on a lattice anchored to the origin of the UTM zone."""

import io

import numpy as np
from affine import Affine
from PIL import Image
from rasterio.enums import Resampling

from jointseg.accuracy import figures
from jointseg.raster import io as raster_io
from jointseg.raster.rendering import percentile_stretch
from jointseg.raster.resample import read_mosaic
from jointseg.viewer.layers import IMAGE, PRODUCT, Layer

SIDE_PX = 256
LEVELS = range(0, 13)  # 1 m to 4 km per pixel
_OVERSAMPLING = 4  # classes are read this much finer than drawn, and drawn as fractions
_OUTSIDE = 254  # outside the files of a layer; 255 is nodata within them


def tile_bounds(level: int, col: int, row: int) -> raster_io.Bounds:
    """Return the bounds of a tile in metres.

    Pixels have 2^level m; columns count eastwards and rows northwards from the origin of the zone.
    """
    side = SIDE_PX * 2**level
    return col * side, row * side, (col + 1) * side, (row + 1) * side


def render_tile(layer: Layer, level: int, col: int, row: int) -> bytes | None:
    """Return a tile as PNG, transparent outside the files of the layer, or None for an empty tile."""
    bounds = tile_bounds(level, col, row)
    paths = layer.intersecting(bounds)
    if not paths:
        return None
    if layer.kind == IMAGE:
        dn = read_mosaic(paths, bounds, (SIDE_PX, SIDE_PX), (1, 2, 3), 0, Resampling.average, "uint16")
        rgb, covered = percentile_stretch(dn, layer.stretch_limits)[0], (dn > 0).any(axis=0)
    else:
        factor = _OVERSAMPLING if level > 0 else 1
        classes = _read_classes(layer, bounds, SIDE_PX * factor)
        rgb = figures.fraction_image(classes, factor)
        covered = (classes != _OUTSIDE).reshape(SIDE_PX, factor, SIDE_PX, factor).any(axis=(1, 3))
    if not covered.any():
        return None
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([rgb, np.where(covered, 255, 0).astype(np.uint8)])).save(buffer, "png")
    return buffer.getvalue()


def _read_classes(layer: Layer, bounds: raster_io.Bounds, side: int) -> np.ndarray:
    """Return 0, 1, 255 (nodata) and _OUTSIDE, uint8 [side, side]."""
    if layer.kind == PRODUCT:
        assert layer.codes is not None
        res_m = (bounds[2] - bounds[0]) / side
        transform = Affine(res_m, 0, bounds[0], 0, -res_m, bounds[3])
        codes = layer.codes.read_grid(f"EPSG:{layer.epsg}", transform, (side, side), 0.125)
        return np.where(codes == 255, _OUTSIDE, layer.codes.classify(codes, layer.title)).astype(np.uint8)
    paths = layer.intersecting(bounds)
    return read_mosaic(paths, bounds, (side, side), (1,), _OUTSIDE, Resampling.nearest, "uint8")[0]
