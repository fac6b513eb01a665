"""Steps `product_mosaic` and `product_chips`: mosaic a reference product's files and resample it to the test chips."""

import logging
import os
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine

from jointseg.accuracy.product_pixels import ProductReader
from jointseg.area.grid import reproject
from jointseg.config.product_filenames import YEAR_FIELD, compile_pattern, tile_patterns
from jointseg.raster import cog, gdal_cli
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import OUTSIDE
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track

log = logging.getLogger(__name__)

# Of the study area; smaller gaps in coverage are not reported, since outlines are not that exact.
MIN_GAP_FRACTION = 0.001
_MAX_LISTED = 5  # gaps and missing tiles listed in a warning


def product_mosaic(
    *, files: Path, study_area: Path, mosaics: Path, product: str, entry: dict[str, Any], year: str
) -> dict[str, Any]:
    """Mosaic a product's files of a year: one VRT per CRS, with relative paths; 255 outside the files.

    The facts for the manifest contain the number of files, other years available, the uncovered fraction of the study
    area, and the names of missing tiles, if the entry's pattern defines them. Raises DataError if there is no file of
    the year.

    Args:
        files: folder of all products, with the entry's folder in it.
        study_area: GeoPackage with the layer `reaches`, which the files should cover.
        mosaics: output folder of VRTs, named by CRS.
        entry: its entry of the products table.
    """
    paths, other_years = product_files(files, product, entry, int(year))
    groups: dict[str, list[Path]] = defaultdict(list)
    footprints = []
    for path in paths:
        with raster_io.open_raster(path) as source:
            if source.crs is None:
                raise DataError(f"product {product}: {path} has no CRS; use the file as published")
            crs = source.crs.to_string()
            band = _band(source.descriptions, entry.get("band", 1), product, path)
            if source.dtypes[band - 1] != "uint8":
                raise DataError(
                    f"product {product}: band {band} of {path.name} is {source.dtypes[band - 1]}; expected uint8"
                )
            outline = shapely.segmentize(
                shapely.box(*source.bounds), max(source.bounds[2] - source.bounds[0], 1e-9) / 20
            )
        groups[crs].append(path)
        footprints.append(reproject(outline, crs, "EPSG:4326"))
    with atomic_write(mosaics) as part:
        part.mkdir()
        for crs, members in groups.items():
            name = "_".join(re.findall(r"\w+", crs))[:60] + ".vrt"
            # Ignore the files' nodata value, which can be a valid code (0 is non-ISA in GISA): only gaps between files are 255.
            options = ["-b", str(band), "-srcnodata", "None", "-vrtnodata", str(OUTSIDE)]
            gdal_cli.run(
                ["gdalbuildvrt", "-q", "-strict", "-overwrite", *options, str(part / name), *map(str, members)]
            )
            _make_relative(part / name)
    return {
        "files": len(paths),
        "other_years": other_years,
        **_coverage_gaps(study_area, footprints, paths, product, entry, int(year)),
    }


def product_files(files: Path, product: str, entry: dict[str, Any], year: int) -> tuple[list[Path], list[int]]:
    """Return a product's files of a year, sorted, and the other years that have files.

    Raises DataError that lists the available years if there is no file of the year.
    """
    folder = files / entry["folder"]
    pattern = entry["pattern"]
    candidates = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    of_year = compile_pattern(pattern, year)
    paths = [path for path in candidates if of_year.fullmatch(path.name)]
    other_years = set()
    if YEAR_FIELD in pattern:
        matches = (compile_pattern(pattern).fullmatch(path.name) for path in candidates)
        other_years = {int(match["year"]) for match in matches if match} - {year}
    if not paths and other_years:
        raise DataError(
            f"product {product}: no file of {year} in {folder}, only of {', '.join(map(str, sorted(other_years)))};"
            f" add files of {year} or correct the entry's year"
        )
    if not paths:
        raise DataError(
            f"product {product}: no file matches {pattern!r} in {folder};"
            " copy its files to this folder or correct the entry's folder and pattern"
        )
    return paths, sorted(other_years)


def _band(descriptions: tuple[str | None, ...], band: int | str, product: str, path: Path) -> int:
    """Return the number of a band given by number or description."""
    if isinstance(band, str):
        if band not in descriptions:
            raise DataError(
                f"product {product}: {path} has bands {list(descriptions)}, not {band!r}; correct the entry's band"
            )
        return descriptions.index(band) + 1
    if band > len(descriptions):
        raise DataError(
            f"product {product}: {path} has {len(descriptions)} bands, not band {band}; correct the entry's band"
        )
    return band


