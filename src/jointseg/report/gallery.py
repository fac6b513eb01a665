"""Pictures of the report: overviews of the study area, and test chips with the label and every map."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rasterio.enums import Resampling

from jointseg.accuracy import figures
from jointseg.accuracy.reference_products import held_out_chips
from jointseg.raster import io as raster_io
from jointseg.raster.mosaic import Mosaic
from jointseg.raster.product_codes import class_table, classify, nearest_year
from jointseg.raster.rendering import percentile_stretch
from jointseg.raster.resample import read_mosaic

OVERVIEW_PX = 1100  # width of an overview
_OVERSAMPLING = 4  # classes are read at this multiple of the drawn resolution, and drawn as ISA fractions
_CHIP_PX = 320
_QUANTILES = (0.5, 0.9)  # of the ISA fraction, which select the chips of a reach


@dataclass(frozen=True)
class Picture:
    """An image as a data URI with its caption."""

    caption: str
    uri: str


@dataclass(frozen=True)
class PictureRow:
    """Pictures of one area with a heading."""

    heading: str
    pictures: list[Picture]


@dataclass(frozen=True)
class ChipSources:
    """Files of the test chips."""

    index: Path
    root: Path  # folder of the reaches' chip folders
    images: dict[str, Path] = field(default_factory=dict)  # folder of 1 m images by method
    predictions: dict[str, Path] = field(default_factory=dict)  # folder of 0/1/255 by method
    products: dict[str, Path] = field(default_factory=dict)  # folder of codes by product
    product_table: dict[str, dict[str, Any]] = field(default_factory=dict)  # entries of the products


def overview_rows(composites: list[Path], isa: list[Path], year: int) -> list[PictureRow]:
    """Return overviews of the study area, one row per UTM zone: composite of the map year, then ISA of every year.

    Composites {tile}.tif have at least three bands of reflectance DN, 0 for nodata; maps {year}/{tile}.tif have 0/1/255.
    """
    zones: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(composites):
        zones[_crs(path)].append(path)
    by_year: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in sorted(isa):
        by_year[_crs(path), path.parent.name].append(path)
    rows = []
    for crs, paths in sorted(zones.items()):
        bounds = Mosaic(paths).bounds
        image, _ = percentile_stretch(_decimated(paths, bounds, OVERVIEW_PX, [1, 2, 3], 0, Resampling.average))
        pictures = [Picture(f"Sentinel-2 composite, {year}, 10 m", figures.photo_uri(image))]
        for (zone, map_year), maps in sorted(by_year.items()):
            if zone == crs:
                classes = _decimated(maps, bounds, OVERVIEW_PX * _OVERSAMPLING, [1], 255, Resampling.nearest)[0]
                image = figures.fraction_image(classes, _OVERSAMPLING)
                pictures.append(Picture(f"Impervious surface, {map_year}", figures.photo_uri(image)))
        rows.append(PictureRow(crs.replace("EPSG:", "UTM zone, EPSG:"), pictures))
    return rows


def _crs(path: Path) -> str:
    with raster_io.open_raster(path) as source:
        return str(source.crs.to_string())


def _decimated(
    paths: list[Path], bounds: raster_io.Bounds, width_px: int, bands: list[int], nodata: int, resampling: Resampling
) -> np.ndarray:
    """Return a mosaic of rasters of one CRS over bounds, at most width_px wide and high."""
    west, south, east, north = bounds
    with raster_io.open_raster(paths[0]) as source:
        res_m = max(source.res[0], max(east - west, north - south) / width_px)
        dtype = source.dtypes[0]
    shape = (round((north - south) / res_m), round((east - west) / res_m))
    return read_mosaic(paths, bounds, shape, bands, nodata, resampling, dtype)


def select_chips(index: Path) -> pd.DataFrame:
    """Return the test chips of each reach whose ISA fraction is closest to its median and its 90 % quantile.

    The selection uses only the labels, never a map, so it cannot favour one.
    """
    tested = held_out_chips(index)
    selected: list[int] = []
    for reach in dict.fromkeys(pd.read_parquet(index, columns=["reach"])["reach"]):
        fractions = tested.loc[tested["reach"] == reach, "isa_fraction"]
        for quantile in _QUANTILES:
            distance = (fractions - fractions.quantile(quantile)).abs()
            distance = distance.drop([i for i in selected if i in fractions.index])
            if not distance.empty:
                selected.append(int(distance.idxmin()))
    return tested.loc[selected]


def chip_rows(sources: ChipSources, year: int) -> list[PictureRow]:
    """Return the selected test chips: imagery, label, and the agreement of every map with the label, in the map year."""
    rows = []
    for chip in select_chips(sources.index).itertuples():
        file = f"{chip.sample_id}.tif"
        label = raster_io.read(sources.root / str(chip.label))[0][0]
        images = {name: folder / file for name, folder in sources.images.items()}
        pictures = _imagery(sources.root / str(chip.lr), sources.root / str(chip.hr), images)
        pictures.append(Picture("Label", figures.chart_uri(figures.isa_image(label))))
        maps = [(f"Map: {name}", raster_io.read(folder / file)[0][0]) for name, folder in sources.predictions.items()]
        for name, folder in sources.products.items():
            entry = sources.product_table[name]
            shown = nearest_year(entry, year)
            codes = raster_io.read(folder / file)[0][0]
            classes = classify(codes, class_table(name, entry, shown), name, f"chip {chip.sample_id}")
            maps.append((f"{entry['title']} ({shown})", classes))
        for caption, mapped in maps:
            pictures.append(Picture(caption, figures.chart_uri(figures.agreement_image(mapped, label))))
        heading = f"{chip.reach}: chip {chip.sample_id}, {100 * chip.isa_fraction:.0f} % impervious"
        rows.append(PictureRow(heading, pictures))
    return rows


def _imagery(lr: Path, hr: Path, images: dict[str, Path]) -> list[Picture]:
    """Return composite, 1 m image of each method and Jilin-1 image of a chip with the same stretch."""
    low, high = raster_io.read(lr)[0][:3], raster_io.read(hr)[0][:3]
    _, limits = percentile_stretch(high)
    pictures = [Picture("Sentinel-2, 10 m", figures.photo_uri(percentile_stretch(low, limits)[0], _CHIP_PX))]
    for name, path in images.items():
        picture, _ = percentile_stretch(raster_io.read(path)[0][:3], limits)
        pictures.append(Picture(f"1 m image: {name}", figures.photo_uri(picture)))
    pictures.append(Picture("Jilin-1, 1 m", figures.photo_uri(percentile_stretch(high, limits)[0])))
    return pictures
