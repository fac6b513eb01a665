"""Step `compare_products`: a city's maps compared with the reference products, pixel by pixel and at the interpreted points."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from jointseg.accuracy import change, figures
from jointseg.accuracy.assess import write_csv
from jointseg.accuracy.block_counts import (
    BLOCK_PX,
    Block,
    Grid,
    cell_counts,
    class_pair_counts,
    common_grid,
    map_blocks,
)
from jointseg.accuracy.cluster_estimators import METRICS, NODATA, clip_to_unit, estimate_columns, metric_difference
from jointseg.accuracy.coarse_support import BlockCounts, ProductPixels
from jointseg.accuracy.product_pixels import ProductReader
from jointseg.raster.product_codes import class_table, file_year, fractions, nearest_year
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

TRUTH = "truth"
_TRUTH_ENTRY = {"isa": {"codes": [1]}, "not_isa": {"codes": [0]}}
PICTURE_PX = 800  # longest side of a picture
COARSE_FROM_M = 3.0  # products with smaller pixels are compared at 1 m only
_TOLERANCE_PX = 0.05  # maximum position error in product pixels
_PAIRS = (4, 3, 1, 0)  # 3 x map + product: ISA in both, in the map only, in the product only, in neither
_AREAS = ("both", "map_only", "product_only", "neither", "product_nodata")
_AT_POINTS = {"users": "precision", "producers": "recall", "f1": "f1", "overall": "overall_accuracy"}


@dataclass(frozen=True)
class ComparedProduct:
    """A product or the truth that a map is compared with."""

    name: str  # of the product, or TRUTH
    year: int  # that it shows
    reader: ProductReader  # of its codes
    entry: dict[str, Any] | None  # of the products table; None for the truth, which has the map's pixels


def compare_products(
    *,
    mosaics: list[Path],
    table: Path,
    maps: Path,
    city: str,
    reach: str,
    years: list[int],
    threads: int,
    products: list[Path] | None = None,
    files: Path | None = None,
    product_table: dict[str, dict[str, Any]] | None = None,
    strata: Path | None = None,
    design: Path | None = None,
    reference: Path | None = None,
    truth: Path | None = None,
) -> dict[str, Any]:
    """Compare maps with products: write a table of agreement and accuracy, and pictures of the differences.

    Args:
        mosaics: {year}/{city}.tif, 1 m, 0/1/255, cut to the city's outline, in the order of `years`.
        table: output CSV, one row per year and product.
        maps: output folder of {year}_{product}.png: ISA in both, in one only, in neither.
        products: {product}/{year}, folders of mosaics of step `product_mosaic`.
        files: folder of all products, to which the mosaics refer.
        strata, design: outputs of step `change_sample`.
        reference: its interpreted points.
        truth: folder of {year}/{reach}.tif, 1 m, 0/1/255.
    """
    folders = {(path.parent.name, int(path.name)): path for path in products or []}
    points = None
    if reference is not None and strata is not None and design is not None:
        points = change.read_interpreted(strata, design, reference, mosaics, years)
    rows, years_of = [], {}
    with atomic_write(maps) as part:
        part.mkdir()
        for year, mosaic in zip(years, mosaics):
            compared = _products(product_table or {}, folders, year)
            if truth is not None:
                reader = ProductReader((truth / str(year) / f"{reach}.tif",), TRUTH, class_table(TRUTH, _TRUTH_ENTRY))
                compared.append(ComparedProduct(TRUTH, year, reader, None))
            years_of[year] = {product.name: product.year for product in compared}
            for product, comparison in zip(compared, _compare(mosaic, compared, threads)):
                row: dict[str, Any] = {"city": city, "reach": reach, "year": year, "name": product.name}
                row |= {"product_year": product.year} | comparison.areas() | comparison.by_product_pixel(product)
                if points is not None and product.name != TRUTH:
                    row |= _at_points(points, product, year, common_grid([mosaic]).epsg)
                rows.append(row)
                with atomic_write(part / f"{year}_{product.name}.png") as picture:
                    Image.fromarray(comparison.picture()).save(picture, "png", optimize=True)
    write_csv(pd.DataFrame(rows), table)
    return {"years": years_of}


def _products(
    product_table: dict[str, dict[str, Any]], folders: dict[tuple[str, int], Path], year: int
) -> list[ComparedProduct]:
    out = []
    for name, entry in product_table.items():
        shown = nearest_year(entry, year)
        key = name, file_year(entry, shown)
        if key not in folders:
            raise DataError(f"product {name} has no mosaic of {key[1]}; add {name}/{key[1]} to the products")
        out.append(ComparedProduct(name, shown, ProductReader.from_folder(folders[key], name, entry, shown), entry))
    return out


@dataclass
class _Comparison:
    """Counts of a map and a product on the same area."""

    km2: np.ndarray  # by [map, product], each 0 non-ISA, 1 ISA, 2 nodata
    # Pixels by [category, row, column] of the picture's cells; categories are those of figures.AGREEMENT
    cells: np.ndarray
    pixels: ProductPixels | None  # the map aggregated to the product's pixels; None for fine products

    def areas(self) -> dict[str, float]:
        """Return areas, km2, where the map is valid, and agreement as F1, which treats neither as the truth."""
        valid = self.km2[:2]
        both, map_only, product_only, neither = valid[1, 1], valid[1, 0], valid[0, 1], valid[0, 0]
        row = dict(zip(_AREAS, map(float, (both, map_only, product_only, neither, valid[:, 2].sum()))))
        either = both + map_only + product_only
        agreement = 2 * both / (both + either) if either > 0 else float("nan")
        return {f"{name}_km2": value for name, value in row.items()} | {"agreement_f1": float(agreement)}

    def by_product_pixel(self, product: ComparedProduct) -> dict[str, float]:
        """Return the metrics by product pixel: F1 of the majority class; MAE, bias and correlation of the ISA fraction."""
        if self.pixels is None or product.entry is None or not self.pixels.valid.any():
            return {}
        codes, valid = self.pixels.codes(), self.pixels.valid
        classes = product.reader.classify(codes, "its own pixels")
        product_fraction = fractions(product.entry)[codes]
        product_fraction = np.where(np.isnan(product_fraction), classes == 1, product_fraction)
        # Use pixels with at least half of their area valid on the map; the largest count is a full pixel.
        use = (classes != NODATA) & (2 * valid >= valid.max())
        if not use.any():
            return {}
        weight = valid[use].astype(float)
        a, b = self.pixels.isa[use] / weight, product_fraction[use].astype(float)
        mean_a, mean_b = (np.average(each, weights=weight) for each in (a, b))
        variance_a, variance_b = (
            np.average((each - mean) ** 2, weights=weight) for each, mean in ((a, mean_a), (b, mean_b))
        )
        covariance = np.average((a - mean_a) * (b - mean_b), weights=weight)
        majority_a, majority_b = a >= 0.5, b >= 0.5
        both = np.sum(weight[majority_a & majority_b])
        either = np.sum(weight[majority_a]) + np.sum(weight[majority_b])
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "pixels": int(use.sum()),
                "fraction_mae": float(np.average(np.abs(a - b), weights=weight)),
                "fraction_bias": float(np.average(a - b, weights=weight)),
                "fraction_r": float(covariance / np.sqrt(variance_a * variance_b)),
                "pixel_f1": float(2 * both / either),
            }

    def picture(self) -> np.ndarray:
        """Return a picture of the agreement, uint8 [rows, columns, 3]: the mean colour of figures.AGREEMENT in each cell."""
        colours = np.array(list(figures.AGREEMENT.values()), float)
        total = np.maximum(self.cells.sum(axis=0), 1)
        return np.rint(np.einsum("krc,kx->rcx", self.cells / total, colours)).astype(np.uint8)


# Row and column of a block, and for each product: km2 by pair of classes, picture cells, counts by product pixel.
_BlockResult = tuple[int, int, list[tuple[np.ndarray, np.ndarray, BlockCounts | None]]]


def _compare(mosaic: Path, products: list[ComparedProduct], threads: int) -> list[_Comparison]:
    """Compare a map with each product in one pass over its blocks."""
    grid = common_grid([mosaic])
    cell_px = max(1, -(-max(grid.shape) // PICTURE_PX))
    while BLOCK_PX % cell_px:  # cells must not cross block boundaries
        cell_px += 1
    size = tuple(-(-side // cell_px) for side in grid.shape)
    comparisons = [
        _Comparison(np.zeros((3, 3)), np.zeros((5, *size), np.uint32), _product_pixels(product, grid))
        for product in products
    ]
    compare = _block_comparison(grid, products, [each.pixels for each in comparisons], cell_px)
    label = f"{mosaic.stem} {mosaic.parent.name} and products"
    for row, col, results in map_blocks([mosaic], compare, threads, label):
        top, left = row // cell_px, col // cell_px
        for comparison, (km2, cells, counts) in zip(comparisons, results):
            comparison.km2 += km2
            comparison.cells[:, top : top + cells.shape[1], left : left + cells.shape[2]] = cells
            if comparison.pixels is not None:
                comparison.pixels.add(counts)
    return comparisons


def _product_pixels(product: ComparedProduct, grid: Grid) -> ProductPixels | None:
    if product.entry is None or product.entry["resolution_m"] < COARSE_FROM_M:
        return None
    return ProductPixels(product.reader.mosaics_for(f"EPSG:{grid.epsg}")[0], grid)


def _block_comparison(
    grid: Grid, products: list[ComparedProduct], pixels: list[ProductPixels | None], cell_px: int
) -> Callable[[Block], _BlockResult]:
    crs = f"EPSG:{grid.epsg}"

    def compare(block: Block) -> _BlockResult:
        mapped, results = block.values[0], []
        if not (mapped != NODATA).any():  # outside the city's outline
            cells = np.zeros((5, *(-(-side // cell_px) for side in mapped.shape)), np.uint32)
            cells[4] = 1
            return block.row, block.col, [(np.zeros((3, 3)), cells, None)] * len(products)
        for product, product_pixels in zip(products, pixels):
            where = f"block at row {block.row}, column {block.col}"
            codes = product.reader.read_grid(crs, block.transform, mapped.shape, _TOLERANCE_PX)
            classes = product.reader.classify(codes, where)
            pair = mapped * np.uint8(3) + classes
            cells = np.stack([cell_counts(pair == each, cell_px) for each in _PAIRS])
            nodata = cell_counts(np.ones(pair.shape, bool), cell_px) - cells.sum(axis=0, dtype=np.uint32)
            km2 = class_pair_counts(mapped.ravel(), classes.ravel()) * block.pixel_km2
            counts = product_pixels.count_block(block) if product_pixels is not None else None
            results.append((km2, np.concatenate([cells, nodata[None]]), counts))
        return block.row, block.col, results

    return compare


def _at_points(points: change.InterpretedPoints, product: ComparedProduct, year: int, epsg: int) -> dict[str, Any]:
    """Return the product's accuracy at the points, and the map's F1 minus the product's (Stehman 2014, one sample)."""
    codes = product.reader.read_points(f"EPSG:{epsg}", points.x, points.y)
    classes = product.reader.classify(codes, "its points")
    index = points.years.index(year)
    truth, mapped = points.reference[:, index] == 1, points.mapped[:, index] == 1
    valid = classes != NODATA
    product_cells, map_cells = (_cells(isa, truth, valid) for isa in (classes == 1, mapped))
    row: dict[str, Any] = {"points": int(valid.sum())}
    for name, metric in _AT_POINTS.items():
        estimate = points.sample.estimate(product_cells, METRICS[metric])
        row |= estimate_columns(name, clip_to_unit(estimate))
    difference = points.sample.estimate([*map_cells, *product_cells], metric_difference(METRICS["f1"]))
    return row | estimate_columns("f1_difference", difference)


def _cells(mapped: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> list[np.ndarray]:
    """Return tp, fp, fn, tn of each point, 0 or 1; all are 0 for invalid points: a domain of the sample."""
    cells = (mapped & truth, mapped & ~truth, ~mapped & truth, ~mapped & ~truth)
    return [(cell & valid).astype(float) for cell in cells]
