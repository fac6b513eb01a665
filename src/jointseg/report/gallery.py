"""The report's pictures of rasters: whole-area views, and test chips with every map beside its label."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rasterio.enums import Resampling

from jointseg.accuracy import figures
from jointseg.accuracy.reference_products import held_out
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import class_table, classify, nearest_year
from jointseg.raster.rendering import percentile_stretch
from jointseg.raster.resample import read_mosaic

VIEW_PX = 1100  # width of a whole-area picture
_FINER = 4  # classes are read this much finer than drawn, and drawn by their share
_CHIP_PX = 320
_QUANTILES = (0.5, 0.9)  # of ISA share: which chips of a reach are shown


@dataclass(frozen=True)
class Picture:
    """An image as a data URI with what to say below it."""

    caption: str
    uri: str


@dataclass(frozen=True)
class Strip:
    """Pictures of one place, with a heading."""

    heading: str
    pictures: list[Picture]


def views(composites: list[Path], isa: list[Path], year: int) -> list[Strip]:
    """The whole area, a strip a UTM zone: composite of the map year, then ISA of every year.

    Args:
        composites: {tile}.tif of the map year, at least three bands of reflectance DN, 0 = nodata.
        isa: {year}/{tile}.tif, 0/1/255.
        year: the map year.
    """
    zones: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(composites):
        zones[_crs(path)].append(path)
    by_year: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in sorted(isa):
        by_year[_crs(path), path.parent.name].append(path)
    strips = []
    for crs, paths in sorted(zones.items()):
        bounds = _union(paths)
        image, _ = percentile_stretch(_decimated(paths, bounds, VIEW_PX, [1, 2, 3], 0, Resampling.average))
        pictures = [Picture(f"Sentinel-2 composite, {year}, 10 m", figures.photo_uri(image))]
        for (zone, taken), maps in sorted(by_year.items()):
            if zone == crs:
                classes = _decimated(maps, bounds, VIEW_PX * _FINER, [1], 255, Resampling.nearest)[0]
                pictures.append(
                    Picture(f"Impervious surface, {taken}", figures.photo_uri(figures.share_image(classes, _FINER)))
                )
        strips.append(Strip(crs.replace("EPSG:", "UTM zone, EPSG:"), pictures))
    return strips


def _crs(path: Path) -> str:
    with raster_io.open_raster(path) as source:
        return str(source.crs.to_string())


def _union(paths: list[Path]) -> raster_io.Bounds:
    corners = []
    for path in paths:
        with raster_io.open_raster(path) as source:
            corners.append(source.bounds)
    west, south, east, north = zip(*corners)
    return min(west), min(south), max(east), max(north)


def _decimated(
    paths: list[Path], bounds: raster_io.Bounds, width_px: int, bands: list[int], nodata: int, how: Resampling
) -> np.ndarray:
    """Rasters of one CRS joined over bounds at a resolution that makes them at most width_px wide or high."""
    west, south, east, north = bounds
    with raster_io.open_raster(paths[0]) as source:
        res_m = max(source.res[0], max(east - west, north - south) / width_px)
        dtype = source.dtypes[0]
    shape = (round((north - south) / res_m), round((east - west) / res_m))
    return read_mosaic(paths, bounds, shape, bands, nodata, how, dtype)


def chosen(index: Path) -> pd.DataFrame:
    """Test chips to show: of each reach those whose ISA share is nearest its median and its 90 % quantile.

    The choice looks at labels alone, never at a map, so that it cannot flatter one.
    """
    tested = held_out(index)
    picked: list[int] = []
    for reach in dict.fromkeys(pd.read_parquet(index, columns=["reach"])["reach"]):
        shares = tested.loc[tested["reach"] == reach, "isa_fraction"]
        for quantile in _QUANTILES:
            left = (shares - shares.quantile(quantile)).abs().drop([i for i in picked if i in shares.index])
            if not left.empty:
                picked.append(int(left.idxmin()))
    return tested.loc[picked]


def chip_strips(
    index: Path,
    root: Path,
    images: dict[str, Path],
    predictions: dict[str, Path],
    products: dict[str, Path],
    product_table: dict[str, dict[str, Any]],
    year: int,
) -> list[Strip]:
    """Chosen test chips: imagery, label, and every map coloured by its agreement with the label.

    Args:
        index: the dataset's index.
        root: folder of the reaches' chip folders.
        images: folder of 1 m imagery by method.
        predictions: folder of 0/1/255 by method.
        products: folder of codes by product.
        product_table: entries of the products.
        year: the map year.
    """
    strips = []
    for chip in chosen(index).itertuples():
        file = f"{chip.sample_id}.tif"
        label = raster_io.read(root / str(chip.label))[0][0]
        pictures = _imagery(
            root / str(chip.lr), root / str(chip.hr), {name: folder / file for name, folder in images.items()}
        )
        pictures.append(Picture("Label", figures.chart_uri(figures.isa_image(label))))
        for name, folder in predictions.items():
            mapped = raster_io.read(folder / file)[0][0]
            pictures.append(Picture(f"Map: {name}", figures.chart_uri(figures.agreement_image(mapped, label))))
        for name, folder in products.items():
            entry = product_table[name]
            shown = nearest_year(entry, year)
            codes = raster_io.read(folder / file)[0][0]
            mapped = classify(codes, class_table(name, entry, shown), name, f"chip {chip.sample_id}")
            caption = f"{entry['title']} ({shown})"
            pictures.append(Picture(caption, figures.chart_uri(figures.agreement_image(mapped, label))))
        strips.append(
            Strip(f"{chip.reach}: chip {chip.sample_id}, {100 * chip.isa_fraction:.0f} % impervious", pictures)
        )
    return strips


def _imagery(lr: Path, hr: Path, images: dict[str, Path]) -> list[Picture]:
    """Composite, 1 m imagery of each method and Jilin-1 of a chip, stretched alike."""
    low, high = raster_io.read(lr)[0][:3], raster_io.read(hr)[0][:3]
    _, limits = percentile_stretch(high)
    pictures = [Picture("Sentinel-2, 10 m", figures.photo_uri(percentile_stretch(low, limits)[0], _CHIP_PX))]
    for name, path in images.items():
        picture, _ = percentile_stretch(raster_io.read(path)[0][:3], limits)
        pictures.append(Picture(f"1 m image: {name}", figures.photo_uri(picture)))
    pictures.append(Picture("Jilin-1, 1 m", figures.photo_uri(percentile_stretch(high, limits)[0])))
    return pictures
