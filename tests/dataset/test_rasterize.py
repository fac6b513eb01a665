"""Rasterised label polygons: areas and codes."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import shapely.affinity
from rasterio.features import rasterize
from rasterio.transform import from_origin

from jointseg.dataset.contract import FRACTION_NODATA, ISA_KINDS
from jointseg.dataset.rasterize import FRACTION_BANDS, coverage, rasterize_fractions, rasterize_labels

EPSG, SIDE = 32650, 64
WEST, NORTH = 660_000.0, 3_540_000.0
CORNER = (WEST, NORTH)
SQUARE = shapely.box(WEST, NORTH - SIDE, WEST + SIDE, NORTH)


def table(rows: list[tuple[str, str, shapely.Geometry]]) -> gpd.GeoDataFrame:
    """Return label rows from (kind, action, polygon in metres right of and below the corner)."""
    polygons = [shapely.affinity.affine_transform(shape, [1, 0, 0, -1, WEST, NORTH]) for *_, shape in rows]
    columns = {"kind": [kind for kind, *_ in rows], "action": [action for _, action, _ in rows]}
    return gpd.GeoDataFrame(columns, geometry=polygons, crs=EPSG).to_crs(4326)


def fractions(rows: list[tuple[str, str, shapely.Geometry]], side: int = SIDE) -> dict[str, np.ndarray]:
    return dict(zip(FRACTION_BANDS, rasterize_fractions(table(rows), EPSG, CORNER, side)))


def random_polygon(rng: np.random.Generator) -> shapely.Geometry:
    """Return a box, a rotated box, a sliver, a ring, a star, or a union of these, partly outside the square."""
    x, y = rng.uniform(-5, SIDE + 5, 2)
    wide, high = rng.uniform(0.05, 25, 2)
    shapes = [
        shapely.box(round(x), round(y), round(x) + max(1, round(wide)), round(y) + max(1, round(high))),
        shapely.affinity.rotate(shapely.box(x, y, x + wide, y + high), rng.uniform(0, 90)),
        shapely.affinity.rotate(shapely.box(x, y, x + 40, y + rng.uniform(0.001, 0.05)), rng.uniform(0, 180)),
        shapely.Point(x, y).buffer(wide).difference(shapely.Point(x, y).buffer(wide * rng.uniform(0.2, 0.98))),
    ]
    angle = np.sort(rng.uniform(0, 2 * np.pi, 11))
    reach = rng.uniform(0.5, 20, 11)
    star = shapely.Polygon(np.column_stack([x + reach * np.cos(angle), y + reach * np.sin(angle)]))
    shapes.append(shapely.make_valid(star))
    shapes.append(shapely.union_all([shapes[int(at)] for at in rng.integers(0, 5, 3)]))
    return shapes[int(rng.integers(0, len(shapes)))]


@pytest.mark.parametrize("seed", range(60))
def test_coverage_equals_the_intersection_with_every_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = random_polygon(rng)
    polygon = shapely.affinity.affine_transform(shape, [1, 0, 0, -1, WEST, NORTH])
    found = coverage(polygon, CORNER, SIDE)
    rows, cols = np.divmod(np.arange(SIDE * SIDE), SIDE)
    pixels = shapely.box(WEST + cols, NORTH - rows - 1, WEST + cols + 1, NORTH - rows)
    expected = shapely.area(shapely.intersection(polygon, pixels)).reshape(SIDE, SIDE)
    assert np.abs(found - expected).max() < 1e-8
    assert found.sum() == pytest.approx(polygon.intersection(SQUARE).area, abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_areas_equal_those_of_the_polygons(seed: int) -> None:
    """The difference is below 0.1 % of the area of a class; for small classes, below the rounding of their pixels."""
    rng = np.random.default_rng(1000 + seed)
    kinds = rng.choice([*ISA_KINDS, "correction"], 25)
    actions = rng.choice(["add", "add", "add", "add", "remove"], 25)
    rows = [(str(kind), str(action), random_polygon(rng)) for kind, action in zip(kinds, actions)]
    rows += [(rows[0][0], "add", rows[0][2]), (rows[1][0], "add", shapely.affinity.translate(rows[1][2], 7, 0))]
    found = fractions(rows)
    box = shapely.box(0, 0, SIDE, SIDE)
    removed = shapely.union_all([shape for _, action, shape in rows if action == "remove"])
    for name in FRACTION_BANDS:
        own = [shape for kind, action, shape in rows if action == "add" and name in ("isa", kind)]
        vector = shapely.union_all(own).difference(removed).intersection(box)
        touched = np.count_nonzero(rasterize([vector], (SIDE, SIDE), all_touched=True)) if vector.area else 0
        error = abs(found[name].sum() / 1e4 - vector.area)
        assert error <= 5e-5 * touched + 1e-6, name
        assert error <= max(1e-3 * vector.area, 0.005), name
        assert found[name].max() <= 10_000


def test_kinds_overlap_and_corrections_have_no_kind() -> None:
    yard, hall = shapely.box(0, 0, 40, 40), shapely.box(10, 10, 20, 20)
    found = fractions(
        [("industrial", "add", yard), ("building", "add", hall), ("correction", "add", shapely.box(50, 0, 60, 1))]
    )
    areas = {name: band.sum() / 1e4 for name, band in found.items()}
    assert areas == {"isa": 1610, "industrial": 1600, "building": 100, "road": 0, "airport": 0, "plaza": 0, "sports": 0}


def test_removed_areas_are_subtracted_and_unlabelled_pixels_are_nodata() -> None:
    rows = [
        ("building", "add", shapely.box(0, 0, 4, 4)),
        ("correction", "remove", shapely.box(0, 0, 2, 2.25)),
        ("correction", "unlabelled", shapely.box(3.5, 0, 8, 0.5)),
    ]
    found = fractions(rows, 10)
    assert found["building"][2, :5].tolist() == [7500, 7500, 10_000, 10_000, 0]
    for name in FRACTION_BANDS:
        assert (np.flatnonzero(found[name][0] == FRACTION_NODATA) == range(3, 8)).all(), name
        assert (found[name][1:] <= 10_000).all()


def test_chip_without_polygons_has_no_isa() -> None:
    assert rasterize_fractions(None, EPSG, CORNER, 8).shape == (len(FRACTION_BANDS), 8, 8)
    assert not rasterize_fractions(None, EPSG, CORNER, 8).any()
    assert not coverage(shapely.Polygon(), CORNER, 8).any()


def test_label_and_fraction_are_consistent() -> None:
    rng = np.random.default_rng(7)
    rows = [("building", "add", random_polygon(rng)) for _ in range(12)]
    isa, label = fractions(rows)["isa"], rasterize_labels(table(rows), EPSG, CORNER, SIDE)
    assert (label[isa == 10_000] == 1).all() and (label[isa == 0] == 0).all()


def test_actions_are_applied_in_order() -> None:
    strips = [shapely.box(a, 0, b, 10) for a, b in ((5, 9), (2, 6), (0, 8))]
    rows = [("road", action, strip) for action, strip in zip(("unlabelled", "remove", "add"), strips)]
    assert rasterize_labels(table(rows), EPSG, CORNER, 10)[4].tolist() == [1, 1, 0, 0, 0, 255, 255, 255, 255, 0]


def test_transform_is_that_of_the_chip() -> None:
    shape = shapely.box(3, 5, 4, 7)
    mask = rasterize(
        [shapely.affinity.affine_transform(shape, [1, 0, 0, -1, WEST, NORTH])],
        (SIDE, SIDE),
        transform=from_origin(WEST, NORTH, 1, 1),
    )
    assert (fractions([("road", "add", shape)])["road"] == mask * 10_000).all()
