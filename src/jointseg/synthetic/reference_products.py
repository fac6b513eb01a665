"""Write reference products in their own codes, grids and file names, with the typical errors of each."""

from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.warp import Resampling, reproject, transform_bounds
from scipy.ndimage import binary_dilation, gaussian_filter, maximum_filter, minimum_filter

from jointseg.raster import cog
from jointseg.synthetic.city import City
from jointseg.synthetic.landscape import BARE_CLASS, BUILDING_CLASS, CROP_CLASS, ROAD_CLASS
from jointseg.synthetic.terrain import EPSG, MACRO_M, MARGIN_M, ORIGIN_M, REACHES, Frame, Terrain
from jointseg.synthetic.vectors import REGIONS

WORLDCOVER_DEG = 1 / 12_000
LANDSAT_DEG = 0.000269494585
SINOLC_DEG = 9.6e-06
DEM_DEG = 1 / 3600
SINOLC_REGION = {"upstream": "Southwest", "midstream": "Central", "downstream": "East"}
# Codes of WorldCover for the classes tree, grass, crop, bare, water of panels.FRACTION_CLASSES.
WORLDCOVER_CODES = (10, 30, 40, 60, 80)
PAD_DEG = 0.004  # margin around the valley


def _lattice(
    frame: Frame, corner: tuple[float, float], step: float, box: tuple[float, ...] | None = None
) -> tuple[Affine, tuple[int, int]]:
    """Return transform and shape of the part of a product's pixel lattice over the valley, or over a `box` in UTM
    metres.

    `corner` is (longitude, latitude) of the upper left corner of the product's tile, `step` the pixel size in degrees.
    """
    x, y = ORIGIN_M
    west, south, east, north = transform_bounds(EPSG, 4326, *(box or (x, y, x + frame.width_m, y + frame.reach_m)))
    pad = PAD_DEG if box is None else 0.0
    col, row = int((west - pad - corner[0]) / step), int((corner[1] - north - pad) / step)
    cols, rows = int((east + pad - corner[0]) / step) + 1 - col, int((corner[1] - south + pad) / step) + 1 - row
    return Affine(step, 0, corner[0] + col * step, 0, -step, corner[1] - row * step), (rows, cols)


def _warp(
    image: np.ndarray,
    res_m: int,
    frame: Frame,
    transform: Affine,
    shape: tuple[int, int],
    resampling: Resampling,
    left_m: int = 0,
) -> np.ndarray:
    """Warp a raster of the valley, [..., rows, columns], `left_m` from its western edge, to a geographic lattice."""
    out = np.zeros((*image.shape[:-2], *shape), dtype=image.dtype)
    source = Affine(res_m, 0, ORIGIN_M[0] + left_m, 0, -res_m, ORIGIN_M[1] + frame.reach_m)
    reproject(
        image, out, src_transform=source, src_crs=EPSG, dst_transform=transform, dst_crs=4326, resampling=resampling
    )
    return out


def write_worldcover(folder: Path, frame: Frame, isa_fraction: np.ndarray, cover_fraction: np.ndarray) -> None:
    """Write WorldCover 2021 v200 from fractions at 10 m: built-up is complete in cities and lacks narrow lanes."""
    transform, shape = _lattice(frame, (117.0, 33.0), WORLDCOVER_DEG)
    rng = frame.rng(100)
    built = _warp(isa_fraction, 10, frame, transform, shape, Resampling.average)
    rest = _warp(cover_fraction, 10, frame, transform, shape, Resampling.average)
    # The surroundings contribute: green pixels inside a town are classified as built-up.
    context = gaussian_filter(built, 2.2)
    noise = gaussian_filter(rng.standard_normal(shape), 1.2)
    score = 0.62 * built + 0.62 * context + 0.10 * noise / noise.std()
    codes = np.array(WORLDCOVER_CODES, dtype=np.uint8)[np.argmax(rest + 0.12 * rng.standard_normal(rest.shape), axis=0)]
    codes[(rest.sum(axis=0) < 0.05) & (built < 0.05)] = 40
    codes[score > 0.36] = 50
    _save(folder / "ESA_WorldCover_10m_2021_v200_N30E117_Map.tif", codes, transform, nodata=0)


