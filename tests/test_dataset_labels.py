import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine

from jointseg import grid
from jointseg.dataset import labelme, osm
from jointseg.dataset.labels import on_ground
from jointseg.errors import DataError

WIDTHS = {"motorway": 26.0, "residential": 6.0, "track": 3.0}
TAGS = {"building": ["*"], "aeroway": ["runway", "apron"], "leisure": ["pitch"], "landuse": ["industrial"]}
SQUARE = (660_000, 3_540_000, 660_400, 3_540_400)


@pytest.mark.parametrize(
    ("tags", "width"),
    [
        ({"highway": "residential"}, 6),
        ({"highway": "residential", "lanes": "3"}, 10.5),
        ({"highway": "residential", "lanes": "3", "width": "9.5 m"}, 9.5),
        ({"highway": "residential", "width": "wide"}, 6),
        ({"highway": "motorway", "bridge": "yes"}, 26),
        ({"highway": "motorway_link"}, 3.5),
        ({"highway": "motorway", "tunnel": "yes"}, None),
        ({"highway": "motorway", "tunnel": "no"}, 26),
        ({"highway": "construction", "construction": "motorway"}, None),
        ({"highway": "track", "surface": "dirt"}, None),
        ({"highway": "track", "surface": "concrete"}, 3),
        ({"highway": "footway"}, None),
        ({"waterway": "river"}, None),
    ],
)
def test_road_widths(tags: dict[str, str], width: float | None) -> None:
    assert osm.road_width_m(tags, WIDTHS, 3.5) == width


def test_other_tags_are_read() -> None:
    text = '"lanes"=>"2","name"=>"a \\"b\\" c","tunnel"=>"yes"'
    assert osm.hstore(text) == {"lanes": "2", "name": 'a "b" c', "tunnel": "yes"}
    assert osm.hstore(None) == {}


def write_osm(path: Path, ways: list[tuple[dict[str, str], list[tuple[float, float]]]]) -> None:
    """An OpenStreetMap XML file of ways given in metres of EPSG:32650; closed ways repeat their first point."""
    to = grid.transformer("EPSG:32650", "EPSG:4326")
    nodes, texts, number = [], [], 0
    for at, (tags, points) in enumerate(ways, 1):
        refs = []
        for point in points[:-1] if points[0] == points[-1] else points:
            number += 1
            lon, lat = to.transform(*point)
            nodes.append(f'<node id="{number}" lon="{lon:.9f}" lat="{lat:.9f}" version="1"/>')
            refs.append(number)
        if points[0] == points[-1]:
            refs.append(refs[0])
        inner = "".join(f'<nd ref="{ref}"/>' for ref in refs)
        inner += "".join(f'<tag k="{key}" v="{value}"/>' for key, value in tags.items())
        texts.append(f'<way id="{at}" version="1">{inner}</way>')
    path.write_text(f'<?xml version="1.0"?><osm version="0.6">{"".join(nodes)}{"".join(texts)}</osm>')


def box(west: float, south: float, side: float) -> list[tuple[float, float]]:
    x, y = 660_000 + west, 3_540_000 + south
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]


def line(north: float) -> list[tuple[float, float]]:
    return [(659_000, 3_540_000 + north), (661_000, 3_540_000 + north)]


def test_an_openstreetmap_file_gives_what_is_impervious(tmp_path: Path) -> None:
    write_osm(
        tmp_path / "extract.osm",
        [
            ({"highway": "residential", "lanes": "2"}, line(50)),
            ({"highway": "motorway", "tunnel": "yes"}, line(100)),
            ({"highway": "footway"}, line(120)),
            ({"aeroway": "runway", "width": "30"}, line(150)),
            ({"building": "yes"}, box(10, 200, 10)),
            ({"building": "no"}, box(40, 200, 10)),
            ({"building": "construction"}, box(70, 200, 10)),
            ({"landuse": "industrial"}, box(100, 200, 20)),
            ({"landuse": "forest"}, box(130, 200, 20)),
            ({"leisure": "pitch", "sport": "soccer"}, box(160, 200, 30)),
            ({"building": "yes"}, box(5000, 200, 10)),
        ],
    )
    found = sorted(osm.features(tmp_path / "extract.osm", 32650, [SQUARE], WIDTHS, 3.5, TAGS), key=lambda f: f.kind)
    assert [feature.kind for feature in found] == ["airport", "building", "industrial", "road", "sports"]
    area = {feature.kind: shapely.intersection(feature.polygon, shapely.box(*SQUARE)).area for feature in found}
    expected = {"airport": 400 * 30, "building": 100, "industrial": 400, "road": 400 * 7, "sports": 900}
    assert area == pytest.approx(expected, rel=1e-3)


def test_only_what_is_near_is_handed_over(tmp_path: Path) -> None:
    write_osm(tmp_path / "far.osm", [({"building": "yes"}, box(440, 0, 10)), ({"building": "yes"}, box(405, 0, 10))])
    assert len(list(osm.features(tmp_path / "far.osm", 32650, [SQUARE], WIDTHS, 3.5, TAGS))) == 1


def test_a_file_that_is_no_vector_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "osm.gpkg").write_text("nothing")
    with pytest.raises(DataError, match=r"osm\.gpkg has no readable layer"):
        list(osm.features(tmp_path / "osm.gpkg", 32650, [SQUARE], WIDTHS, 3.5, TAGS))


def write_labelme(path: Path, shapes: list[dict], **changes: object) -> Path:
    content = {"imagePath": "scene.tif", "imageWidth": 100, "imageHeight": 80, "shapes": shapes} | changes
    path.write_text(json.dumps(content))
    return path


def test_labelme_polygons_and_rectangles(tmp_path: Path) -> None:
    triangle = {"label": "ISA", "shape_type": "polygon", "points": [[0, 0], [4, 0], [0, 4]]}
    rectangle = {"label": "not isa", "shape_type": "rectangle", "points": [[5, 7], [1, 2]]}
    first, second = labelme.read(write_labelme(tmp_path / "a.json", [triangle, rectangle]))
    assert (first.stem, first.size, first.action, first.polygon.area) == ("scene", (100, 80), "add", 8)
    assert (second.action, second.polygon.bounds) == ("remove", (1, 2, 5, 7))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"label": "roof", "points": [[0, 0], [4, 0], [0, 4]]}, "label 'roof'"),
        ({"label": "isa", "shape_type": "line", "points": [[0, 0], [4, 0]]}, "is a line of 2 points"),
        ({"label": "isa", "points": [[0, 0], [4, 0]]}, "is a polygon of 2 points"),
    ],
)
def test_shapes_that_are_no_correction_are_named(tmp_path: Path, shape: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        labelme.read(write_labelme(tmp_path / "a.json", [shape]))


def test_files_that_are_not_from_labelme_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"shapes": []}')
    with pytest.raises(DataError, match=r"a\.json is not a Labelme file"):
        labelme.read(tmp_path / "a.json")


def test_a_correction_lands_where_the_registered_scene_shows_it() -> None:
    transform = Affine(0.75, 0, 660_000, 0, -0.75, 3_540_300)
    polygon = shapely.box(40, 80, 80, 120)
    placed = on_ground(polygon, transform, "EPSG:32650", 32650, (6.0, -3.0))
    assert np.allclose(placed.bounds, (660_036, 3_540_207, 660_066, 3_540_237))
