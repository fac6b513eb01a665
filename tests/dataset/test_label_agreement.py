"""Agreement of the label sources, and the Labelme projects that a person corrects: out, and back through `labels`."""

import json
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from PIL import Image
from support import tiny_osm

from jointseg.dataset import labelme
from jointseg.dataset.label_agreement import drop_slivers, label_agreement
from jointseg.dataset.labels import labels
from jointseg.dataset.rasterize import FRACTION_BANDS, rasterize_fractions, rasterize_labels
from jointseg.raster import cog
from jointseg.raster.rendering import NODATA_GREY
from jointseg.runtime.errors import DataError

CHIP, WEST, SOUTH = 160, 660_000, 3_540_000
IDS = ["up-0001", "up-0002", "up-0003"]


def house(chip: int, x: float, y: float, side: float) -> shapely.Polygon:
    """A square, in metres east and north of a chip's corner; chips lie a kilometre apart."""
    west, south = WEST + 1000 * chip + x, SOUTH + y
    return shapely.box(west, south, west + side, south + side)


def outline(polygon: shapely.Polygon) -> list[tuple[float, float]]:
    return list(polygon.exterior.coords)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Three chips: one where the sources agree, one with a house and a court in one source each, one of grass."""
    court = house(1, 100, 100, 40).difference(house(1, 110, 110, 20))
    both = [house(0, 10, 10, 20), house(0, 60, 10, 20)]
    road = [(WEST + x, SOUTH + 70) for x in (-500, 700)]
    tiny_osm.write(
        tmp_path / "extract.osm",
        [
            *(({"building": "yes"}, outline(one)) for one in [*both, house(1, 10, 10, 30), house(1, 60, 60, 3)]),
            ({"building": "yes"}, outline(house(0, 60, 60, 15))),
            ({"highway": "residential", "width": "6"}, road),
            ({"landuse": "industrial"}, outline(house(1, 0, 80, 80))),
            ({"landuse": "grass"}, outline(house(1, 90, 80, 10))),
        ],
    )
    moved = [shapely.transform(one, lambda xy: xy - [0.5, 0.25]) for one in both]
    footprints = gpd.GeoDataFrame({"id": range(7, 11)}, geometry=[*moved, court, house(0, 60, 60, 15)], crs=32650)
    footprints.to_crs(4326).to_file(tmp_path / "footprints.gpkg")
    places = gpd.GeoDataFrame(
        {
            "sample_id": IDS,
            "reach": "up",
            "epsg": np.full(3, 32650, dtype=np.int32),
            "minx": [WEST + 1000.0 * chip for chip in range(3)],
            "miny": float(SOUTH),
        },
        geometry=gpd.points_from_xy([WEST] * 3, [SOUTH] * 3, crs=32650).to_crs(4326),
    )
    places.to_parquet(tmp_path / "samples.parquet")
    pairs = {"sample_id": IDS, "status": "ok", "path": "s/s.tif", "shift_x_m": 5.0, "shift_y_m": -3.0}
    pd.DataFrame(pairs).to_parquet(tmp_path / "pairs.parquet")
    rng = np.random.default_rng(3)
    for place in places.itertuples():
        image = rng.integers(400, 2500, (3, CHIP, CHIP), dtype=np.uint16)
        image[:, :4] = 0
        to_zone = rasterio.Affine(1, 0, place.minx, 0, -1, place.miny + CHIP)
        cog.write(tmp_path / f"chips/{place.sample_id}_hr.tif", image, crs="EPSG:32650", transform=to_zone, nodata=0)
    (tmp_path / "corrections").mkdir()
    return tmp_path


def label(world: Path, to: str, **changes: Any) -> gpd.GeoDataFrame:
    rules = tiny_osm.default_rules()
    params = {name: getattr(rules, name) for name in rules.__dataclass_fields__}
    labels(
        **{
            **params,
            **{name: world / f"{name}.parquet" for name in ("samples", "pairs")},
            "jilin1": world,
            "labels": world / to,
            "reach": "up",
            "chip_m": CHIP,
            "industrial_yard_m": 30.0,
            "osm": world / "extract.osm",
            "footprints": world / "footprints.gpkg",
            "corrections": world / "corrections",
            **changes,
        }
    )
    return gpd.read_parquet(world / to)


def compare(world: Path, of: str, to: str, review_chips: int = 20) -> tuple[pd.DataFrame, gpd.GeoDataFrame, Path]:
    label_agreement(
        labels=world / of,
        chips=world / "chips",
        index=world / "samples.parquet",
        table=world / f"{to}.csv",
        polygons=world / f"{to}.gpkg",
        projects=world / to,
        reach="up",
        chip_m=CHIP,
        review_chips=review_chips,
    )
    return pd.read_csv(world / f"{to}.csv", index_col=0), gpd.read_file(world / f"{to}.gpkg"), world / to


def burnt(rows: gpd.GeoDataFrame, chip: int) -> tuple[np.ndarray, np.ndarray]:
    place = (rows[rows["sample_id"] == IDS[chip]], 32650, (WEST + 1000 * chip, SOUTH + CHIP), CHIP)
    return rasterize_labels(*place), rasterize_fractions(*place)


def test_areas_by_source(world: Path) -> None:
    label(world, "labels.parquet")
    table, polygons, _ = compare(world, "labels.parquet", "first")
    assert list(table.index) == ["all", *IDS]
    one, two, three = (table.loc[sample_id] for sample_id in IDS)
    # GDAL keeps coordinates of OpenStreetMap to a centimetre.
    both = 2 * 19.5 * 19.75 + 225
    assert (one["osm_m2"], one["both_m2"]) == pytest.approx((1025, both), abs=1.5)
    assert one["iou"] == pytest.approx(both / (2 * 1025 - both), abs=2e-3)
    assert (one["matched"], one["shift_x_m"], one["shift_y_m"]) == pytest.approx((3, 0.5, 0.25), abs=0.02)
    assert one["open_m2"] == 0  # narrow strips are no disagreement
    assert one["road_on_building_m2"] == pytest.approx(15 * 6, abs=1)
    assert (two["osm_only_m2"], two["footprints_only_m2"]) == pytest.approx((909, 1200), abs=1)
    assert two["open_m2"] == pytest.approx(2100, abs=1)  # the shed of 9 m2 is too small
    assert not three[["osm_m2", "footprints_m2", "open_m2"]].any() and np.isnan(three["iou"])
    assert table.loc["all", "both_m2"] == pytest.approx(both, abs=1.5)
    assert list(zip(polygons["kind"], polygons["source"])) == [
        ("building of one source", "footprints"),
        ("building of one source", "osm"),
        ("road across building", "osm"),
    ]
    assert polygons["area_m2"].to_numpy() == pytest.approx([1200, 900, 90], abs=1)


def test_a_project_goes_back_as_it_stands(world: Path) -> None:
    """Saved unchanged, it changes no pixel of the label and settles the disagreement."""
    before = label(world, "labels.parquet")
    _, _, projects = compare(world, "labels.parquet", "first")
    assert sorted(path.name for path in projects.iterdir()) == ["up-0002.json", "up-0002.png"]
    with Image.open(projects / "up-0002.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (CHIP, CHIP, 3) and (pixels[:4] == NODATA_GREY).all() and pixels[4:].std() > 50
    drawing = labelme.read(projects / "up-0002.json")
    assert len(drawing.shapes) == 3  # the court is cut in two
    shutil.copy(projects / "up-0002.json", world / "corrections")
    after = label(world, "again.parquet")
    back = after[after["source"] == "labelme"]
    assert set(back["sample_id"]) == {"up-0002"} and set(back["action"]) == {"add"}
    drawn = shapely.union_all([shape.polygon for shape in drawing.shapes])
    there = shapely.union_all(back.to_crs(32650).geometry)
    here = shapely.transform(drawn, lambda xy: np.column_stack([xy[:, 0] + WEST + 1000, SOUTH + CHIP - xy[:, 1]]))
    assert there.symmetric_difference(here).area < 1e-3
    for chip in range(3):
        for old, new in zip(burnt(before, chip), burnt(after, chip)):
            assert (old == new).all()
    table, _, projects = compare(world, "again.parquet", "second")
    assert table.loc["up-0002", "open_m2"] == 0 and not list(projects.iterdir())


def test_a_person_s_word_is_kept(world: Path) -> None:
    before = label(world, "labels.parquet")
    _, _, projects = compare(world, "labels.parquet", "first")
    content = json.loads((projects / "up-0002.json").read_text())
    for shape in content["shapes"]:
        shape["label"] = "not_isa" if "osm" in shape["description"] else "unknown"
    (world / "corrections/mine.json").write_text(json.dumps(content))
    after = label(world, "again.parquet")
    (old, _), (new, fraction) = burnt(before, 1), burnt(after, 1)
    house, court = np.s_[120:150, 10:40], np.s_[20:60, 100:140]
    assert (old[house] == 1).all() and (new[house] == 0).all()
    assert (new[court] == 255).sum() == 1200 and (fraction[0][court] == 65535).sum() >= 1200
    table, _, _ = compare(world, "again.parquet", "second")
    assert (table.loc["all", "removed_m2"], table.loc["all", "unlabelled_m2"]) == pytest.approx((900, 1200), abs=1)
    assert table.loc["all", "open_m2"] == 0


def test_only_the_worst_chips_are_written(world: Path) -> None:
    label(world, "labels.parquet")
    assert not list(compare(world, "labels.parquet", "none", review_chips=0)[2].iterdir())


def test_corrections_at_odds_are_listed(world: Path) -> None:
    points = [[20, 20], [60, 20], [60, 60], [20, 60]]
    shapes = [{"label": text, "shape_type": "polygon", "points": points} for text in ("isa", "not_isa")]
    drawn = {"imagePath": "up-0003.png", "imageWidth": CHIP, "imageHeight": CHIP, "shapes": shapes}
    (world / "corrections/odd.json").write_text(json.dumps(drawn))
    rows = label(world, "labels.parquet")
    _, polygons, projects = compare(world, "labels.parquet", "first")
    first = polygons.iloc[0]
    assert (first["sample_id"], first["source"], round(first["area_m2"])) == ("up-0003", "labelme", 1600)
    assert not burnt(rows, 2)[0].any()
    assert not (projects / "up-0003.json").exists()


def test_every_polygon_tells_where_it_is_from(world: Path) -> None:
    shapes = [{"label": "isa", "shape_type": "rectangle", "points": [[1, 1], [5, 5]]}]
    drawn = {"imagePath": "up-0003.png", "imageWidth": CHIP, "imageHeight": CHIP, "shapes": shapes}
    (world / "corrections/new.json").write_text(json.dumps(drawn))
    rows = label(world, "labels.parquet")
    assert set(rows.loc[rows["source"] == "osm", "source_id"]) == {f"way/{number}" for number in range(1, 8)}
    assert set(rows.loc[rows["source"] == "footprints", "source_id"]) == {"7", "8", "9", "10"}
    assert list(rows.loc[rows["source"] == "labelme", "source_id"]) == ["new.json#0"]


def test_a_picture_of_another_size_is_named(world: Path) -> None:
    drawn = {"imagePath": "up-0003.png", "imageWidth": 320, "imageHeight": 320, "shapes": []}
    (world / "corrections/big.json").write_text(json.dumps(drawn))
    with pytest.raises(DataError, match=r"big\.json was drawn on \(320, 320\) px but up-0003 has \(160, 160\)"):
        label(world, "labels.parquet")


def test_the_raster_s_areas_are_those_of_the_labels(world: Path) -> None:
    rows = label(world, "labels.parquet")
    for chip, sample_id in enumerate(IDS):
        found = burnt(rows, chip)[1].sum(axis=(1, 2)) / 1e4
        here = rows[rows["sample_id"] == sample_id].to_crs(32650)
        for name, area in zip(FRACTION_BANDS, found):
            own = here if name == "isa" else here[here["kind"] == name]
            assert area == pytest.approx(shapely.union_all(own.geometry).area, rel=1e-3, abs=1e-6)


def test_the_same_inputs_give_the_same_bytes(world: Path) -> None:
    label(world, "labels.parquet")
    compare(world, "labels.parquet", "first")
    compare(world, "labels.parquet", "second")
    for name in (".csv", ".gpkg", "/up-0002.json", "/up-0002.png"):
        assert (world / f"first{name}").read_bytes() == (world / f"second{name}").read_bytes(), name


def test_strips_are_no_disagreement() -> None:
    assert drop_slivers(shapely.box(0, 0, 100, 1.9)).is_empty
    assert drop_slivers(shapely.box(0, 0, 100, 2.1)).area == pytest.approx(210)
    flag = shapely.union_all([shapely.box(0, 0, 10, 10), shapely.box(10, 4, 40, 5)])
    assert drop_slivers(flag).area == pytest.approx(100)
