"""Areas and growth of two made-up cities."""

from pathlib import Path

import accuracy_world as world
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box

from jointseg import grid
from jointseg.accuracy.growth import ground_areas_km2, growth, kind_of_growth, yearly_percent
from jointseg.errors import DataError

YEARS = [2017, 2019, 2021]
SIDE = 700  # two blocks each way


def cities(folder: Path) -> dict[str, Path]:
    """Two cities of 500 m x 500 m inside mosaics of 700 m; ISA is a growing strip of columns."""
    outlines = {}
    strips = {"Old": (200, 220, 222), "New": (100, 150, 225)}
    for i, (city, widths) in enumerate(strips.items()):
        west, north = world.WEST + 1000 * i, world.SOUTH + SIDE
        outlines[city] = world.lonlat(box(west + 100, north - 600, west + 600, north - 100))
        for year, width in zip(YEARS, widths):
            plane = np.full((SIDE, SIDE), 255, dtype=np.uint8)
            plane[100:600, 100:600] = 0
            plane[100:600, 100 : 100 + width] = 1
            plane[100:110, 590:600] = 255  # 100 m2 never seen
            world.write(folder / str(year) / f"{city}.tif", plane, west, north, nodata=255)
            world.write(folder / "truth" / str(year) / f"{city}-reach.tif", (plane == 1).astype(np.uint8), west, north)
    frame = gpd.GeoDataFrame({"name": list(outlines)}, geometry=list(outlines.values()), crs="EPSG:4326")
    frame.to_file(folder / "area.gpkg", layer="cities")
    return {"study_area": folder / "area.gpkg", "truth": folder / "truth"}


def call(folder: Path, **changed: object) -> pd.DataFrame:
    asked = {
        "mosaics": [folder / str(year) / f"{city}.tif" for year in YEARS for city in ("Old", "New")],
        "study_area": folder / "area.gpkg",
        "table": folder / "growth.csv",
        "figure": folder / "growth.png",
        "cities": {"Old": "Old-reach", "New": "New-reach"},
        "years": YEARS,
        **changed,
    }
    growth(**asked)
    return pd.read_csv(folder / "growth.csv")


def test_areas_are_on_the_ground_and_unknown_is_apart(tmp_path: Path) -> None:
    cities(tmp_path)
    made = call(tmp_path, truth=tmp_path / "truth")
    first = made[(made["city"] == "Old") & (made["year"] == 2017)].iloc[0]
    scale = float(grid.area_scale(world.EPSG, world.WEST + 350, world.SOUTH + 350))
    assert first["isa_km2"] == pytest.approx(500 * 200 / 1e6 / scale, rel=1e-6)
    assert first["unknown_km2"] == pytest.approx(100 / 1e6 / scale, rel=1e-5)
    whole = first[["isa_km2", "other_km2", "unknown_km2"]].sum()
    assert whole == pytest.approx(0.25 / scale, rel=1e-6)
    assert first["truth_km2"] == pytest.approx(first["isa_km2"])
    kinds = made.groupby("city")["growth"].first()
    assert kinds.to_dict() == {"Old": "saturating", "New": "rapid"}
    assert made.groupby("city")["growth_truth"].first().to_dict() == kinds.to_dict()
    second = made[(made["city"] == "New") & (made["year"] == 2019)].iloc[0]
    assert second["percent_a_year"] == pytest.approx(100 * (1.5**0.5 - 1), rel=1e-6)


def test_areas_are_adjusted_for_map_error_with_an_interval(tmp_path: Path) -> None:
    cities(tmp_path)
    cells = [(60, 20, 20, 300), (50, 30, 10, 310), (90, 10, 30, 270)]
    rows = [
        {
            "name": "superres",
            "reference": "labels",
            "reach": reach,
            "stratum": f"{reach}/1",
            "weight": 2.0,
            **dict(zip(("tp", "fp", "fn", "tn"), c)),
        }
        for reach in ("Old-reach", "New-reach")
        for c in cells
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "confusion.csv", index=False)
    made = call(tmp_path, confusion=tmp_path / "confusion.csv").iloc[0]
    expected = made["isa_km2"] * 200 / 260 + made["other_km2"] * 60 / 940
    assert made["adjusted_km2"] == pytest.approx(expected)
    assert 0 <= made["adjusted_lower_km2"] < expected < made["adjusted_upper_km2"] and made["chips"] == 3
    with pytest.raises(DataError, match="no test chip of method superres lies in reach Far"):
        call(tmp_path, confusion=tmp_path / "confusion.csv", cities={"Old": "Far"})


def test_figure_is_the_same_from_run_to_run(tmp_path: Path) -> None:
    cities(tmp_path)
    call(tmp_path)
    first = (tmp_path / "growth.png").read_bytes()
    call(tmp_path)
    assert (tmp_path / "growth.png").read_bytes() == first


def test_a_missing_mosaic_is_named(tmp_path: Path) -> None:
    cities(tmp_path)
    with pytest.raises(DataError, match="city Old has no mosaic of 2017"):
        call(tmp_path, mosaics=[tmp_path / "2019" / "Old.tif"])


def test_area_outside_the_outline_is_not_counted(tmp_path: Path) -> None:
    world.write(tmp_path / "a.tif", np.ones((100, 100), dtype=np.uint8), world.WEST, world.SOUTH + 100)
    half = world.lonlat(box(world.WEST, world.SOUTH, world.WEST + 50, world.SOUTH + 100)).__geo_interface__
    areas = ground_areas_km2([tmp_path / "a.tif"], half)[0]
    assert areas["isa_km2"] == pytest.approx(
        0.005 / float(grid.area_scale(world.EPSG, world.WEST, world.SOUTH)), rel=1e-5
    )


def test_ground_that_a_year_did_not_see_is_not_growth(tmp_path: Path) -> None:
    plane = np.ones((100, 100), dtype=np.uint8)
    world.write(tmp_path / "b.tif", plane, world.WEST, world.SOUTH + 100)
    plane[:50] = 255
    world.write(tmp_path / "a.tif", plane, world.WEST, world.SOUTH + 100)
    outline = world.lonlat(box(world.WEST, world.SOUTH, world.WEST + 100, world.SOUTH + 100)).__geo_interface__
    before, after = ground_areas_km2([tmp_path / "a.tif", tmp_path / "b.tif"], outline)
    assert after["isa_km2"] == pytest.approx(2 * before["isa_km2"])
    assert after["steady_isa_km2"] == before["steady_isa_km2"] == before["isa_km2"]
    world.write(tmp_path / "c.tif", plane, world.WEST + 1, world.SOUTH + 100)
    with pytest.raises(DataError, match="not on one grid"):
        ground_areas_km2([tmp_path / "a.tif", tmp_path / "c.tif"], outline)


@pytest.mark.parametrize(
    ("areas", "kind"),
    [
        ([10, 14, 20, 28], "rapid"),
        ([10, 10.5, 11, 11.6], "moderate"),
        ([10, 13, 13.5, 13.6], "saturating"),
        ([10, 11], "moderate"),
        ([10], ""),
    ],
)
def test_kinds_of_growth(areas: list[float], kind: str) -> None:
    assert kind_of_growth([2017 + 2 * i for i in range(len(areas))], areas) == kind


def test_growth_from_nothing_has_no_rate() -> None:
    assert np.isnan(yearly_percent(0, 5, 2)) and yearly_percent(100, 121, 2) == pytest.approx(10)
