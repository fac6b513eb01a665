"""Labelme files: reading, errors, and the round trip of writing and reading."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import shapely.affinity
from PIL import Image

from jointseg.dataset import labelme
from jointseg.dataset.labelme import Annotation, Shape
from jointseg.runtime.errors import DataError

TRIANGLE = {"label": "ISA", "shape_type": "polygon", "points": [[0, 0], [4, 0], [0, 4]]}


def write(path: Path, shapes: list[dict], **changes: object) -> Path:
    content = {"imagePath": "scene.tif", "imageWidth": 100, "imageHeight": 80, "shapes": shapes} | changes
    path.write_text(json.dumps(content))
    return path


def test_shapes_with_an_area_are_read(tmp_path: Path) -> None:
    rectangle = {"label": "not isa", "shape_type": "rectangle", "points": [[5, 7], [1, 2]]}
    circle = {"label": "unknown", "shape_type": "circle", "points": [[50, 40], [53, 44]]}
    annotation = labelme.read(write(tmp_path / "a.json", [TRIANGLE, rectangle, circle], imagePath="..\\x\\scene.tif"))
    first, second, third = annotation.shapes
    assert (annotation.stem, annotation.size) == ("scene", (100, 80))
    assert (first.action, first.polygon.area) == ("add", 8)
    assert (second.action, second.polygon.bounds) == ("remove", (1, 2, 5, 7))
    assert third.action == "unlabelled" and third.polygon.area == pytest.approx(25 * np.pi)
    assert third.polygon.centroid.distance(shapely.Point(50, 40)) < 1e-9


def test_mask_becomes_the_outline_of_its_pixels(tmp_path: Path) -> None:
    filled = np.zeros((4, 5), dtype=np.uint8)
    filled[0, 1:], filled[2:, 3] = 1, 1
    with io.BytesIO() as stream:
        Image.fromarray(filled).save(stream, format="PNG")
        text = base64.b64encode(stream.getvalue()).decode()
    mask = {"label": "isa", "shape_type": "mask", "points": [[10, 20], [14, 23]], "mask": text}
    (shape,) = labelme.read(write(tmp_path / "a.json", [mask])).shapes
    assert shape.polygon.equals(shapely.union_all([shapely.box(11, 20, 15, 21), shapely.box(13, 22, 14, 24)]))
    with pytest.raises(DataError, match="mask that is not a PNG"):
        labelme.read(write(tmp_path / "a.json", [mask | {"mask": "bm90aGluZw=="}]))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (TRIANGLE | {"label": "roof"}, "shape 0 has the label 'roof'; expected one of isa"),
        (TRIANGLE | {"shape_type": "linestrip"}, "is a linestrip of 3 points, which has no area; draw a polygon"),
        (TRIANGLE | {"shape_type": "point", "points": [[0, 0]]}, "is a point of 1 points"),
        (TRIANGLE | {"points": [[0, 0], [4, 0]]}, "is a polygon of 2 points"),
        (TRIANGLE | {"points": [[0, 0], [4, 4], [8, 8]]}, "has no area"),
        (TRIANGLE | {"shape_type": "circle", "points": [[3, 3], [3, 3]]}, "has no area"),
        (TRIANGLE | {"points": [[0, 0, 0], [1, "x"]]}, "not pairs of numbers"),
    ],
)
def test_error_for_invalid_shapes(tmp_path: Path, shape: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labelme.read(write(tmp_path / "a.json", [shape]))


@pytest.mark.parametrize("text", ['{"shapes": []}', "[]", "no json", '{"imagePath": 1}'])
def test_error_for_other_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json is not a Labelme file"):
        labelme.read(tmp_path / "a.json")


def random_polygon(rng: np.random.Generator) -> shapely.Geometry:
    """Return an outline with up to five holes, which may be very thin and may touch each other or the outline."""
    x, y = rng.uniform(0, 500, 2)
    polygon = shapely.affinity.rotate(
        shapely.box(x, y, x + rng.uniform(5, 90), y + rng.uniform(5, 90)), rng.uniform(0, 90)
    )
    for _ in range(rng.integers(0, 6)):
        a, b = x + rng.uniform(0, 40), y + rng.uniform(0, 40)
        hole = shapely.box(a, b, a + rng.choice([0.001, 3, 9]), b + rng.choice([0.001, 3, 9]))
        polygon = polygon.difference(shapely.affinity.rotate(hole, rng.choice([0, 30])))
    return polygon


@pytest.mark.parametrize("seed", range(60))
def test_round_trip_preserves_shapes(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [
        Shape(
            str(rng.choice(["isa", "Not ISA", "unknown"])),
            random_polygon(rng),
            None if rng.random() < 0.5 else number + 1,
            f"nr. {number}, 边界",
            {"seen": bool(rng.random() < 0.5)},
        )
        for number in range(6)
    ]
    labelme.write(tmp_path / "a.json", Annotation("chip.png", (640, 480), shapes))
    back = labelme.read(tmp_path / "a.json")
    assert (back.image, back.size) == ("chip.png", (640, 480))
    groups: set[int | None] = set()
    for shape in shapes:
        same = [one for one in back.shapes if one.description == shape.description]
        assert {(one.label, str(one.flags)) for one in same} == {(shape.label, str(shape.flags))}
        assert all(not part.interiors for one in same for part in shapely.get_parts(one.polygon))
        assert sum(one.polygon.area for one in same) == pytest.approx(shape.polygon.area, rel=1e-12)
        union = shapely.union_all([one.polygon for one in same])
        assert union.symmetric_difference(shape.polygon).area < 1e-9
        (group,) = {one.group_id for one in same}
        assert group == shape.group_id if shape.group_id else (group is None) == (len(same) == 1)
        assert group is None or group not in groups
        groups.add(group)
    labelme.write(tmp_path / "b.json", back)
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()
