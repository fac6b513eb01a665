"""Step `compare_products`: areas, product pixels, points, pictures."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from shapely.geometry import box
from support import accuracy_sample as sample_data

from jointseg.accuracy import figures
from jointseg.accuracy.change_sample import change_sample
from jointseg.accuracy.compare_products import compare_products
from jointseg.accuracy.reference_products import product_mosaic
from jointseg.area import grid
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.synthetic.label_points import label_points

YEARS = [2019, 2021]
SIDE = 600
TOP = sample_data.SOUTH + SIDE
ENTRY = sample_data.ENTRY | {
    "pattern": "cover_{year}.tif",
    "year": 2021,
    "resolution_m": 30,
    "band": 1,
    "full_cover_code": None,
}
PART = ENTRY | {
    **{"folder": "part", "pattern": "part.tif", "year": 2018, "full_cover_code": 100, "isa": {"range": [50, 100]}},
    **{"not_isa": {"range": [0, 49]}, "nodata": {"codes": [255]}},
}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Truth, maps, a product of classes and one of fractions; the products have nodata in the easternmost 60 m."""
    folder, rng = tmp_path_factory.mktemp("compare"), np.random.default_rng(4)
    for year, width in zip(YEARS, (180, 240)):
        truth = np.zeros((SIDE, SIDE), np.uint8)
        truth[:, :width] = 1
        truth[:, 400:410] = truth[:, 460:470] = 1  # roads that fill a third of a product's pixel
        mapped = np.where(rng.random(truth.shape) < 0.03, 1 - truth, truth).astype(np.uint8)
        mapped[:30] = 255
        sample_data.write(folder / f"truth/{year}/plain.tif", truth, sample_data.WEST, TOP)
        sample_data.write(folder / f"maps/{year}/Town.tif", mapped, sample_data.WEST, TOP, nodata=255)
    fraction = truth.reshape(SIDE // 30, 30, SIDE // 30, 30).mean(axis=(1, 3))[:, :-2]
    codes = np.where(fraction >= 0.5, 50, 40).astype(np.uint8)
    sample_data.write(folder / "products/cover/cover_2021.tif", codes, sample_data.WEST, TOP, 30)
    sample_data.write(
        folder / "products/part/part.tif", np.rint(100 * fraction).astype(np.uint8), sample_data.WEST, TOP, 30
    )
    outline = sample_data.lonlat(box(sample_data.WEST, sample_data.SOUTH, sample_data.WEST + SIDE, TOP))
    gpd.GeoDataFrame({"name": ["all"]}, geometry=[outline], crs=4326).to_file(folder / "area.gpkg", layer="reaches")
    for name, entry in (("cover", ENTRY), ("part", PART)):
        call = {"files": folder / "products", "study_area": folder / "area.gpkg", "product": name, "entry": entry}
        product_mosaic(**call, mosaics=folder / "mosaics" / name / str(entry["year"]), year=str(entry["year"]))
    made = {kind: folder / f"{kind}.csv" for kind in ("strata", "design", "points")}
    maps = [folder / f"maps/{year}/Town.tif" for year in YEARS]
    change_sample(mosaics=maps, city="Town", years=YEARS, number=400, seed=1, threads=1, **made)
    arguments = {
        "truth": folder / "truth",
        "reference": folder / "interpreted.csv",
        "city": "Town",
        "reach": "plain",
        "years": YEARS,
    }
    label_points(points=made["points"], **arguments)
    return folder


def call(town: Path, out: Path, **overrides: object) -> pd.DataFrame:
    arguments = {
        "mosaics": [town / f"maps/{year}/Town.tif" for year in YEARS],
        "table": out / "Town.csv",
        "maps": out / "Town",
        **{"city": "Town", "reach": "plain", "years": YEARS, "threads": 2},
        "products": [town / "mosaics/cover/2021", town / "mosaics/part/2018"],
        "files": town / "products",
        "product_table": {"cover": ENTRY, "part": PART},
        **{"strata": town / "strata.csv", "design": town / "design.csv", "reference": town / "interpreted.csv"},
        "truth": town / "truth",
        **overrides,
    }
    compare_products(**arguments)
    return pd.read_csv(out / "Town.csv").set_index(["year", "name"])


def test_areas_agree_with_direct_counts(town: Path, tmp_path: Path) -> None:
    made = call(town, tmp_path)
    pixel = 1e-6 / float(grid.area_scale(sample_data.EPSG, sample_data.WEST + SIDE / 2, sample_data.SOUTH + SIDE / 2))
    mapped, truth = (raster_io.read(town / path)[0][0] for path in ("maps/2021/Town.tif", "truth/2021/plain.tif"))
    valid, row = mapped != 255, made.loc[(2021, "truth")]
    assert row["both_km2"] == pytest.approx((valid & (mapped == 1) & (truth == 1)).sum() * pixel, rel=1e-6)
    assert row["map_only_km2"] == pytest.approx((valid & (mapped == 1) & (truth == 0)).sum() * pixel, rel=1e-6)
    assert row["product_nodata_km2"] == 0 and np.isnan(row["fraction_mae"]) and np.isnan(row["f1"])
    cover = np.kron(raster_io.read(town / "products/cover/cover_2021.tif")[0][0] == 50, np.ones((30, 30)))
    row, inside = made.loc[(2021, "cover")], valid[:, :540]
    assert row["product_only_km2"] == pytest.approx(
        (inside & (mapped[:, :540] == 0) & (cover == 1)).sum() * pixel, rel=1e-6
    )
    assert row["product_nodata_km2"] == pytest.approx(valid[:, 540:].sum() * pixel, rel=1e-6)
    areas = [row[f"{kind}_km2"] for kind in ("both", "map_only", "product_only", "neither", "product_nodata")]
    assert sum(areas) == pytest.approx(valid.sum() * pixel, rel=1e-6)
    years = made["product_year"].unstack()
    assert years.loc[2019].to_dict() == {"cover": 2021, "part": 2018, "truth": 2019}


def test_fractions_are_compared_by_product_pixel(town: Path, tmp_path: Path) -> None:
    made = call(town, tmp_path)
    mapped = raster_io.read(town / "maps/2021/Town.tif")[0][0][30:, :540]
    fraction = (mapped == 1).reshape(19, 30, 18, 30).mean(axis=(1, 3))
    for name in ("cover", "part"):
        codes = raster_io.read(next((town / "products" / name).iterdir()))[0][0][1:]
        product = codes / 100 if name == "part" else codes == 50
        row = made.loc[(2021, name)]
        assert row["pixels"] == 19 * 18
        assert row["fraction_mae"] == pytest.approx(np.abs(fraction - product).mean())
        assert row["fraction_bias"] == pytest.approx((fraction - product).mean(), abs=1e-7)
        assert row["fraction_r"] == pytest.approx(np.corrcoef(fraction.ravel(), np.ravel(product))[0, 1])
    assert made.loc[(2021, "part"), "fraction_mae"] < made.loc[(2021, "cover"), "fraction_mae"]


def test_products_are_assessed_at_the_points(town: Path, tmp_path: Path) -> None:
    made = call(town, tmp_path)
    row = made.loc[(2021, "cover")]
    assert row["points"] < 400 and row["users_lower"] <= row["users"] <= 1
    # 260 of the 540 valid columns are ISA; the product omits the roads; the map is wrong in 3 % of its pixels.
    assert row["producers_lower"] <= 1 - 20 / 260 <= row["producers_upper"]
    f1 = {"cover": 2 * 240 / (2 * 240 + 20), "map": 2 * 0.97 * 260 / (0.97 * 260 + 0.03 * 280 + 260)}
    assert row["f1_difference_lower"] <= f1["map"] - f1["cover"] <= row["f1_difference_upper"]


def test_pictures_show_the_differences(town: Path, tmp_path: Path) -> None:
    call(town, tmp_path)
    names = sorted(path.name for path in (tmp_path / "Town").iterdir())
    assert names == [f"{year}_{name}.png" for year in YEARS for name in ("cover", "part", "truth")]
    picture = np.asarray(Image.open(tmp_path / "Town/2021_cover.png").convert("RGB"))
    assert picture.shape[:2] == (600, 600)
    colours = figures.AGREEMENT
    assert tuple(picture[10, 100]) == colours["nodata"] and tuple(picture[300, 570]) == colours["nodata"]
    road = picture[100:, 405].reshape(-1, 3).tolist()
    assert road.count(list(colours["false positive"])) > 0.9 * len(road)


def test_missing_product_mosaic_raises(town: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="product part has no mosaic of 2018; add part/2018 to the products"):
        call(town, tmp_path, products=[town / "mosaics/cover/2021"])
