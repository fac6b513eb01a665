"""Agreement of the label sources, and the Labelme projects for review and their use as corrections."""

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
    """Return a square, in metres east and north of a chip's corner; chips are a kilometre apart."""
    west, south = WEST + 1000 * chip + x, SOUTH + y
    return shapely.box(west, south, west + side, south + side)


def outline(polygon: shapely.Polygon) -> list[tuple[float, float]]:
    return list(polygon.exterior.coords)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Write three chips: agreeing sources; a house and a court in one source each; only grass."""
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
    samples = gpd.GeoDataFrame(
        {
            "sample_id": IDS,
            "reach": "up",
            "epsg": np.full(3, 32650, dtype=np.int32),
            "minx": [WEST + 1000.0 * chip for chip in range(3)],
            "miny": float(SOUTH),
        },
        geometry=gpd.points_from_xy([WEST] * 3, [SOUTH] * 3, crs=32650).to_crs(4326),
    )
    samples.to_parquet(tmp_path / "samples.parquet")
    pairs = {"sample_id": IDS, "status": "ok", "path": "s/s.tif", "shift_x_m": 5.0, "shift_y_m": -3.0}
    pd.DataFrame(pairs).to_parquet(tmp_path / "pairs.parquet")
    rng = np.random.default_rng(3)
    for sample in samples.itertuples():
        image = rng.integers(400, 2500, (3, CHIP, CHIP), dtype=np.uint16)
        image[:, :4] = 0
        to_zone = rasterio.Affine(1, 0, sample.minx, 0, -1, sample.miny + CHIP)
        cog.write(tmp_path / f"chips/{sample.sample_id}_hr.tif", image, crs="EPSG:32650", transform=to_zone, nodata=0)
    (tmp_path / "corrections").mkdir()
    return tmp_path


def run_labels(inputs: Path, to: str, **changes: Any) -> gpd.GeoDataFrame:
    rules = tiny_osm.default_rules()
    params = {name: getattr(rules, name) for name in rules.__dataclass_fields__}
    labels(
        **{
            **params,
            **{name: inputs / f"{name}.parquet" for name in ("samples", "pairs")},
            "jilin1": inputs,
            "labels": inputs / to,
            "reach": "up",
            "chip_m": CHIP,
            "industrial_yard_m": 30.0,
            "osm": inputs / "extract.osm",
            "footprints": inputs / "footprints.gpkg",
            "corrections": inputs / "corrections",
            **changes,
        }
    )
    return gpd.read_parquet(inputs / to)


def run_agreement(
    inputs: Path, of: str, to: str, review_chips: int = 20
) -> tuple[pd.DataFrame, gpd.GeoDataFrame, Path]:
    label_agreement(
        labels=inputs / of,
        chips=inputs / "chips",
        index=inputs / "samples.parquet",
        table=inputs / f"{to}.csv",
        polygons=inputs / f"{to}.gpkg",
        projects=inputs / to,
        reach="up",
        chip_m=CHIP,
        review_chips=review_chips,
    )
    return pd.read_csv(inputs / f"{to}.csv", index_col=0), gpd.read_file(inputs / f"{to}.gpkg"), inputs / to


def rasterized(rows: gpd.GeoDataFrame, chip: int) -> tuple[np.ndarray, np.ndarray]:
    arguments = (rows[rows["sample_id"] == IDS[chip]], 32650, (WEST + 1000 * chip, SOUTH + CHIP), CHIP)
    return rasterize_labels(*arguments), rasterize_fractions(*arguments)


def test_areas_by_source(inputs: Path) -> None:
    run_labels(inputs, "labels.parquet")
    table, polygons, _ = run_agreement(inputs, "labels.parquet", "first")
    assert list(table.index) == ["all", *IDS]
    agreeing, disputed, empty = (table.loc[sample_id] for sample_id in IDS)
    # GDAL stores coordinates of OpenStreetMap with a resolution of a centimetre.
    both = 2 * 19.5 * 19.75 + 225
    assert (agreeing["osm_m2"], agreeing["both_m2"]) == pytest.approx((1025, both), abs=1.5)
    assert agreeing["iou"] == pytest.approx(both / (2 * 1025 - both), abs=2e-3)
    assert (agreeing["matched"], agreeing["shift_x_m"], agreeing["shift_y_m"]) == pytest.approx(
        (3, 0.5, 0.25), abs=0.02
    )
    assert agreeing["open_m2"] == 0  # narrow strips are ignored
    assert agreeing["road_on_building_m2"] == pytest.approx(15 * 6, abs=1)
    assert (disputed["osm_only_m2"], disputed["footprints_only_m2"]) == pytest.approx((909, 1200), abs=1)
    assert disputed["open_m2"] == pytest.approx(2100, abs=1)  # the shed of 9 m2 is below the minimum
    assert not empty[["osm_m2", "footprints_m2", "open_m2"]].any() and np.isnan(empty["iou"])
    assert table.loc["all", "both_m2"] == pytest.approx(both, abs=1.5)
    assert list(zip(polygons["kind"], polygons["source"])) == [
        ("building of one source", "footprints"),
        ("building of one source", "osm"),
        ("road across building", "osm"),
    ]
    assert polygons["area_m2"].to_numpy() == pytest.approx([1200, 900, 90], abs=1)


def test_unchanged_project_settles_the_disagreement(inputs: Path) -> None:
    """As a correction, an unchanged project changes no pixel of the label."""
    before = run_labels(inputs, "labels.parquet")
    _, _, projects = run_agreement(inputs, "labels.parquet", "first")
    assert sorted(path.name for path in projects.iterdir()) == ["up-0002.json", "up-0002.png"]
    with Image.open(projects / "up-0002.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (CHIP, CHIP, 3) and (pixels[:4] == NODATA_GREY).all() and pixels[4:].std() > 50
    project = labelme.read(projects / "up-0002.json")
    assert len(project.shapes) == 3  # the court is cut into two parts
    shutil.copy(projects / "up-0002.json", inputs / "corrections")
    after = run_labels(inputs, "again.parquet")
    back = after[after["source"] == "labelme"]
    assert set(back["sample_id"]) == {"up-0002"} and set(back["action"]) == {"add"}
    drawn = shapely.union_all([shape.polygon for shape in project.shapes])
    corrected = shapely.union_all(back.to_crs(32650).geometry)
    projected = shapely.transform(drawn, lambda xy: np.column_stack([xy[:, 0] + WEST + 1000, SOUTH + CHIP - xy[:, 1]]))
    assert corrected.symmetric_difference(projected).area < 1e-3
    for chip in range(3):
        for old, new in zip(rasterized(before, chip), rasterized(after, chip)):
            assert (old == new).all()
    table, _, projects = run_agreement(inputs, "again.parquet", "second")
    assert table.loc["up-0002", "open_m2"] == 0 and not list(projects.iterdir())


def test_reviewed_project_changes_the_label(inputs: Path) -> None:
    before = run_labels(inputs, "labels.parquet")
    _, _, projects = run_agreement(inputs, "labels.parquet", "first")
    content = json.loads((projects / "up-0002.json").read_text())
    for shape in content["shapes"]:
        shape["label"] = "not_isa" if "osm" in shape["description"] else "unknown"
    (inputs / "corrections/reviewed.json").write_text(json.dumps(content))
    after = run_labels(inputs, "again.parquet")
    (old, _), (new, fraction) = rasterized(before, 1), rasterized(after, 1)
    house, court = np.s_[120:150, 10:40], np.s_[20:60, 100:140]
    assert (old[house] == 1).all() and (new[house] == 0).all()
    assert (new[court] == 255).sum() == 1200 and (fraction[0][court] == 65535).sum() >= 1200
    table, _, _ = run_agreement(inputs, "again.parquet", "second")
    assert (table.loc["all", "removed_m2"], table.loc["all", "unlabelled_m2"]) == pytest.approx((900, 1200), abs=1)
    assert table.loc["all", "open_m2"] == 0


def test_projects_of_the_largest_disagreements_are_written(inputs: Path) -> None:
    run_labels(inputs, "labels.parquet")
    assert not list(run_agreement(inputs, "labels.parquet", "none", review_chips=0)[2].iterdir())


def test_conflicting_corrections_are_listed(inputs: Path) -> None:
    points = [[20, 20], [60, 20], [60, 60], [20, 60]]
    shapes = [{"label": text, "shape_type": "polygon", "points": points} for text in ("isa", "not_isa")]
    annotation = {"imagePath": "up-0003.png", "imageWidth": CHIP, "imageHeight": CHIP, "shapes": shapes}
    (inputs / "corrections/conflict.json").write_text(json.dumps(annotation))
    rows = run_labels(inputs, "labels.parquet")
    _, polygons, projects = run_agreement(inputs, "labels.parquet", "first")
    first = polygons.iloc[0]
    assert (first["sample_id"], first["source"], round(first["area_m2"])) == ("up-0003", "labelme", 1600)
    assert not rasterized(rows, 2)[0].any()
    assert not (projects / "up-0003.json").exists()


def test_every_polygon_has_its_source(inputs: Path) -> None:
    shapes = [{"label": "isa", "shape_type": "rectangle", "points": [[1, 1], [5, 5]]}]
    annotation = {"imagePath": "up-0003.png", "imageWidth": CHIP, "imageHeight": CHIP, "shapes": shapes}
    (inputs / "corrections/new.json").write_text(json.dumps(annotation))
    rows = run_labels(inputs, "labels.parquet")
    assert set(rows.loc[rows["source"] == "osm", "source_id"]) == {f"way/{number}" for number in range(1, 8)}
    assert set(rows.loc[rows["source"] == "footprints", "source_id"]) == {"7", "8", "9", "10"}
    assert list(rows.loc[rows["source"] == "labelme", "source_id"]) == ["new.json#0"]


def test_error_for_an_image_of_another_size(inputs: Path) -> None:
    annotation = {"imagePath": "up-0003.png", "imageWidth": 320, "imageHeight": 320, "shapes": []}
    (inputs / "corrections/big.json").write_text(json.dumps(annotation))
    with pytest.raises(DataError, match=r"big\.json was drawn on \(320, 320\) px but up-0003 has \(160, 160\)"):
        run_labels(inputs, "labels.parquet")


def test_areas_of_the_raster_match_the_labels(inputs: Path) -> None:
    rows = run_labels(inputs, "labels.parquet")
    for chip, sample_id in enumerate(IDS):
        found = rasterized(rows, chip)[1].sum(axis=(1, 2)) / 1e4
        projected = rows[rows["sample_id"] == sample_id].to_crs(32650)
        for name, area in zip(FRACTION_BANDS, found):
            own = projected if name == "isa" else projected[projected["kind"] == name]
            assert area == pytest.approx(shapely.union_all(own.geometry).area, rel=1e-3, abs=1e-6)


def test_same_inputs_give_the_same_bytes(inputs: Path) -> None:
    run_labels(inputs, "labels.parquet")
    run_agreement(inputs, "labels.parquet", "first")
    run_agreement(inputs, "labels.parquet", "second")
    for name in (".csv", ".gpkg", "/up-0002.json", "/up-0002.png"):
        assert (inputs / f"first{name}").read_bytes() == (inputs / f"second{name}").read_bytes(), name


def test_slivers_are_dropped() -> None:
    assert drop_slivers(shapely.box(0, 0, 100, 1.9)).is_empty
    assert drop_slivers(shapely.box(0, 0, 100, 2.1)).area == pytest.approx(210)
    flag = shapely.union_all([shapely.box(0, 0, 10, 10), shapely.box(10, 4, 40, 5)])
    assert drop_slivers(flag).area == pytest.approx(100)
