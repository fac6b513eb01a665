"""Square pictures of layers on a lattice anchored to the UTM zone, as PNG."""

import io
import threading

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
LEVELS = range(0, 13)  # 1 m to 4 km a pixel
_FINER = 4  # classes are read this much finer than drawn, and drawn by their share
_OUTSIDE = 254  # where no file lies: neither a class nor unknown
_WHOLE_PX = 512  # at which a layer is looked at to choose its stretch
_limits: dict[str, np.ndarray] = {}
_choosing = threading.Lock()


def tile_bounds(level: int, col: int, row: int) -> raster_io.Bounds:
    """Metres of a picture: columns eastwards and rows northwards from the zone's origin, 2^level metres a pixel."""
    side = SIDE_PX * 2**level
    return col * side, row * side, (col + 1) * side, (row + 1) * side


def render_tile(layer: Layer, level: int, col: int, row: int) -> bytes | None:
    """A picture of a layer with transparency where no file lies; None where that is everywhere."""
    bounds = tile_bounds(level, col, row)
    near = layer.near(bounds)
    if not near:
        return None
    if layer.kind == IMAGE:
        dn = read_mosaic(near, bounds, (SIDE_PX, SIDE_PX), (1, 2, 3), 0, Resampling.average, "uint16")
        rgb, seen = percentile_stretch(dn, stretch_limits(layer))[0], (dn > 0).any(axis=0)
    else:
        finer = _FINER if level > 0 else 1
        classes = _classes(layer, bounds, SIDE_PX * finer)
        rgb = figures.share_image(classes, finer)
        seen = (classes != _OUTSIDE).reshape(SIDE_PX, finer, SIDE_PX, finer).any(axis=(1, 3))
    if not seen.any():
        return None
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([rgb, np.where(seen, 255, 0).astype(np.uint8)])).save(buffer, "png")
    return buffer.getvalue()


def _classes(layer: Layer, bounds: raster_io.Bounds, side: int) -> np.ndarray:
    """0, 1, 255 unknown and _OUTSIDE, uint8 [side, side]."""
    if layer.kind == PRODUCT:
        assert layer.codes is not None
        step = (bounds[2] - bounds[0]) / side
        where = Affine(step, 0, bounds[0], 0, -step, bounds[3])
        codes = layer.codes.on(f"EPSG:{layer.epsg}", where, (side, side), 0.125)
        return np.where(codes == 255, _OUTSIDE, layer.codes.classes(codes, layer.title)).astype(np.uint8)
    return read_mosaic(layer.near(bounds), bounds, (side, side), (1,), _OUTSIDE, Resampling.nearest, "uint8")[0]


def stretch_limits(layer: Layer) -> np.ndarray:
    """The stretch of an image layer: one for all of its pictures, by its first and last percentile."""
    with _choosing:
        if layer.id not in _limits:
            west, south, east, north = layer.bounds
            step = max(east - west, north - south) / _WHOLE_PX
            shape = max(1, round((north - south) / step)), max(1, round((east - west) / step))
            paths = [path for path, _ in layer.files]
            dn = read_mosaic(paths, layer.bounds, shape, (1, 2, 3), 0, Resampling.nearest, "uint16")
            _limits[layer.id] = percentile_stretch(dn)[1]
        return _limits[layer.id]
