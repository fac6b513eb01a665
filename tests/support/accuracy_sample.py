"""A small synthetic sample for accuracy tests: two reaches, six test chips, maps with errors of 5 and 20 %."""

from pathlib import Path

import geopandas as gpd
import numpy as np
from affine import Affine
from pyproj import Transformer
from shapely.geometry import box
from shapely.ops import transform

from jointseg.accuracy import reference_products
from jointseg.dataset.contract import FRACTION_NODATA, FRACTION_SCALE, ISA_KINDS
from jointseg.raster import cog

EPSG, SIDE_M, WEST, SOUTH = 32650, 60, 660_000, 3_540_000
CODES = {0: 40, 1: 50}  # codes of non-ISA and ISA in a product such as WorldCover
ENTRY = {
    "title": "A product",
    "folder": "cover",
    "pattern": "cover_*.tif",
    "year": 2020,
    "resolution_m": 10,
    "isa": {"codes": [50]},
    "not_isa": {"codes": [10, 40]},
    "nodata": {"codes": [0]},
    "licence": "CC BY 4.0",
}


def lonlat(shape: object) -> object:
    """Return a shape of the UTM zone in degrees."""
    return transform(Transformer.from_crs(EPSG, 4326, always_xy=True).transform, shape)


def write(
    path: Path, array: np.ndarray, west: float, north: float, res_m: float = 1, nodata: int | None = None
) -> None:
    """Write a raster of the zone, [rows, columns] or [bands, rows, columns]."""
    bands = array if array.ndim == 3 else array[None]
    cog.write(path, bands, crs=f"EPSG:{EPSG}", transform=Affine(res_m, 0, west, 0, -res_m, north), nodata=nodata)


def chip_corner(i: int) -> tuple[int, int]:
    """Return the south-west corner of chip i."""
    return WEST + 100 * i, SOUTH


def make(folder: Path) -> dict[str, Path]:
    """Write index, chips, predictions of two methods and a product's files; return their paths."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(8):
        reach = "upstream" if i % 2 else "downstream"
        west, south = chip_corner(i)
        north = south + SIDE_M
        name = f"{reach}-{i:04d}"
        label = np.kron(rng.random((6, 6)) < 0.3, np.ones((10, 10))).astype(np.uint8)
        label[0, :5] = 255
        noisy = {
            error: np.where(rng.random(label.shape) < error, 1 - (label == 1), label == 1) for error in (0.05, 0.2)
        }
        chips = folder / "chips" / reach
        write(chips / f"{name}_label.tif", label, west, north, nodata=255)
        covered = np.zeros((1 + len(ISA_KINDS), SIDE_M, SIDE_M), np.uint16)
        covered[0] = covered[1 + ISA_KINDS.index("building")] = FRACTION_SCALE * (label == 1)
        covered[:, label == 255] = FRACTION_NODATA
        write(chips / f"{name}_fraction.tif", covered, west, north)
        write(chips / f"{name}_hr.tif", rng.integers(300, 3000, (3, SIDE_M, SIDE_M), dtype=np.uint16), west, north)
        write(chips / f"{name}_lr.tif", rng.integers(300, 3000, (3, 6, 6), dtype=np.uint16), west, north, 10)
        if i < 6:
            for method, error in (("superres", 0.05), ("bilinear", 0.2)):
                write(folder / "predictions" / method / f"{name}.tif", noisy[error].astype(np.uint8), west, north)
                sr = rng.integers(300, 3000, (3, SIDE_M, SIDE_M), dtype=np.uint16)
                write(folder / "images" / method / f"{name}.tif", sr, west, north)
        cover = np.where(label[5::10, 5::10] == 1, CODES[1], CODES[0]).astype(np.uint8)
        write(folder / "products" / "cover" / f"cover_{i}.tif", cover, west, north, 10)
        rows.append(
            {
                "sample_id": name,
                "reach": reach,
                "stratum": f"{reach}/1",
                "inclusion_probability": 0.1 if i % 2 else 0.2,
                "split": "test" if i < 6 else "train",
                "epsg": EPSG,
                "minx": west,
                "miny": south,
                "isa_fraction": float((label == 1).mean()),
                "lr": f"{reach}/{name}_lr.tif",
                "hr": f"{reach}/{name}_hr.tif",
                "label": f"{reach}/{name}_label.tif",
                "fraction": f"{reach}/{name}_fraction.tif",
                "geometry": lonlat(box(west, south, west + SIDE_M, north)),
            }
        )
    gpd.GeoDataFrame(rows, crs="EPSG:4326").to_parquet(folder / "index.parquet")
    area(folder / "area.gpkg")
    paths = {"index": folder / "index.parquet", "study_area": folder / "area.gpkg"}
    return paths | {"chips": folder / "chips", "products": folder / "products"}


def area(path: Path) -> None:
    """Write a study area around the chips: one reach with the regions West and East, four chips each, and a city of two chips."""
    west, middle, east = WEST - 20, WEST + 380, WEST + 780
    halves = [
        lonlat(box(*side)) for side in ((west, SOUTH, middle, SOUTH + SIDE_M), (middle, SOUTH, east, SOUTH + SIDE_M))
    ]
    layers = {
        "reaches": (["valley"], [lonlat(box(west, SOUTH, east, SOUTH + SIDE_M))]),
        "regions": (["West", "East"], halves),
        "cities": (["Town"], [lonlat(box(west, SOUTH, WEST + 190, SOUTH + SIDE_M))]),
    }
    for layer, (names, shapes) in layers.items():
        gpd.GeoDataFrame({"name": names}, geometry=shapes, crs="EPSG:4326").to_file(path, layer=layer)


def make_with_product(folder: Path) -> dict[str, Path]:
    """Do the same as `make`, and resample the product to the test chips, in `cover`."""
    paths = make(folder)
    files = {"files": paths["products"], "mosaics": folder / "mosaics/cover/2020", "product": "cover", "entry": ENTRY}
    reference_products.product_mosaic(**files, study_area=paths["study_area"], year="2020")
    reference_products.product_chips(**files, index=paths["index"], rasters=folder / "cover", chip_m=SIDE_M)
    return paths
