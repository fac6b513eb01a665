"""Impervious objects of OpenStreetMap extracts, read through GDAL's OSM driver."""

import dataclasses
from pathlib import Path

import pytest
import shapely
from support import tiny_osm

from jointseg.dataset import osm
from jointseg.dataset.hardened_surface import clip_to_hardened
from jointseg.dataset.osm_rules import matches
from jointseg.runtime.errors import DataError

RULES = dataclasses.replace(
    tiny_osm.default_rules(),
    road_widths_m={"motorway": 26, "secondary": 14, "residential": 6, "track": 3},
    lane_width_m=3.5,
)
EAST, NORTH = 660_000, 3_540_000
SQUARE = (EAST, NORTH, EAST + 400, NORTH + 400)


@pytest.mark.parametrize(
    ("tags", "width"),
    [
        ({"highway": "residential"}, 6),
        ({"highway": "residential", "lanes": "3"}, 10.5),
        ({"highway": "residential", "lanes": "3", "width": "9.5 m"}, 9.5),
        ({"highway": "residential", "width": "wide"}, 6),
        ({"highway": "residential", "width": "650"}, 6),
        ({"highway": "residential", "lanes": "0"}, 6),
        ({"highway": "residential", "oneway": "yes"}, 6),
        ({"highway": "secondary", "oneway": "-1"}, 7),
        ({"highway": "motorway", "oneway": "yes"}, 13),
        ({"highway": "motorway", "oneway": "yes", "lanes": "4"}, 14),
        ({"highway": "motorway", "oneway": "no"}, 26),
        ({"highway": "motorway", "bridge": "yes", "layer": "2"}, 26),
        ({"highway": "motorway", "layer": "-1"}, 26),
        ({"highway": "motorway_link"}, 3.5),
        ({"highway": "motorway", "tunnel": "yes"}, None),
        ({"highway": "motorway", "tunnel": "no"}, 26),
        ({"highway": "residential", "tunnel": "building_passage"}, 6),
        ({"highway": "residential", "location": "underground"}, None),
        ({"highway": "residential", "indoor": "yes"}, None),
        ({"highway": "construction", "construction": "motorway"}, None),
        ({"highway": "motorway", "construction": "minor"}, 26),
        ({"highway": "proposed", "proposed": "motorway"}, None),
        ({"highway": "residential", "abandoned": "yes"}, None),
        ({"demolished:highway": "residential"}, None),
        ({"highway": "track", "surface": "dirt"}, None),
        ({"highway": "track", "surface": "concrete"}, 3),
        ({"highway": "footway"}, None),
        ({"waterway": "river"}, None),
    ],
)
def test_road_widths(tags: dict[str, str], width: float | None) -> None:
    assert RULES.way(tags) == (None if width is None else ("road", width))


@pytest.mark.parametrize(
    ("tags", "width"),
    [
        ({"aeroway": "runway"}, 45),
        ({"aeroway": "runway", "width": "60"}, 60),
        ({"aeroway": "taxiway"}, 18),
        ({"aeroway": "runway", "surface": "grass"}, None),
        ({"aeroway": "parking_position"}, None),
    ],
)
def test_runways_and_taxiways(tags: dict[str, str], width: float | None) -> None:
    assert RULES.way(tags) == (None if width is None else ("airport", width))


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({"building": "yes"}, "building"),
        ({"building": "yes", "aeroway": "terminal"}, "building"),
        ({"building": "no"}, None),
        ({"building": "construction"}, None),
        ({"building": "greenhouse"}, None),
        ({"building": "yes", "landuse": "construction"}, None),
        ({"building": "yes", "location": "underground"}, None),
        ({"building": "yes", "layer": "-2"}, None),
        ({"building": "yes", "layer": "1"}, "building"),
        ({"demolished:building": "yes"}, None),
        ({"abandoned:aeroway": "runway"}, None),
        ({"amenity": "parking"}, "plaza"),
        ({"amenity": "parking", "parking": "underground"}, None),
        ({"amenity": "parking", "surface": "gravel"}, None),
        ({"leisure": "pitch", "surface": "grass"}, "sports"),
        ({"highway": "pedestrian"}, "plaza"),
        ({"highway": "residential"}, "road"),
        ({"highway": "residential", "surface": "dirt"}, None),
        ({"highway": "proposed"}, None),
        ({"area:highway": "primary"}, "road"),
        ({"man_made": "bridge", "layer": "1"}, "road"),
        ({"landuse": "industrial"}, "industrial"),
        ({"landuse": "grass"}, "soft"),
        ({"natural": "water"}, "soft"),
        ({"landuse": "residential"}, None),
    ],
)
def test_kinds_of_areas(tags: dict[str, str], kind: str | None) -> None:
    found = RULES.area(tags)
    assert (found and found[0]) == kind


