"""Corrections drawn in Labelme on Jilin-1 scenes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from jointseg.errors import DataError

# What the label texts of the polygons do to a chip's label; case and spaces aside.
ACTIONS = {
    "isa": "add",
    "impervious": "add",
    "add": "add",
    "not_isa": "remove",
    "not_impervious": "remove",
    "remove": "remove",
    "unknown": "unknown",
    "ignore": "unknown",
}


@dataclass(frozen=True)
class Correction:
    """A polygon in pixel coordinates of a scene's raster: x right, y down, (0, 0) its upper left corner."""

    stem: str
    size: tuple[int, int]  # width, height of the picture that was drawn on, px
    action: str  # add, remove or unknown
    polygon: shapely.Geometry


def read(path: Path) -> list[Correction]:
    """The polygons and rectangles of one Labelme file; the scene is the one that its imagePath names.

    Raises DataError for a file that is no Labelme file, an unknown label, or a shape without area.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stem = Path(content["imagePath"].replace("\\", "/")).stem
        size = (int(content["imageWidth"]), int(content["imageHeight"]))
        shapes = content["shapes"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not a Labelme file ({error!r}); export it again from Labelme") from None
    return [Correction(stem, size, *_shape(path, number, shape)) for number, shape in enumerate(shapes)]


def _shape(path: Path, number: int, shape: dict) -> tuple[str, shapely.Geometry]:
    label = str(shape.get("label", "")).strip().lower().replace(" ", "_").replace("-", "_")
    if label not in ACTIONS:
        raise DataError(
            f"{path} shape {number} has the label {shape.get('label')!r}; expected one of {', '.join(ACTIONS)}"
        )
    points = np.asarray(shape.get("points", []), dtype=np.float64)
    kind = shape.get("shape_type", "polygon")
    if kind == "rectangle" and points.shape == (2, 2):
        polygon = shapely.box(*points.min(axis=0), *points.max(axis=0))
    elif kind == "polygon" and points.ndim == 2 and len(points) >= 3:
        polygon = shapely.make_valid(shapely.polygons(points))
    else:
        raise DataError(f"{path} shape {number} is a {kind} of {len(points)} points; expected a polygon or a rectangle")
    return ACTIONS[label], polygon
