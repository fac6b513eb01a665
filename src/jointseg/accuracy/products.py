"""Reference products: their files as one virtual mosaic, and their codes on the chips' grid."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from jointseg import gdal, raster
from jointseg.errors import DataError
from jointseg.product_codes import OUTSIDE, classify, meanings
from jointseg.progress import track


def product_mosaic(*, files: Path, vrt: Path, product: str, entry: dict[str, Any]) -> None:
    """Joins a product's files in one VRT with relative paths; 255 where no file lies.

    Args:
        files: the folder of all products; the entry's folder lies in it.
        vrt: the virtual mosaic to make.
        product: name of the product.
        entry: its entry of the products table, with folder and pattern.

    Raises DataError when no file matches the pattern.
    """
    found = sorted((files / entry["folder"]).glob(entry["pattern"]))
    if not found:
        raise DataError(
            f"product {product}: no file matches {entry['pattern']!r} in {files / entry['folder']};"
            " deliver its files there or correct the entry's folder and pattern"
        )
    with raster.atomic(vrt) as part:
        # The files' own nodata must not swallow a code (0 is "not ISA" in GISA), so only gaps between files are 255.
        rules = ["-srcnodata", "None", "-vrtnodata", str(OUTSIDE)]
        gdal.run(["gdalbuildvrt", "-q", "-strict", "-overwrite", *rules, str(part), *map(str, found)])
        _relate(part, vrt.parent)


def _relate(vrt: Path, folder: Path) -> None:
    """Rewrites a VRT's sources as paths relative to the folder it is to lie in."""
    tree = ElementTree.parse(vrt)
    for band in tree.iter("VRTRasterBand"):
        if band.get("dataType") != "Byte":
            raise DataError(f"{vrt.name}: its files are of type {band.get('dataType')}, expected one byte a code")
    for source in tree.iter("SourceFilename"):
        path = Path(source.text or "")
        if source.get("relativeToVRT") == "1":
            path = vrt.parent / path
        # Without following links, where that leads to the file: a folder of links is then as good as the files.
        near = os.path.relpath(path, folder)
        source.text = near if (folder / near).exists() else os.path.relpath(path.resolve(), folder.resolve())
        source.set("relativeToVRT", "1")
    tree.write(vrt)


def product_chips(
    *,
    index: Path,
    vrt: Path,
    files: Path,
    rasters: Path,
    product: str,
    entry: dict[str, Any],
    chip_m: int,
    threads: int = 2,
) -> dict[str, Any]:
    """A product's codes on the 1 m grid of every test chip, {sample_id}.tif uint8, by nearest neighbour.

    Args:
        index: the dataset's index.
        vrt: the product's mosaic.
        files: the folder of all products, into which the mosaic points.
        rasters: the folder to make.
        product: name of the product.
        entry: its entry of the products table.
        chip_m: side of a chip in metres.
        threads: GDAL processes at a time.

    Raises DataError for a code that the entry does not list.
    """
    chips = held_out(index)
    table = meanings(product, entry)
    met = np.zeros(256, dtype=np.int64)
    with raster.atomic(rasters) as part, ThreadPoolExecutor(max(1, threads)) as pool:
        part.mkdir()

        def warp(chip: Any) -> np.ndarray:
            to = part / f"{chip.sample_id}.tif"
            _warp(vrt, to, int(chip.epsg), (chip.minx, chip.miny, chip.minx + chip_m, chip.miny + chip_m))
            values = raster.read(to)[0][0]
            classify(values, table, product, f"chip {chip.sample_id}")
            return np.bincount(values.ravel(), minlength=256)

        for counts in track(pool.map(warp, chips.itertuples()), f"{product} on chips", len(chips), "chip"):
            met += counts
    return {"chips": len(chips), "pixels_by_code": {str(code): int(met[code]) for code in np.flatnonzero(met)}}


def _warp(vrt: Path, to: Path, epsg: int, bounds: tuple[float, float, float, float]) -> None:
    extent = [format(edge, "g") if edge % 1 else str(int(edge)) for edge in bounds]
    keep = ["-srcnodata", str(OUTSIDE), "-dstnodata", str(OUTSIDE)]
    form = ["-of", "GTiff", "-co", "COMPRESS=DEFLATE"]
    # -et 0: the exact transform; the default lets the linear one err by an eighth of a pixel.
    grid = ["-t_srs", f"EPSG:{epsg}", "-te", *extent, "-tr", "1", "1", "-r", "near", "-et", "0"]
    gdal.run(["gdalwarp", "-q", *grid, *keep, *form, str(vrt), str(to)])


def held_out(index: Path) -> pd.DataFrame:
    """The index's rows of split "test", by sample_id, without their outlines; DataError when there are none."""
    places = ["sample_id", "reach", "stratum", "inclusion_probability", "split", "epsg", "minx", "miny"]
    chips = pd.read_parquet(index, columns=[*places, "isa_share", "lr", "hr", "label", "fraction"])
    chips = chips[chips["split"] == "test"].sort_values("sample_id", ignore_index=True)
    if chips.empty:
        raise DataError(f"{index} has no chip of split 'test'; raise dataset.count or the test share")
    return chips