def test_land_use_outlines_are_distinguished_from_surfaces() -> None:
    assert RULES.area({"landuse": "industrial"}) == ("industrial", True)
    assert RULES.area({"landuse": "industrial", "surface": "concrete"}) == ("industrial", False)
    assert RULES.area({"man_made": "storage_tank"}) == ("industrial", False)


def test_values_of_tag_tables() -> None:
    values = ["*", "!shed"]
    assert [matches(values, value) for value in ("yes", "house", "no", "shed")] == [True, True, False, False]
    assert matches(["no"], "no") and not matches(["house"], "yes")


def test_other_tags_are_read() -> None:
    text = '"lanes"=>"2","name"=>"a \\"b\\" c","tunnel"=>"yes"'
    assert osm.hstore(text) == {"lanes": "2", "name": 'a "b" c', "tunnel": "yes"}
    assert osm.hstore(None) == {}


def box(west: float, south: float, side: float) -> list[tuple[float, float]]:
    x, y = EAST + west, NORTH + south
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]


def line(north: float) -> list[tuple[float, float]]:
    return [(EAST - 1000, NORTH + north), (EAST + 1000, NORTH + north)]


WAYS: list[tiny_osm.Way] = [
    ({"highway": "residential", "lanes": "2"}, line(50)),
    ({"highway": "motorway", "tunnel": "yes"}, line(100)),
    ({"highway": "footway"}, line(120)),
    ({"aeroway": "runway", "width": "30"}, line(150)),
    ({"building": "yes"}, box(10, 200, 10)),
    ({"building": "no"}, box(40, 200, 10)),
    ({"building": "construction"}, box(70, 200, 10)),
    ({"landuse": "industrial"}, box(100, 200, 20)),
    ({"landuse": "residential"}, box(130, 200, 20)),
    ({"leisure": "pitch", "sport": "soccer"}, box(160, 200, 30)),
    ({"building": "yes"}, box(5000, 200, 10)),
    ({"highway": "pedestrian", "area": "yes"}, box(200, 200, 12)),
    ({"highway": "residential"}, box(220, 200, 40)),  # a circular road
    ({"man_made": "bridge"}, box(270, 200, 14)),  # closed lines in GDAL, like the next two
    ({"area:highway": "secondary"}, box(290, 200, 15)),
    ({"railway": "platform", "area": "no"}, box(310, 200, 16)),
    ({"amenity": "parking", "layer": "-1"}, box(330, 200, 17)),
    ({"landuse": "grass"}, box(350, 200, 18)),
    ({"demolished:building": "yes"}, box(370, 200, 19)),
    ({}, box(20, 300, 50)),
    ({}, box(30, 310, 20)),
]
RELATIONS: list[tiny_osm.Relation] = [({"type": "multipolygon", "building": "school"}, [20], [21])]
AREAS = {
    "way/1": ("road", 400 * 7),
    "way/4": ("airport", 400 * 30),
    "way/5": ("building", 100),
    "way/8": ("industrial", 400),
    "way/10": ("sports", 900),
    "way/12": ("plaza", 144),
    "way/13": ("road", 46 * 46 - 34 * 34 - (4 - 3.1366) * 9),
    "way/14": ("road", 196),
    "way/15": ("road", 225),
    "way/18": ("soft", 324),
    "relation/1": ("building", 2500 - 400),
}


