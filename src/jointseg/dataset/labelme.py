"""Reader and writer of Labelme files: corrections drawn on images of Jilin-1 scenes or of chips.

Coordinates are pixels of the image: x right, y down, (0, 0) the upper left corner of its upper left pixel.
"""

import base64
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from PIL import Image, UnidentifiedImageError
from rasterio.features import shapes as outlines

from jointseg.dataset.polygons import make_valid, polygon_parts
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

# Action of each label text; case, spaces and hyphens are ignored.
ACTIONS = {
    **dict.fromkeys(("isa", "impervious", "add"), "add"),
    **dict.fromkeys(("not_isa", "not_impervious", "remove"), "remove"),
    **dict.fromkeys(("unlabelled", "unknown", "ignore"), "unlabelled"),
}
VERSION = "5.5.0"
CIRCLE_CORNERS = 128  # of the polygon that replaces a circle


@dataclass(frozen=True)
class Shape:
    """A shape of an annotation, as a valid polygon in pixels."""

    label: str
    polygon: shapely.Geometry
    group_id: int | None = None
    description: str = ""
    flags: dict[str, bool] = field(default_factory=dict)

    @property
    def action(self) -> str:
        """add, remove or unlabelled."""
        return ACTIONS[_normalise(self.label)]


@dataclass(frozen=True)
class Annotation:
    """The shapes drawn on one image; `size` is its width and height in pixels."""

    image: str
    size: tuple[int, int]
    shapes: list[Shape]

    @property
    def stem(self) -> str:
        """Name of the image without folder and suffix; both kinds of slash separate folders."""
        return Path(self.image.replace("\\", "/")).stem


def read(path: Path) -> Annotation:
    """Read the polygons, rectangles, circles and masks of a Labelme file.

    A circle becomes a polygon of the same area, a mask the outline of its pixels. Raises DataError for a file that is
    not a Labelme file, an unexpected label, or a shape without area.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        image = str(content["imagePath"])
        size = (int(content["imageWidth"]), int(content["imageHeight"]))
        shapes = [dict(shape) for shape in content["shapes"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a Labelme file ({error!r}); export it again from Labelme") from None
    return Annotation(image, size, [_shape(f"{path} shape {number}", shape) for number, shape in enumerate(shapes)])


def write(path: Path, annotation: Annotation) -> None:
    """Write a Labelme file whose shapes cover the same area as the annotation's.

    Labelme polygons have one part and no holes: other polygons are cut into parts with a common `group_id`.
    """
    used = [shape.group_id for shape in annotation.shapes if shape.group_id is not None]
    free = max(used, default=0) + 1
    entries = []
    for shape in annotation.shapes:
        pieces = without_holes(shape.polygon)
        group = shape.group_id
        if group is None and len(pieces) > 1:
            group, free = free, free + 1
        for piece in pieces:
            points = shapely.get_coordinates(piece)[:-1].tolist()
            entries.append(
                {
                    "label": shape.label,
                    "points": points,
                    "group_id": group,
                    "description": shape.description,
                    "shape_type": "polygon",
                    "flags": shape.flags,
                    "mask": None,
                }
            )
    content: dict[str, object] = {
        "version": VERSION,
        "flags": {},
        "shapes": entries,
        "imagePath": annotation.image,
        "imageData": None,
        "imageHeight": annotation.size[1],
        "imageWidth": annotation.size[0],
    }
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def without_holes(polygon: shapely.Geometry) -> list[shapely.Polygon]:
    """Return polygons without holes that cover the same area, by vertical cuts through every hole."""
    remaining = list(polygon_parts(polygon))
    done = []
    while remaining:
        part = remaining.pop(0)
        if not part.interiors:
            done.append(part)
            continue
        west, south, east, north = part.bounds
        left, _, right, _ = part.interiors[0].bounds
        middle = (left + right) / 2
        halves = (shapely.box(west, south, middle, north), shapely.box(middle, south, east, north))
        remaining = [
            *(piece for half in halves for piece in polygon_parts(shapely.intersection(part, half))),
            *remaining,
        ]
    return done


def _normalise(label: object) -> str:
    return str(label).strip().lower().replace(" ", "_").replace("-", "_")


def _shape(name: str, shape: dict) -> Shape:
    label = shape.get("label", "")
    if _normalise(label) not in ACTIONS:
        raise DataError(f"{name} has the label {label!r}; expected one of {', '.join(ACTIONS)}")
    group, flags = shape.get("group_id"), shape.get("flags") or {}
    return Shape(str(label), _polygon(name, shape), group, shape.get("description") or "", dict(flags))


def _polygon(name: str, shape: dict) -> shapely.Geometry:
    kind = shape.get("shape_type", "polygon")
    try:
        points = np.asarray(shape.get("points", []), dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise DataError(f"{name} has points that are not pairs of numbers; export it again from Labelme") from None
    polygon = shapely.Polygon()
    if kind == "rectangle" and len(points) == 2:
        polygon = shapely.box(*points.min(axis=0), *points.max(axis=0))
    elif kind == "circle" and len(points) == 2:
        turn = 2 * np.pi / CIRCLE_CORNERS
        radius = np.hypot(*(points[1] - points[0])) * np.sqrt(turn / np.sin(turn))
        angle = turn * np.arange(CIRCLE_CORNERS)
        polygon = shapely.Polygon(points[0] + radius * np.column_stack([np.cos(angle), np.sin(angle)]))
    elif kind == "mask" and len(points) == 2:
        polygon = _outline(name, shape.get("mask"), points.min(axis=0))
    elif kind in ("polygon", "oriented_rectangle") and len(points) >= 3:
        polygon = make_valid([shapely.Polygon(points)])[0]
    if not polygon.area:
        raise DataError(
            f"{name} is a {kind} of {len(points)} points, which has no area; draw a polygon, rectangle or circle"
        )
    return polygon


def _outline(name: str, mask: object, corner: np.ndarray) -> shapely.Geometry:
    """Return the outline of a mask, a PNG in base64 whose upper left pixel is at `corner`."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(mask), validate=True))) as image:
            covered = np.asarray(image.convert("L")) > 0
    except (ValueError, UnidentifiedImageError):
        raise DataError(f"{name} has a mask that is not a PNG; export it again from Labelme") from None
    parts = [shapely.geometry.shape(part) for part, _ in outlines(covered.astype(np.uint8), mask=covered)]
    return shapely.transform(shapely.union_all(parts), lambda points: points + np.floor(corner))
