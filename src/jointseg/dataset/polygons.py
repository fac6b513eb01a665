"""Valid polygons and polygon parts of geometries."""

from collections.abc import Sequence

import numpy as np
import shapely


def make_valid(geometries: Sequence[shapely.Geometry]) -> np.ndarray:
    """Return valid geometries of the same area, an array of objects; polygons that collapse to a line become empty."""
    out = np.array(geometries, dtype=object)
    invalid = ~shapely.is_valid(out)
    out[invalid] = shapely.make_valid(out[invalid], method="structure", keep_collapsed=False)
    return out


def polygon_parts(geometry: shapely.Geometry) -> np.ndarray:
    """Return the polygons of a geometry, without the lines and points of overlays where areas touch."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
