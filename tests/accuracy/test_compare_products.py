"""A city's maps beside products: areas, own pixels, points, pictures."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from shapely.geometry import box
from support import accuracy_world as world

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
TOP = world.SOUTH + SIDE
ENTRY = world.ENTRY | {
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
    """Truth, maps, a product of whole pixels and one of parts of pixels; the products do not know the last 60 m in the east."""
    folder, rng = tmp_path_factory.mktemp("beside"), np.random.default_rng(4)
    for year, width in zip(YEARS, (180, 240)):
        truth = np.zeros((SIDE, SIDE), np.uint8)
        truth[:, :width] = 1
        truth[:, 400:410] = truth[:, 460:470] = 1  # roads that fill a third of a product's pixel
        mapped = np.where(rng.random(truth.shape) < 0.03, 1 - truth, truth).astype(np.uint8)
        mapped[:30] = 255
        world.write(folder / f"truth/{year}/plain.tif", truth, world.WEST, TOP)
        world.write(folder / f"maps/{year}/Town.tif", mapped, world.WEST, TOP, nodata=255)
    share = truth.reshape(SIDE // 30, 30, SIDE // 30, 30).mean(axis=(1, 3))[:, :-2]
    codes = np.where(share >= 0.5, 50, 40).astype(np.uint8)
    world.write(folder / "products/cover/cover_2021.tif", codes, world.WEST, TOP, 30)
    world.write(folder / "products/part/part.tif", np.rint(100 * share).astype(np.uint8), world.WEST, TOP, 30)
    outline = world.lonlat(box(world.WEST, world.SOUTH, world.WEST + SIDE, TOP))
    gpd.GeoDataFrame({"name": ["all"]}, geometry=[outline], crs=4326).to_file(folder / "area.gpkg", layer="reaches")
    for name, entry in (("cover", ENTRY), ("part", PART)):
        call = {"files": folder / "products", "study_area": folder / "area.gpkg", "product": name, "entry": entry}
        product_mosaic(**call, mosaics=folder / "mosaics" / name / str(entry["year"]), year=str(entry["year"]))
    made = {kind: folder / f"{kind}.csv" for kind in ("strata", "design", "points")}
    maps = [folder / f"maps/{year}/Town.tif" for year in YEARS]
    change_sample(mosaics=maps, city="Town", years=YEARS, number=400, seed=1, threads=1, **made)
    told = {
        "truth": folder / "truth",
        "reference": folder / "told.csv",
        "city": "Town",
        "reach": "plain",
        "years": YEARS,
    }
    label_points(points=made["points"], **told)
    return folder


def call(town: Path, out: Path, **changed: object) -> pd.DataFrame:
    asked = {
        "mosaics": [town / f"maps/{year}/Town.tif" for year in YEARS],
        "table": out / "Town.csv",
        "maps": out / "Town",
        **{"city": "Town", "reach": "plain", "years": YEARS, "threads": 2},
        "products": [town / "mosaics/cover/2021", town / "mosaics/part/2018"],
        "files": town / "products",
        "product_table": {"cover": ENTRY, "part": PART},
        **{"strata": town / "strata.csv", "design": town / "design.csv", "reference": town / "told.csv"},
        "truth": town / "truth",
        **changed,
    }
    compare_products(**asked)
    return pd.read_csv(out / "Town.csv").set_index(["year", "name"])


def test_areas_agree_with_a_count_by_hand(town: Path, tmp_path: Path) -> None:
    made = call(town, tmp_path)
    pixel = 1e-6 / float(grid.area_scale(world.EPSG, world.WEST + SIDE / 2, world.SOUTH + SIDE / 2))
    ours, real = (raster_io.read(town / path)[0][0] for path in ("maps/2021/Town.tif", "truth/2021/plain.tif"))
    whole, row = ours != 255, made.loc[(2021, "truth")]
    assert row["both_km2"] == pytest.approx((whole & (ours == 1) & (real == 1)).sum() * pixel, rel=1e-6)
    assert row["only_ours_km2"] == pytest.approx((whole & (ours == 1) & (real == 0)).sum() * pixel, rel=1e-6)
    assert row["untold_km2"] == 0 and np.isnan(row["share_mae"]) and np.isnan(row["f1"])
    cover = np.kron(raster_io.read(town / "products/cover/cover_2021.tif")[0][0] == 50, np.ones((30, 30)))
    row, inside = made.loc[(2021, "cover")], whole[:, :540]
    assert row["only_theirs_km2"] == pytest.approx(
        (inside & (ours[:, :540] == 0) & (cover == 1)).sum() * pixel, rel=1e-6
    )
    assert row["untold_km2"] == pytest.approx(whole[:, 540:].sum() * pixel, rel=1e-6)
    kinds = [row[f"{kind}_km2"] for kind in ("both", "only_ours", "only_theirs", "neither", "untold")]
    assert sum(kinds) == pytest.approx(whole.sum() * pixel, rel=1e-6)
    years = made["product_year"].unstack()
    assert years.loc[2019].to_dict() == {"cover": 2021, "part": 2018, "truth": 2019}


def test_fractions_are_told_in_the_products_own_pixels(town: Path, tmp_path: Path) -> None:
    made = call(town, tmp_path)
    ours = raster_io.read(town / "maps/2021/Town.tif")[0][0][30:, :540]
    share = (ours == 1).reshape(19, 30, 18, 30).mean(axis=(1, 3))
    for name in ("cover", "part"):
        codes = raster_io.read(next((town / "products" / name).iterdir()))[0][0][1:]
        theirs = codes / 100 if name == "part" else codes == 50
        row = made.loc[(2021, name)]
        assert row["pixels"] == 19 * 18
        assert row["share_mae"] == pytest.approx(np.abs(share - theirs).mean())
        assert row["share_bias"] == pytest.approx((share - theirs).mean(), abs=1e-7)
        assert row["share_r"] == pytest.approx(np.corrcoef(share.ravel(), np.ravel(theirs))[0, 1])
    assert made.loc[(2021, "part"), "share_mae"] < made.loc[(2021, "cover"), "share_mae"]


def test_products_are_scored_at_the_points(town: Path, tmp_path: Path) -> None:
    made = call(town, tmp_path)
    row = made.loc[(2021, "cover")]
    assert row["points"] < 400 and row["users_lower"] <= row["users"] <= 1
    # Of 540 columns that it knows 260 are ISA, of which the product misses the roads; the map errs in 3 of 100 pixels.
    assert row["producers_lower"] <= 1 - 20 / 260 <= row["producers_upper"]
    f1 = {"cover": 2 * 240 / (2 * 240 + 20), "ours": 2 * 0.97 * 260 / (0.97 * 260 + 0.03 * 280 + 260)}
    assert row["f1_of_ours_minus_lower"] <= f1["ours"] - f1["cover"] <= row["f1_of_ours_minus_upper"]


def test_pictures_show_where_they_differ(town: Path, tmp_path: Path) -> None:
    call(town, tmp_path)
    names = sorted(path.name for path in (tmp_path / "Town").iterdir())
    assert names == [f"{year}_{name}.png" for year in YEARS for name in ("cover", "part", "truth")]
    picture = np.asarray(Image.open(tmp_path / "Town/2021_cover.png").convert("RGB"))
    assert picture.shape[:2] == (600, 600)
    colours = figures.AGREEMENT
    assert tuple(picture[10, 100]) == colours["unknown"] and tuple(picture[300, 570]) == colours["unknown"]
    road = picture[100:, 405].reshape(-1, 3).tolist()
    assert road.count(list(colours["false alarm"])) > 0.9 * len(road)


def test_a_year_without_its_mosaic_is_named(town: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="product part has no mosaic of 2018; give part/2018 among the products"):
        call(town, tmp_path, products=[town / "mosaics/cover/2021"])