def write_gisa(folder: Path, frame: Frame, years: tuple[int, ...], isa_fraction: np.ndarray) -> None:
    """Write GISA 1.0: the first year in which a 30 m pixel is impervious, 1 = 1972, 2 = 1978, 3 = 1985 ... 37 = 2019."""
    transform, shape = _lattice(frame, (115.0, 35.0), LANDSAT_DEG)
    noise = 0.06 * frame.rng(101).standard_normal(shape)
    code = np.zeros(shape, dtype=np.uint8)
    for year, fraction in sorted(zip(years, isa_fraction), reverse=True, key=lambda pair: pair[0]):
        if year <= 2019:
            built = _warp(fraction, 10, frame, transform, shape, Resampling.average)
            code[built + 0.35 * gaussian_filter(built, 1.0) + noise > 0.52] = {1972: 1, 1978: 2}.get(year, year - 1982)
    _save(folder / "GISA_v01_1972_2019_35N_115E.tif", code, transform)


def write_gisd30(folder: Path, frame: Frame, years: tuple[int, ...], isa_fraction: np.ndarray) -> None:
    """Write GISD30: 1 before 1985, 2..8 the five-year period in which a 30 m pixel became impervious."""
    transform, shape = _lattice(frame, (115.0, 35.0), LANDSAT_DEG)
    noise = 0.07 * frame.rng(102).standard_normal(shape)
    code = np.zeros(shape, dtype=np.uint8)
    fraction_in = dict(zip(years, isa_fraction))
    for number, year in reversed(list(enumerate((1985, 1990, 1995, 2000, 2005, 2010, 2015, 2020), start=1))):
        built = _warp(fraction_in[year], 10, frame, transform, shape, Resampling.average)
        code[built + noise > 0.40] = number
    # Closing fills small gaps in towns.
    code = np.where(
        minimum_filter(maximum_filter(code > 0, 3), 3), np.where(code > 0, code, maximum_filter(code, 3)), code
    )
    _save(folder / "GISD30_1985-2020_E115N35.tif", code.astype(np.uint8), transform)


def write_sinolc1(folder: Path, frame: Frame, cities: list[City], land_cover: np.ndarray) -> None:
    """Write SinoLC-1, one file per reach at about 1.07 m, from 1 m classes: enlarged buildings, interrupted roads."""
    for number, reach in enumerate(REACHES):
        rng = frame.rng(103, number)
        left = number * frame.reach_m
        part = land_cover[:, left : left + frame.reach_m]
        rows, cols = part.shape
        coarse = (rows // 8 + 2, cols // 8 + 2)
        patchy = gaussian_filter(rng.standard_normal(coarse), 2.5)
        patchy = np.kron(patchy / patchy.std(), np.ones((8, 8)))[:rows, :cols]
        out = part.copy()
        roads = part == ROAD_CLASS
        out[roads & (patchy > 0.35)] = CROP_CLASS
        out[roads & (patchy < -0.9)] = BARE_CLASS
        houses = (part == BUILDING_CLASS) & (patchy < 1.25)
        out[(part == BUILDING_CLASS) & ~houses] = CROP_CLASS
        out[binary_dilation(houses, iterations=2)] = BUILDING_CLASS
        box = (ORIGIN_M[0] + left + 1, ORIGIN_M[1] + 1, ORIGIN_M[0] + left + cols - 1, ORIGIN_M[1] + rows - 1)
        transform, shape = _lattice(frame, (117.0, 33.0), SINOLC_DEG, box)
        codes = _warp(out, 1, frame, transform, shape, Resampling.nearest, left)
        city = next(city for city in cities if city.reach == reach)
        _save(folder / f"{SINOLC_REGION[reach]}_{REGIONS[reach]}_{city.name}.tif", codes, transform, nodata=0)


def write_elevation(path: Path, terrain: Terrain) -> None:
    """Write a terrain model on the lattice of Copernicus GLO-30: metres, one arc second, EPSG:4326, without features."""
    frame = terrain.frame
    transform, shape = _lattice(frame, (118.0, 33.0), DEM_DEG)
    relief = np.flipud(terrain.fields["relief"]).astype(np.float32)
    north = ORIGIN_M[1] - MARGIN_M + MACRO_M * (relief.shape[0] - 0.5)
    source = Affine(MACRO_M, 0, ORIGIN_M[0] - MARGIN_M - MACRO_M / 2, 0, -MACRO_M, north)
    out = np.full(shape, np.nan, np.float32)
    reproject(
        relief,
        out,
        src_transform=source,
        src_crs=EPSG,
        dst_transform=transform,
        dst_crs=4326,
        dst_nodata=np.nan,
        resampling=Resampling.average,
    )
    cog.write(path, out[None], crs="EPSG:4326", transform=transform, nodata=np.nan)


def _save(path: Path, codes: np.ndarray, transform: Affine, nodata: int | None = None) -> None:
    cog.write(path, codes[None], crs="EPSG:4326", transform=transform, nodata=nodata, overviews="nearest")
