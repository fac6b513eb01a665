"""Every product of the production config, read from files with its publisher's names, grid and codes."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from pyproj import Transformer
from shapely.geometry import box

from jointseg.accuracy.product_pixels import ProductReader
from jointseg.accuracy.reference_products import product_mosaic
from jointseg.config.load import load_config
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import file_year, nearest_year
from jointseg.runtime.errors import DataError

ROOT = Path(__file__).parents[2]
TABLE = load_config(yaml.safe_load((ROOT / "config.yaml").read_text())).accuracy.products
CRS, EAST, NORTH = "EPSG:32650", 500_000, 3_548_000  # at 117 E, where two tiles of WorldCover meet
SIDE = 200
DEGREES = {
    "worldcover": 1 / 12_000,
    "gisa": 0.000269494585,
    "gisa10m": 1 / 11_132,
    "gisd30": 1 / 3710,
    "gaia": 1 / 3710,
}
DEGREES |= {"sinolc1": 9.6e-06, "dynamicworld": 1 / 11_132}
FILES = {
    "worldcover": ("ESA_WorldCover_10m_2021_v200_N30E114_Map.tif", "ESA_WorldCover_10m_2021_v200_N30E117_Map.tif"),
    "gisa": ("GISA_v01_1972_2019_35N_115E.tif",),
    "gisa10m": ("GISA-10m_35N_115E.tif",),
    "gisd30": ("GISD30_1985-2020_E115N35.tif",),
    "sinolc1": ("East_Anhui_Hefei.tif",),
    "dynamicworld": ("dynamicworld_2021-0000000000-0000000000.tif",),
    "esri": ("50R_20210101-20220101.tif",),
    "gaia": ("GAIA_1985_2018_33_116.tif", "GAIA_1985_2018_33_117.tif"),
    "ghsl": ("GHS_BUILT_S_E2018_GLOBE_R2023A_54009_10_V1_0_R6_C29.tif",),
}
# Codes of ISA (eastern half, in the product's year) and of non-ISA.
CODES = {
    **{"worldcover": (50, 40), "gisa": (37, 0), "gisa10m": (1, 0), "gisd30": (8, 0), "sinolc1": (6, 5)},
    **{"dynamicworld": (6, 4), "esri": (7, 5), "gaia": (1, 0), "ghsl": (80, 20)},
}


def write_product(folder: Path, name: str) -> None:
    """Write the files of a product around the test location: ISA east of 117 E."""
    isa, other = CODES[name]
    to_lonlat = Transformer.from_crs(CRS, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(EAST, NORTH)
    if name in DEGREES:
        step, crs = DEGREES[name], "EPSG:4326"
        cells = int(0.01 / step)
        for tile, file in enumerate(FILES[name]):
            # Two tiles meet at the meridian; a single tile has it in its middle.
            split = len(FILES[name]) > 1
            west = 117 - cells * step * (1 - tile if split else 1)
            codes = np.full((2 * cells, cells if split else 2 * cells), isa if split and tile else other, np.uint8)
            if not split:
                codes[:, cells:] = isa
            write(folder / file, codes, Affine(step, 0, west, 0, -step, lat + cells * step), crs, name)
        return
    crs = {"esri": CRS, "ghsl": "ESRI:54009"}[name]
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    place = Affine(10, 0, x - 1000, 0, -10, y + 1000)
    cols, rows = np.meshgrid(np.arange(200) + 0.5, np.arange(200) + 0.5)
    lon, _ = Transformer.from_crs(crs, 4326, always_xy=True).transform(
        *(place @ np.stack([cols.ravel(), rows.ravel()]))
    )
    codes = np.where(np.reshape(lon, cols.shape) > 117, isa, other).astype(np.uint8)
    write(folder / FILES[name][0], codes, place, crs, name)


def write(path: Path, codes: np.ndarray, transform: Affine, crs: str, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = [codes] if name != "dynamicworld" else [np.zeros_like(codes), codes]
    shape = {"height": codes.shape[0], "width": codes.shape[1], "count": len(bands), "dtype": "uint8"}
    nodata = 0 if name in ("worldcover", "esri") else None
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, nodata=nodata, **shape) as to:
        to.write(np.stack(bands))
        if len(bands) > 1:
            to.descriptions = ("water", "label")


@pytest.fixture()
def area(tmp_path: Path) -> Path:
    path = tmp_path / "area.gpkg"
    outline = [box(116.995, 32.06, 117.005, 32.07)]
    gpd.GeoDataFrame({"name": ["all"]}, geometry=outline, crs=4326).to_file(path, layer="reaches")
    return path


@pytest.mark.parametrize("name", list(FILES))
def test_published_files_are_read(name: str, tmp_path: Path, area: Path) -> None:
    assert set(FILES) == set(TABLE)
    entry = TABLE[name].model_dump(mode="json")
    write_product(tmp_path / entry["folder"], name)
    year = file_year(entry, nearest_year(entry, 2021))
    call = {"files": tmp_path, "study_area": area, "product": name, "entry": entry}
    facts = product_mosaic(**call, mosaics=tmp_path / "mosaics", year=str(year))
    assert facts["files"] == len(FILES[name]) and facts["missing"] == []
    codes = ProductReader.from_folder(tmp_path / "mosaics", name, entry, nearest_year(entry, 2021))
    place = Affine(1, 0, EAST - SIDE / 2, 0, -1, NORTH + SIDE / 2)
    classes = codes.classify(codes.read_grid(CRS, place, (SIDE, SIDE)), "the place")
    east = round(entry["resolution_m"])  # the boundary can be inside a pixel
    assert (classes[:, : SIDE // 2 - east] == 0).all() and (classes[:, SIDE // 2 + east :] == 1).all()
    x = np.array([EAST - 50.0, EAST + 50.0, EAST + 5e5])
    assert codes.classify(codes.read_points(CRS, x, np.full(3, NORTH - 20.0)), "points").tolist() == [0, 1, 255]


@pytest.mark.parametrize("name", list(FILES))
def test_unlisted_code_raises(name: str, tmp_path: Path, area: Path) -> None:
    entry = TABLE[name].model_dump(mode="json")
    write_product(tmp_path / entry["folder"], name)
    for path in (tmp_path / entry["folder"]).iterdir():
        with rasterio.open(path, "r+") as to:
            to.write(np.where(to.read() == CODES[name][1], 113, to.read()).astype(np.uint8))
    call = {"files": tmp_path, "study_area": area, "product": name, "entry": entry}
    product_mosaic(**call, mosaics=tmp_path / "mosaics", year=str(file_year(entry, entry["year"])))
    codes = ProductReader.from_folder(tmp_path / "mosaics", name, entry)
    with pytest.raises(DataError, match=f"product {name}, the place: code 113 is not in its table entry"):
        codes.classify(codes.read_grid(CRS, Affine(1, 0, EAST - 100, 0, -1, NORTH + 100), (SIDE, SIDE)), "the place")


def test_missing_tile_is_named(tmp_path: Path, area: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = TABLE["worldcover"].model_dump(mode="json")
    write_product(tmp_path / "worldcover", "worldcover")
    (tmp_path / "worldcover" / FILES["worldcover"][1]).unlink()
    call = {"files": tmp_path, "study_area": area, "product": "worldcover", "entry": entry, "year": "2021"}
    facts = product_mosaic(**call, mosaics=tmp_path / "mosaics")
    assert facts["missing"] == ["ESA_WorldCover_10m_2021_v200_N30E117_Map.tif"]
    assert facts["uncovered_fraction"] == pytest.approx(0.5, abs=0.01)
    assert "missing: ESA_WorldCover_10m_2021_v200_N30E117_Map.tif" in caplog.text


def test_nodata_of_one_zone_is_filled_from_the_next(tmp_path: Path, area: Path) -> None:
    """Esri's file of a zone is 0 outside its strip; the neighbouring zone's file has the codes there."""
    entry = TABLE["esri"].model_dump(mode="json")
    codes = np.full((200, 200), 7, np.uint8)
    codes[:, 100:] = 0
    write(
        tmp_path / "esri/50R_20210101-20220101.tif",
        codes,
        Affine(10, 0, EAST - 1000, 0, -10, NORTH + 1000),
        CRS,
        "esri",
    )
    x, y = Transformer.from_crs(CRS, 32651, always_xy=True).transform(EAST, NORTH)
    whole = np.full((400, 400), 5, np.uint8)
    write(
        tmp_path / "esri/51R_20210101-20220101.tif",
        whole,
        Affine(10, 0, x - 2000, 0, -10, y + 2000),
        "EPSG:32651",
        "esri",
    )
    call = {"files": tmp_path, "study_area": area, "product": "esri", "entry": entry, "year": "2021"}
    product_mosaic(**call, mosaics=tmp_path / "mosaics")
    assert sorted(path.name for path in (tmp_path / "mosaics").iterdir()) == ["EPSG_32650.vrt", "EPSG_32651.vrt"]
    read = ProductReader.from_folder(tmp_path / "mosaics", "esri", entry)
    found = read.read_grid(CRS, Affine(1, 0, EAST - 100, 0, -1, NORTH + 100), (SIDE, SIDE))
    assert (found[:, :100] == 7).all() and (found[:, 100:] == 5).all()


def test_band_is_selected_by_description_or_number(tmp_path: Path, area: Path) -> None:
    entry = TABLE["dynamicworld"].model_dump(mode="json")
    write_product(tmp_path / "dynamicworld", "dynamicworld")
    call = {
        "files": tmp_path,
        "study_area": area,
        "product": "dynamicworld",
        "year": "2021",
        "mosaics": tmp_path / "mosaics",
    }
    with pytest.raises(DataError, match=r"0000.tif has bands \['water', 'label'\], not 'built'"):
        product_mosaic(**call, entry=entry | {"band": "built"})
    with pytest.raises(DataError, match=r"has 2 bands, not band 3"):
        product_mosaic(**call, entry=entry | {"band": 3})
    product_mosaic(**call, entry=entry | {"band": 1})
    assert raster_io.read(tmp_path / "mosaics/EPSG_4326.vrt")[0].max() == 0
