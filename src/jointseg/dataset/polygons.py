"""Geometry as ground: polygons alone, valid."""

from collections.abc import Sequence

import numpy as np
import shapely


def valid(geometries: Sequence[shapely.Geometry]) -> np.ndarray:
    """Valid polygons of the same ground, an array of objects; what collapses to a line is left empty."""
    out = np.array(geometries, dtype=object)
    wrong = ~shapely.is_valid(out)
    out[wrong] = shapely.make_valid(out[wrong], method="structure", keep_collapsed=False)
    return out


def parts_of(geometry: shapely.Geometry) -> np.ndarray:
    """The polygons of a geometry; lines and points, which overlays leave where areas touch, are no ground."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