def _coverage_gaps(
    study_area: Path,
    footprints: list[shapely.Geometry],
    paths: list[Path],
    product: str,
    entry: dict[str, Any],
    year: int,
) -> dict[str, Any]:
    """Return the uncovered fraction of the study area and missing tiles; log a warning if there are any."""
    area = shapely.union_all(gpd.read_file(study_area, layer="reaches").to_crs(4326).geometry.values)
    gap = shapely.difference(area, shapely.union_all(footprints))
    fraction = float(_area(gap) / _area(area))
    boxes = [shapely.bounds(piece) for piece in shapely.get_parts(gap) if _area(piece) > MIN_GAP_FRACTION * _area(area)]
    names = {path.name for path in paths}
    tiles = tile_patterns(entry, year, [tuple(box) for box in boxes])
    missing = [tile for tile in tiles if not any(compile_pattern(tile).fullmatch(name) for name in names)]
    if fraction > MIN_GAP_FRACTION:
        where = "; ".join(
            "{:.2f} to {:.2f} E, {:.2f} to {:.2f} N".format(*np.array(box)[[0, 2, 1, 3]]) for box in boxes[:_MAX_LISTED]
        )
        listed = f"; missing: {', '.join(missing[:_MAX_LISTED])}" if missing else ""
        listed += ", ..." if len(missing) > _MAX_LISTED else ""
        log.warning(
            "product %s: no file of %d covers %.1f %% of the study area (%s)%s; it counts as nodata",
            product, year, 100 * fraction, where, listed,
        )  # fmt: skip
    return {"uncovered_fraction": round(fraction, 6), "missing": missing}


def _area(shape: shapely.Geometry) -> float:
    """Return the area of a shape in degrees in an equal-area projection; only ratios are meaningful."""
    return float(
        shapely.area(shapely.transform(shape, lambda xy: np.column_stack([xy[:, 0], np.sin(np.radians(xy[:, 1]))])))
    )


def _make_relative(vrt: Path) -> None:
    """Rewrite a VRT's sources as paths relative to its folder, which is renamed within its parent folder later."""
    tree, folder = ElementTree.parse(vrt), vrt.parent
    for source in tree.iter("SourceFilename"):
        path = Path(source.text or "")
        if source.get("relativeToVRT") == "1":
            path = folder / path
        # Do not follow links if the path resolves without it, so that a folder of links can replace the files.
        relative = os.path.relpath(path, folder)
        source.text = relative if (folder / relative).exists() else os.path.relpath(path.resolve(), folder.resolve())
        source.set("relativeToVRT", "1")
    tree.write(vrt)


def product_chips(
    *,
    index: Path,
    mosaics: Path,
    files: Path,
    rasters: Path,
    product: str,
    entry: dict[str, Any],
    chip_m: int,
    threads: int = 2,
) -> dict[str, Any]:
    """Resample a product's codes to every test chip's 1 m grid: {sample_id}.tif, uint8; DataError for an unlisted code."""
    chips = held_out_chips(index)
    reader = ProductReader.from_folder(mosaics, product, entry)
    code_counts = np.zeros(256, dtype=np.int64)
    with atomic_write(rasters) as part, ThreadPoolExecutor(max(1, threads)) as pool:
        part.mkdir()

        def resample(chip: Any) -> np.ndarray:
            crs, transform = f"EPSG:{int(chip.epsg)}", Affine(1, 0, chip.minx, 0, -1, chip.miny + chip_m)
            values = reader.read_grid(crs, transform, (chip_m, chip_m))
            reader.classify(values, f"chip {chip.sample_id}")
            cog.write(part / f"{chip.sample_id}.tif", values[None], crs=crs, transform=transform, nodata=OUTSIDE)
            return np.bincount(values.ravel(), minlength=256)

        for counts in track(pool.map(resample, chips.itertuples()), f"{product} on chips", len(chips), "chip"):
            code_counts += counts
    return {
        "chips": len(chips),
        "pixels_by_code": {str(code): int(code_counts[code]) for code in np.flatnonzero(code_counts)},
    }


def held_out_chips(index: Path) -> pd.DataFrame:
    """Return the rows of split "test", sorted by sample_id, without geometry; DataError if there are none."""
    columns = ["sample_id", "reach", "stratum", "inclusion_probability", "split", "epsg", "minx", "miny"]
    chips = pd.read_parquet(index, columns=[*columns, "isa_fraction", "lr", "hr", "label", "fraction"])
    chips = chips[chips["split"] == "test"].sort_values("sample_id", ignore_index=True)
    if chips.empty:
        raise DataError(f"{index} has no chip of split 'test'; increase dataset.count or the test fraction")
    return chips
