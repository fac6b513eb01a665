"""Steps `product_mosaic` and `product_chips`: a product's files joined, and its codes on the test chips' grid."""

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

from jointseg.accuracy.product_pixels import Codes
from jointseg.area.grid import reproject
from jointseg.config.product_filenames import YEAR_FIELD, compile_pattern, tile_patterns
from jointseg.raster import cog, gdal_cli
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import OUTSIDE
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track

log = logging.getLogger(__name__)

HOLE_SHARE = 0.001  # of the study area: ground without a file is told from here on; outlines are never that exact
_TOLD = 5  # missing tiles that a warning names


def product_mosaic(
    *, files: Path, study_area: Path, mosaics: Path, product: str, entry: dict[str, Any], year: str
) -> dict[str, Any]:
    """Joins a product's files of a year, a VRT for each CRS, with relative paths; 255 where no file lies.

    Args:
        files: the folder of all products; the entry's folder lies in it.
        study_area: GeoPackage with the layer `reaches`, which the files should cover.
        mosaics: the folder of VRTs to make, named by their CRS.
        product: name of the product.
        entry: its entry of the products table.
        year: of the files.

    Returns:
        Facts for the manifest: number of files, other years that lie there too, the share of the study area without a
        file, and the names of missing tiles where the entry's pattern tells them.

    Raises DataError when no file of the year is there.
    """
    found, others = product_files(files, product, entry, int(year))
    groups: dict[str, list[Path]] = defaultdict(list)
    footprints = []
    for path in found:
        with raster_io.open_raster(path) as source:
            if source.crs is None:
                raise DataError(f"product {product}: {path} names no CRS; deliver the file as its publisher made it")
            crs = source.crs.to_string()
            band = _band(source.descriptions, entry.get("band", 1), product, path)
            if source.dtypes[band - 1] != "uint8":
                raise DataError(
                    f"product {product}: band {band} of {path.name} is {source.dtypes[band - 1]}; expected uint8, one byte a code"
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
            # The files' own nodata must not swallow a code (0 is "not ISA" in GISA), so only gaps between files are 255.
            rules = ["-b", str(band), "-srcnodata", "None", "-vrtnodata", str(OUTSIDE)]
            gdal_cli.run(["gdalbuildvrt", "-q", "-strict", "-overwrite", *rules, str(part / name), *map(str, members)])
            _relate(part / name)
    return {
        "files": len(found),
        "other_years": others,
        **_holes(study_area, footprints, found, product, entry, int(year)),
    }


def product_files(files: Path, product: str, entry: dict[str, Any], year: int) -> tuple[list[Path], list[int]]:
    """A product's files of a year, by name, and the other years of which there are files.

    Raises DataError when there are none of the year, telling of which years there are.
    """
    folder = files / entry["folder"]
    pattern = entry["pattern"]
    there = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    wanted = compile_pattern(pattern, year)
    found = [path for path in there if wanted.fullmatch(path.name)]
    others = set()
    if YEAR_FIELD in pattern:
        seen = (compile_pattern(pattern).fullmatch(path.name) for path in there)
        others = {int(match["year"]) for match in seen if match} - {year}
    if not found and others:
        raise DataError(
            f"product {product}: its entry says {year}, but the files in {folder} are of {', '.join(map(str, sorted(others)))};"
            f" deliver those of {year} or correct the entry's year"
        )
    if not found:
        raise DataError(
            f"product {product}: no file matches {pattern!r} in {folder};"
            " deliver its files there or correct the entry's folder and pattern"
        )
    return found, sorted(others)


def _band(descriptions: tuple[str | None, ...], band: int | str, product: str, path: Path) -> int:
    """The number of a band that is given by number or description."""
    if isinstance(band, str):
        if band not in descriptions:
            raise DataError(
                f"product {product}: {path} has no band {band!r} but {list(descriptions)}; correct its entry's band"
            )
        return descriptions.index(band) + 1
    if band > len(descriptions):
        raise DataError(
            f"product {product}: {path} has {len(descriptions)} bands, no band {band}; correct its entry's band"
        )
    return band


def _holes(
    study_area: Path,
    footprints: list[shapely.Geometry],
    found: list[Path],
    product: str,
    entry: dict[str, Any],
    year: int,
) -> dict[str, Any]:
    """What of the study area no file covers; warns of it."""
    ground = shapely.union_all(gpd.read_file(study_area, layer="reaches").to_crs(4326).geometry.values)
    bare = shapely.difference(ground, shapely.union_all(footprints))
    share = float(_area(bare) / _area(ground))
    pieces = [shapely.bounds(piece) for piece in shapely.get_parts(bare) if _area(piece) > HOLE_SHARE * _area(ground)]
    names = {path.name for path in found}
    missing = []
    for wanted in tile_patterns(entry, year, [tuple(box) for box in pieces]):
        if not any(compile_pattern(wanted).fullmatch(name) for name in names):
            missing.append(wanted)
    if share > HOLE_SHARE:
        where = "; ".join(
            "{:.2f} to {:.2f} E, {:.2f} to {:.2f} N".format(*np.array(box)[[0, 2, 1, 3]]) for box in pieces[:_TOLD]
        )
        lacks = f"; missing: {', '.join(missing[:_TOLD])}{', ...' if len(missing) > _TOLD else ''}" if missing else ""
        log.warning(
            "product %s: no file of %d covers %.1f %% of the study area (%s)%s; that ground counts as unknown",
            product, year, 100 * share, where, lacks,
        )  # fmt: skip
    return {"uncovered_share": round(share, 6), "missing": missing}


def _area(shape: shapely.Geometry) -> float:
    """Area of a shape in degrees by equal parts of the globe: good for shares of a whole."""
    return float(
        shapely.area(shapely.transform(shape, lambda xy: np.column_stack([xy[:, 0], np.sin(np.radians(xy[:, 1]))])))
    )


def _relate(vrt: Path) -> None:
    """Rewrites a VRT's sources as paths relative to its folder, which may be renamed where it is."""
    tree, folder = ElementTree.parse(vrt), vrt.parent
    for source in tree.iter("SourceFilename"):
        path = Path(source.text or "")
        if source.get("relativeToVRT") == "1":
            path = folder / path
        # Without following links, where that leads to the file: a folder of links is then as good as the files.
        near = os.path.relpath(path, folder)
        source.text = near if (folder / near).exists() else os.path.relpath(path.resolve(), folder.resolve())
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
    """A product's codes on the 1 m grid of every test chip, {sample_id}.tif uint8, by nearest neighbour.

    Args:
        index: the dataset's index.
        mosaics: the product's mosaics.
        files: the folder of all products, into which the mosaics point.
        rasters: the folder to make.
        product: name of the product.
        entry: its entry of the products table.
        chip_m: side of a chip in metres.
        threads: chips at a time.

    Raises DataError for a code that the entry does not list.
    """
    chips = held_out(index)
    codes = Codes.of(mosaics, product, entry)
    met = np.zeros(256, dtype=np.int64)
    with atomic_write(rasters) as part, ThreadPoolExecutor(max(1, threads)) as pool:
        part.mkdir()

        def cut(chip: Any) -> np.ndarray:
            crs, transform = f"EPSG:{int(chip.epsg)}", Affine(1, 0, chip.minx, 0, -1, chip.miny + chip_m)
            values = codes.on(crs, transform, (chip_m, chip_m))
            codes.classes(values, f"chip {chip.sample_id}")
            cog.write(part / f"{chip.sample_id}.tif", values[None], crs=crs, transform=transform, nodata=OUTSIDE)
            return np.bincount(values.ravel(), minlength=256)

        for counts in track(pool.map(cut, chips.itertuples()), f"{product} on chips", len(chips), "chip"):
            met += counts
    return {"chips": len(chips), "pixels_by_code": {str(code): int(met[code]) for code in np.flatnonzero(met)}}


def held_out(index: Path) -> pd.DataFrame:
    """The index's rows of split "test", by sample_id, without their outlines; DataError when there are none."""
    places = ["sample_id", "reach", "stratum", "inclusion_probability", "split", "epsg", "minx", "miny"]
    chips = pd.read_parquet(index, columns=[*places, "isa_fraction", "lr", "hr", "label", "fraction"])
    chips = chips[chips["split"] == "test"].sort_values("sample_id", ignore_index=True)
    if chips.empty:
        raise DataError(f"{index} has no chip of split 'test'; raise dataset.count or the test share")
    return chips