@pytest.mark.parametrize("name", ["extract.osm", "extract.osm.pbf"])
def test_impervious_features_of_an_extract(tmp_path: Path, name: str) -> None:
    tiny_osm.write(tmp_path / name, WAYS, RELATIONS)
    found = {feature.id: feature for feature in osm.features(tmp_path / name, 32650, [SQUARE], RULES, 0)}
    assert {ident: feature.kind for ident, feature in found.items()} == {k: kind for k, (kind, _) in AREAS.items()}
    area = {ident: feature.polygon.intersection(shapely.box(*SQUARE)).area for ident, feature in found.items()}
    # GDAL stores coordinates with a resolution of 1e-7 degrees, a centimetre.
    assert area == pytest.approx({ident: area for ident, (_, area) in AREAS.items()}, rel=2e-3)


def test_distant_features_are_skipped(tmp_path: Path) -> None:
    extract = tmp_path / "far.osm"
    tiny_osm.write(extract, [({"building": "yes"}, box(west, 0, 10)) for west in (405, 460)])
    assert [feature.id for feature in osm.features(extract, 32650, [SQUARE], RULES, 0)] == ["way/1"]
    assert len(list(osm.features(extract, 32650, [SQUARE], RULES, 80))) == 2


def test_large_extract_is_read_completely(tmp_path: Path) -> None:
    """GDAL's driver must be read interleaved: it stops if too many objects of other layers are pending."""
    ways: list[tiny_osm.Way] = []
    for number in range(12_000):
        corner = box(number % 100 * 4, number // 100 * 3, 2)
        ways.append(({"building": "yes"}, corner) if number % 2 else ({"highway": "residential"}, corner[:2]))
    tiny_osm.write(tmp_path / "many.osm", ways)
    found = list(osm.features(tmp_path / "many.osm", 32650, [SQUARE], RULES, 0))
    assert [sum(feature.kind == kind for feature in found) for kind in ("road", "building")] == [6000, 6000]


def test_error_for_a_file_that_is_not_a_vector_file(tmp_path: Path) -> None:
    (tmp_path / "osm.gpkg").write_text("nothing")
    with pytest.raises(DataError, match=r"osm\.gpkg has no readable layer"):
        list(osm.features(tmp_path / "osm.gpkg", 32650, [SQUARE], RULES, 0))


def feature(kind: str, west: float, south: float, east: float, north: float, **options: bool) -> osm.Feature:
    return osm.Feature(kind, shapely.box(west, south, east, north), kind, **options)


def areas(features: list[osm.Feature], yard_m: float = 30, footprints: tuple = ()) -> dict[str, float]:
    return {feature.id: feature.polygon.area for feature in clip_to_hardened(features, footprints, yard_m)}


def test_lawns_are_subtracted_only_from_larger_areas() -> None:
    lawn, square, park = (
        feature("soft", 0, 0, 10, 10),
        feature("plaza", 0, 0, 40, 40),
        feature("soft", -50, -50, 50, 50),
    )
    assert areas([lawn, square, park]) == {"plaza": 1600 - 100}
    assert areas([feature("building", 0, 0, 40, 40), lawn]) == {"building": 1600}
    assert areas([feature("road", 0, 0, 40, 40), lawn]) == {"road": 1600}


def test_industrial_land_use_is_clipped_to_buildings_and_roads() -> None:
    estate = feature("industrial", 0, 0, 400, 100, is_land_use=True)
    shed = feature("building", 0, 0, 20, 100)
    assert areas([estate]) == {}
    assert areas([estate, shed]) == pytest.approx({"industrial": 50 * 100, "building": 2000})
    assert areas([estate], footprints=(shed.polygon,)) == pytest.approx({"industrial": 50 * 100})
    assert areas([estate, shed], yard_m=0)["industrial"] == pytest.approx(2000)
    assert areas([feature("industrial", 0, 0, 400, 100)]) == {"industrial": 40_000}
    assert areas([estate, shed, feature("soft", 30, 0, 40, 100)])["industrial"] == pytest.approx(40 * 100)


def test_no_features_give_no_hardened_area() -> None:
    assert clip_to_hardened([], [], 30) == []
