"""Areas and growth of two synthetic cities."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box
from support import accuracy_sample as sample_data

from jointseg.accuracy.change_sample import change_sample
from jointseg.accuracy.city_areas import areas_km2
from jointseg.accuracy.growth import drift, growth
from jointseg.accuracy.growth_kinds import fit_curve, growth_type, most_likely_type, yearly_percent
from jointseg.area import grid
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

YEARS = [2017, 2019, 2021]
SIDE = 700  # two blocks each way


def cities(folder: Path) -> dict[str, Path]:
    """Two cities of 500 m x 500 m in mosaics of 700 m; ISA is a growing strip of columns."""
    outlines = {}
    strips = {"Old": (200, 220, 222), "New": (100, 150, 225)}
    for i, (city, widths) in enumerate(strips.items()):
        west, north = sample_data.WEST + 1000 * i, sample_data.SOUTH + SIDE
        outlines[city] = sample_data.lonlat(box(west + 100, north - 600, west + 600, north - 100))
        for year, width in zip(YEARS, widths):
            plane = np.full((SIDE, SIDE), 255, dtype=np.uint8)
            plane[100:600, 100:600] = 0
            plane[100:600, 100 : 100 + width] = 1
            plane[100:110, 590:600] = 255  # 100 m2 of nodata
            sample_data.write(folder / str(year) / f"{city}.tif", plane, west, north, nodata=255)
            sample_data.write(
                folder / "truth" / str(year) / f"{city}-reach.tif", (plane == 1).astype(np.uint8), west, north
            )
    frame = gpd.GeoDataFrame({"name": list(outlines)}, geometry=list(outlines.values()), crs="EPSG:4326")
    frame.to_file(folder / "area.gpkg", layer="cities")
    return {"study_area": folder / "area.gpkg", "truth": folder / "truth"}


def call(folder: Path, **overrides: object) -> pd.DataFrame:
    arguments = {
        "mosaics": [folder / str(year) / f"{city}.tif" for year in YEARS for city in ("Old", "New")],
        "study_area": folder / "area.gpkg",
        "table": folder / "growth.csv",
        "changes": folder / "change.csv",
        "zones": folder / "zones.csv",
        "figure": folder / "growth.png",
        "ring_km": 0.1,
        "seed": 1,
        "threads": 2,
        "cities": {"Old": "Old-reach", "New": "New-reach"},
        "years": YEARS,
        **overrides,
    }
    growth(**arguments)
    return pd.read_csv(folder / "growth.csv")


def test_areas_are_corrected_for_scale_and_nodata_is_separate(tmp_path: Path) -> None:
    cities(tmp_path)
    made = call(tmp_path, truth=tmp_path / "truth")
    first = made[(made["city"] == "Old") & (made["year"] == 2017)].iloc[0]
    scale = float(grid.area_scale(sample_data.EPSG, sample_data.WEST + 350, sample_data.SOUTH + 350))
    assert first["isa_km2"] == pytest.approx(500 * 200 / 1e6 / scale, rel=1e-6)
    assert first["nodata_km2"] == pytest.approx(100 / 1e6 / scale, rel=1e-5)
    total = first[["isa_km2", "non_isa_km2", "nodata_km2"]].sum()
    assert total == pytest.approx(0.25 / scale, rel=1e-6)
    assert first["truth_km2"] == pytest.approx(first["isa_km2"])
    kinds = made.groupby("city")["growth"].first()
    assert kinds.to_dict() == {"Old": "saturating", "New": "rapid"}
    assert made.groupby("city")["growth_truth"].first().to_dict() == kinds.to_dict()
    second = made[(made["city"] == "New") & (made["year"] == 2019)].iloc[0]
    assert second["percent_per_year"] == pytest.approx(100 * (1.5**0.5 - 1), rel=1e-6)


def sampled(folder: Path, wrong: bool = False) -> dict[str, list[Path]]:
    """Points of one city with the classes of its map, or always the opposite."""
    made = {kind: folder / kind / "New.csv" for kind in ("strata", "design", "points")}
    maps = [folder / f"{year}/New.tif" for year in YEARS]
    change_sample(mosaics=maps, city="New", years=YEARS, number=300, seed=3, threads=1, **made)
    table = pd.read_csv(made["points"])
    row, col = (sample_data.SOUTH + SIDE - table["y"]).astype(int), (table["x"] - sample_data.WEST - 1000).astype(int)
    for year, path in zip(YEARS, maps):
        table[str(year)] = (raster_io.read(path)[0][0][row, col] == 1) != wrong
        table[str(year)] = table[str(year)].astype(int)
    (folder / "interpreted").mkdir()
    table.to_csv(folder / "interpreted/New.csv", index=False)
    return {"strata": [made["strata"]], "designs": [made["design"]], "references": [folder / "interpreted/New.csv"]}


def test_points_give_areas_and_growth_confidence(tmp_path: Path) -> None:
    cities(tmp_path)
    made = call(tmp_path, **sampled(tmp_path)).set_index(["city", "year"])
    row = made.loc["New", 2021]
    # The map is right at every point, so the estimate is the mapped area and the accuracy is 1.
    assert row["estimated_km2"] == pytest.approx(row["common_isa_km2"], rel=1e-3)
    assert row["overall"] == row["users"] == row["producers"] == 1 and row["points"] == 300
    assert row["growth"] == "rapid" and row["growth_confidence"] == 1
    assert made.loc["Old", 2021].isna()["estimated_km2"] and made.loc["Old", 2021].isna()["growth_confidence"]
    between = pd.read_csv(tmp_path / "change.csv").set_index(["city", "first", "last"])
    assert list(between.loc["New"].index) == [(2017, 2019), (2019, 2021), (2017, 2021)]
    whole = between.loc["New", 2017, 2021]
    assert whole["gain_km2"] == pytest.approx(whole["mapped_gain_km2"], rel=1e-3)
    assert whole["growth_km2"] == pytest.approx(row["estimated_km2"] - made.loc["New", 2017]["estimated_km2"])
    assert whole["gain_users"] == 1 and whole["loss_km2"] == 0 == whole["from_1_to_0_km2"]


def test_map_that_is_always_wrong_has_no_accuracy(tmp_path: Path) -> None:
    cities(tmp_path)
    row = call(tmp_path, **sampled(tmp_path, wrong=True)).set_index(["city", "year"]).loc["New", 2021]
    assert row["overall"] == 0
    valid = row["isa_km2"] + row["non_isa_km2"]
    assert row["estimated_km2"] == pytest.approx(valid - row["common_isa_km2"], rel=1e-3)


def test_filtered_areas_are_reported_next_to_mapped_areas(tmp_path: Path) -> None:
    cities(tmp_path)
    filtered = [tmp_path / "calm" / str(year) / f"{city}.tif" for year in YEARS for city in ("Old", "New")]
    for path in filtered:  # the first year's map throughout
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((tmp_path / str(YEARS[0]) / path.name).read_bytes())
    plain = call(tmp_path)
    made = call(tmp_path, filtered=filtered).set_index(["city", "year"])
    assert made["isa_km2"].tolist() == plain["isa_km2"].tolist()
    assert made.loc[("New", 2021), "filtered_km2"] == made.loc[("New", 2017), "isa_km2"]
    between = pd.read_csv(tmp_path / "change.csv").query("city == 'New'")
    assert (between["filtered_gain_km2"] == 0).all() and (between["mapped_gain_km2"] > 0).all()


def test_gain_is_reported_by_ring_and_district(tmp_path: Path) -> None:
    cities(tmp_path)
    west = sample_data.WEST + 1000
    halves = {"West": (west, west + 300), "East": (west + 300, west + 700)}
    shapes = [sample_data.lonlat(box(a, sample_data.SOUTH, b, sample_data.SOUTH + SIDE)) for a, b in halves.values()]
    gpd.GeoDataFrame({"name": list(halves)}, geometry=shapes, crs="EPSG:4326").to_file(tmp_path / "parts.gpkg")
    call(tmp_path, districts=tmp_path / "parts.gpkg")
    zones, between = pd.read_csv(tmp_path / "zones.csv"), pd.read_csv(tmp_path / "change.csv")
    new = zones[(zones["city"] == "New") & (zones["first"] == 2017) & (zones["last"] == 2021)]
    total = between.query("city == 'New' and first == 2017 and last == 2021")["mapped_gain_km2"].iloc[0]
    for kind in ("ring", "district"):
        assert new[new["zone"] == kind]["gain_km2"].sum() == pytest.approx(total)
    parts = new[new["zone"] == "district"].set_index("name")
    # ISA grows from column 200 to 325 of the mosaic; cells of 80 px go to the half that holds their centre.
    assert parts.loc["West", "gain_km2"] > 3 * parts.loc["East", "gain_km2"] > 0
    assert (new["loss_km2"] == 0).all() and (new[new["zone"] == "ring"]["name"] == "0-0.1 km").sum() == 1
    with pytest.raises(DataError, match="districts need a column 'name'"):
        gpd.GeoDataFrame({"title": ["a"]}, geometry=shapes[:1], crs="EPSG:4326").to_file(tmp_path / "odd.gpkg")
        call(tmp_path, districts=tmp_path / "odd.gpkg")


def test_mapped_loss_and_uninterpreted_points_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cities(tmp_path)
    lost = raster_io.read(tmp_path / "2017/New.tif")[0][0]
    sample_data.write(
        tmp_path / "2021/New.tif",
        np.where(lost == 1, 0, lost),
        sample_data.WEST + 1000,
        sample_data.SOUTH + SIDE,
        nodata=255,
    )
    call(tmp_path, **{**sampled(tmp_path), "references": []})
    log = caplog.text
    assert "New: its points are not interpreted yet" in log and "accuracy.growth_reference as New.csv" in log
    assert "are impervious on the map of 2019 but not in 2021, 150.0 % of the first year's ISA" in log
    assert "Old: 0" not in log


def test_largest_drift_of_a_year_is_reported(tmp_path: Path) -> None:
    cities(tmp_path)
    rows = "tile,drift_B04,drift_B03\nall,0.002,-0.007\n50N,0.1,0.1\n"
    (tmp_path / "2017.csv").write_text(rows)
    (tmp_path / "2019.csv").write_text("tile,drift_B04,drift_B03\nall,,\n")
    assert drift([tmp_path / "2017.csv"]) == {2017: 0.007}
    made = call(tmp_path, quality_tables=[tmp_path / "2017.csv", tmp_path / "2019.csv"])
    assert made["drift"].tolist()[:1] == [0.007] and made["drift"].isna().sum() == 4


def test_figure_is_deterministic(tmp_path: Path) -> None:
    cities(tmp_path)
    call(tmp_path)
    first = (tmp_path / "growth.png").read_bytes()
    call(tmp_path)
    assert (tmp_path / "growth.png").read_bytes() == first


def test_missing_mosaic_raises(tmp_path: Path) -> None:
    cities(tmp_path)
    with pytest.raises(DataError, match="city Old has no mosaic of 2017"):
        call(tmp_path, mosaics=[tmp_path / "2019" / "Old.tif"])


def test_pixels_outside_the_outline_are_not_counted(tmp_path: Path) -> None:
    sample_data.write(
        tmp_path / "a.tif", np.ones((100, 100), dtype=np.uint8), sample_data.WEST, sample_data.SOUTH + 100
    )
    half = sample_data.lonlat(
        box(sample_data.WEST, sample_data.SOUTH, sample_data.WEST + 50, sample_data.SOUTH + 100)
    ).__geo_interface__
    areas = areas_km2([tmp_path / "a.tif"], half, 1)[0]
    assert areas["isa_km2"] == pytest.approx(
        0.005 / float(grid.area_scale(sample_data.EPSG, sample_data.WEST, sample_data.SOUTH)), rel=1e-5
    )


def test_nodata_in_one_year_is_not_growth(tmp_path: Path) -> None:
    plane = np.ones((100, 100), dtype=np.uint8)
    sample_data.write(tmp_path / "b.tif", plane, sample_data.WEST, sample_data.SOUTH + 100)
    plane[:50] = 255
    sample_data.write(tmp_path / "a.tif", plane, sample_data.WEST, sample_data.SOUTH + 100)
    outline = sample_data.lonlat(
        box(sample_data.WEST, sample_data.SOUTH, sample_data.WEST + 100, sample_data.SOUTH + 100)
    ).__geo_interface__
    before, after = areas_km2([tmp_path / "a.tif", tmp_path / "b.tif"], outline, 1)
    assert after["isa_km2"] == pytest.approx(2 * before["isa_km2"])
    assert after["common_isa_km2"] == before["common_isa_km2"] == before["isa_km2"]
    sample_data.write(tmp_path / "c.tif", plane, sample_data.WEST + 1, sample_data.SOUTH + 100)
    with pytest.raises(DataError, match="have different grids"):
        areas_km2([tmp_path / "a.tif", tmp_path / "c.tif"], outline, 1)


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
def test_growth_types(areas: list[float], kind: str) -> None:
    assert growth_type([2017 + 2 * i for i in range(len(areas))], areas) == kind


def test_growth_from_zero_has_no_rate() -> None:
    assert np.isnan(yearly_percent(0, 5, 2)) and yearly_percent(100, 121, 2) == pytest.approx(10)


def test_confidence_is_the_fraction_of_replicates() -> None:
    rapid, moderate = [10.0, 14, 20], [10.0, 10.5, 11]
    assert most_likely_type([2017, 2019, 2021], np.array([rapid, rapid, moderate, rapid])) == ("rapid", 0.75)


def test_curve_fits_a_constant_rate() -> None:
    years, rate = [2017, 2019, 2021, 2023], 1.05
    areas = np.array([[10 * rate ** (year - 2017) for year in years]])
    at = np.array([2018.0, 2022.5])
    assert fit_curve(years, areas, at)[0] == pytest.approx(10 * rate ** (at - 2017))
    bent = fit_curve(years, np.array([[10.0, 13, 14, 14.2]]), np.array([2017.0, 2020, 2023]))[0]
    assert bent[1] - bent[0] > bent[2] - bent[1]
    assert fit_curve(years[:2], areas[:, :2], at)[0, 0] == pytest.approx(10 * rate)
