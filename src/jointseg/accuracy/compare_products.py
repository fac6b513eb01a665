"""Step `compare`: a city's maps beside the reference products, on all ground and at the interpreted points."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from jointseg.accuracy import change, figures
from jointseg.accuracy.assess import save
from jointseg.accuracy.block_counts import BLOCK, Block, Grid, cell_counts, common_grid, looked_at, paired_counts
from jointseg.accuracy.cluster_estimators import METRICS, UNKNOWN, columns, difference, within_unit
from jointseg.accuracy.coarse_support import Counts, OwnPixels
from jointseg.accuracy.product_pixels import Codes
from jointseg.raster.product_codes import class_table, file_year, fractions, nearest_year
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

TRUTH = "truth"
_TRUTH_ENTRY = {"isa": {"codes": [1]}, "not_isa": {"codes": [0]}}
PICTURE_PX = 800  # longest side of a picture
OWN_FROM_M = 3.0  # products finer than this are compared at 1 m alone
_ERR_PX = 0.05  # of a product's pixel: how far the place may err where all ground is compared
_PAIRS = (4, 3, 1, 0)  # 3 x map + other of what both, the map alone, the other alone and neither call ISA
_AREAS = ("both", "only_ours", "only_theirs", "neither", "untold")
_AT_POINTS = {"users": "precision", "producers": "recall", "f1": "f1", "overall": "overall_accuracy"}

# Of a block: its row and column, and for each other map the km2 by pair of classes, the picture's cells, its own pixels.
Seen = tuple[int, int, list[tuple[np.ndarray, np.ndarray, Counts | None]]]


@dataclass(frozen=True)
class Other:
    """What a map is compared with.

    Attributes:
        name: of the product, or TRUTH.
        year: that it shows.
        codes: its reader.
        entry: of the products table; None for the truth, which has the map's own pixels.
    """

    name: str
    year: int
    codes: Codes
    entry: dict[str, Any] | None


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
    """Tables how far products and maps agree, and draws where they do not.

    Args:
        mosaics: {year}/{city}.tif, 1 m, 0/1/255, cut to the city's outline, in the order of `years`.
        table: CSV to make, a row by year and product.
        maps: folder to make, {year}_{product}.png: what both, one alone or neither calls ISA.
        city, reach: names for the table.
        years: ascending.
        threads: blocks that are looked at side by side.
        products: {product}/{year}, folders of mosaics as `product_mosaic` makes them.
        files: the folder of all products, into which the mosaics point.
        product_table: entry of each product.
        strata, design: as step `change_sample` writes them.
        reference: its points filled in.
        truth: folder of {year}/{reach}.tif, 1 m, 0/1/255.

    Returns:
        Facts for the manifest: the year that each product shows of each.
    """
    folders = {(path.parent.name, int(path.name)): path for path in products or []}
    told = None
    if reference is not None and strata is not None and design is not None:
        told = change.interpreted(strata, design, reference, mosaics, years)
    rows, matched = [], {}
    with atomic_write(maps) as part:
        part.mkdir()
        for year, mosaic in zip(years, mosaics):
            others = _others(product_table or {}, folders, year)
            if truth is not None:
                codes = Codes((truth / str(year) / f"{reach}.tif",), TRUTH, class_table(TRUTH, _TRUTH_ENTRY))
                others.append(Other(TRUTH, year, codes, None))
            matched[year] = {other.name: other.year for other in others}
            for other, found in zip(others, _compared(mosaic, others, threads)):
                row: dict[str, Any] = {"city": city, "reach": reach, "year": year, "name": other.name}
                row |= {"product_year": other.year} | found.areas() | found.by_pixel(other)
                if told is not None and other.name != TRUTH:
                    row |= _at_points(told, other, year, common_grid([mosaic]).epsg)
                rows.append(row)
                with atomic_write(part / f"{year}_{other.name}.png") as picture:
                    Image.fromarray(found.picture()).save(picture, "png", optimize=True)
    save(pd.DataFrame(rows), table)
    return {"years": matched}


def _others(product_table: dict[str, dict[str, Any]], folders: dict[tuple[str, int], Path], year: int) -> list[Other]:
    out = []
    for name, entry in product_table.items():
        shown = nearest_year(entry, year)
        key = name, file_year(entry, shown)
        if key not in folders:
            raise DataError(f"product {name} has no mosaic of {key[1]}; give {name}/{key[1]} among the products")
        out.append(Other(name, shown, Codes.of(folders[key], name, entry, shown), entry))
    return out


@dataclass
class _Found:
    """What a map and another one say of the same ground.

    Attributes:
        km2: by [map, other], each 0 not ISA, 1 ISA, 2 unknown.
        cells: pixels by [kind, row, column] of a picture's cells: the kinds of figures.AGREEMENT.
        own: the map in the product's own pixels.
    """

    km2: np.ndarray
    cells: np.ndarray
    own: OwnPixels | None

    def areas(self) -> dict[str, float]:
        """km2 on ground that the map knows; `untold` is what the product does not. Agreement as F1, neither being the truth."""
        known = self.km2[:2]
        both, ours, theirs, neither = known[1, 1], known[1, 0], known[0, 1], known[0, 0]
        row = dict(zip(_AREAS, map(float, (both, ours, theirs, neither, known[:, 2].sum()))))
        alike = 2 * both / (2 * both + ours + theirs) if both + ours + theirs > 0 else float("nan")
        return {f"{name}_km2": value for name, value in row.items()} | {"agreement_f1": float(alike)}

    def by_pixel(self, other: Other) -> dict[str, float]:
        """In the product's own pixels: mean absolute difference, bias and correlation of the ISA fraction, F1 of the majority."""
        if self.own is None or other.entry is None or not self.own.known.any():
            return {}
        codes, known = self.own.codes(), self.own.known
        kinds = other.codes.classes(codes, "its own pixels")
        theirs = fractions(other.entry)[codes]
        theirs = np.where(np.isnan(theirs), kinds == 1, theirs)
        # Pixels of which the map knows half or more; the fullest one tells how many there are.
        use = (kinds != UNKNOWN) & (2 * known >= known.max())
        if not use.any():
            return {}
        weight = known[use].astype(float)
        ours, theirs = self.own.isa[use] / weight, theirs[use].astype(float)
        apart = ours - theirs
        mean = [np.average(each, weights=weight) for each in (ours, theirs)]
        spread = [np.average((each - middle) ** 2, weights=weight) for each, middle in zip((ours, theirs), mean)]
        together = np.average((ours - mean[0]) * (theirs - mean[1]), weights=weight)
        mostly = ours >= 0.5, theirs >= 0.5
        both = np.sum(weight[mostly[0] & mostly[1]])
        either = np.sum(weight[mostly[0]]) + np.sum(weight[mostly[1]])
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "pixels": int(use.sum()),
                "share_mae": float(np.average(np.abs(apart), weights=weight)),
                "share_bias": float(np.average(apart, weights=weight)),
                "share_r": float(together / np.sqrt(spread[0] * spread[1])),
                "pixel_f1": float(2 * both / either),
            }

    def picture(self) -> np.ndarray:
        """Where they agree, uint8 [rows, columns, 3]: the colours of figures.AGREEMENT, mixed by what a cell holds."""
        colours = np.array(list(figures.AGREEMENT.values()), float)
        total = np.maximum(self.cells.sum(axis=0), 1)
        return np.rint(np.einsum("krc,kx->rcx", self.cells / total, colours)).astype(np.uint8)


def _compared(mosaic: Path, others: list[Other], threads: int) -> list[_Found]:
    """The map beside each of the others, in one pass over its blocks."""
    place = common_grid([mosaic])
    cell = max(1, -(-max(place.shape) // PICTURE_PX))
    while BLOCK % cell:  # cells must not cross blocks
        cell += 1
    size = tuple(-(-side // cell) for side in place.shape)
    found = [_Found(np.zeros((3, 3)), np.zeros((5, *size), np.uint32), _own(other, place)) for other in others]
    look = _look(place, others, [each.own for each in found], cell)
    for row, col, parts in looked_at([mosaic], look, threads, f"{mosaic.stem} {mosaic.parent.name} beside products"):
        for each, (km2, cells, own) in zip(found, parts):
            each.km2 += km2
            top, left = row // cell, col // cell
            each.cells[:, top : top + cells.shape[1], left : left + cells.shape[2]] = cells
            if each.own is not None:
                each.own.add(own)
    return found


def _own(other: Other, place: Grid) -> OwnPixels | None:
    if other.entry is None or other.entry["resolution_m"] < OWN_FROM_M:
        return None
    return OwnPixels(other.codes.sorted_for(f"EPSG:{place.epsg}")[0], place)


def _look(place: Grid, others: list[Other], owns: list[OwnPixels | None], cell: int) -> Callable[[Block], Seen]:
    crs = f"EPSG:{place.epsg}"

    def look(block: Block) -> Seen:
        ours, parts = block.values[0], []
        if not (ours != UNKNOWN).any():  # beyond the city's outline
            nothing = np.zeros((4, *(-(-side // cell) for side in ours.shape)), np.uint32)
            rest = np.ones((1, *nothing.shape[1:]), np.uint32)
            return block.row, block.col, [(np.zeros((3, 3)), np.concatenate([nothing, rest]), None)] * len(others)
        for other, own in zip(others, owns):
            where = f"block at row {block.row}, column {block.col}"
            theirs = other.codes.classes(other.codes.on(crs, block.transform, ours.shape, _ERR_PX), where)
            pair = ours * np.uint8(3) + theirs
            cells = np.stack([cell_counts(pair == kind, cell) for kind in _PAIRS])
            rest = cell_counts(np.ones(pair.shape, bool), cell) - cells.sum(axis=0, dtype=np.uint32)
            km2 = paired_counts(ours.ravel(), theirs.ravel()) * block.pixel_km2
            parts.append((km2, np.concatenate([cells, rest[None]]), own.counted(block) if own is not None else None))
        return block.row, block.col, parts

    return look


def _at_points(told: change.Interpreted, other: Other, year: int, epsg: int) -> dict[str, Any]:
    """Accuracy of the product by the points, and that of our map minus it on the same ones (Stehman 2014, one sample)."""
    codes = other.codes.at(f"EPSG:{epsg}", told.x, told.y)
    theirs = other.codes.classes(codes, "its points")
    place = told.years.index(year)
    real, ours = told.reference[:, place] == 1, told.mapped[:, place] == 1
    known = theirs != UNKNOWN
    cells = [_cells(mapped, real, known) for mapped in (theirs == 1, ours)]
    row: dict[str, Any] = {"points": int(known.sum())}
    for name, metric in _AT_POINTS.items():
        estimate = told.sample.estimate(cells[0], METRICS[metric])
        row |= columns(name, within_unit(estimate))
    gain = told.sample.estimate([*cells[1], *cells[0]], difference(METRICS["f1"]))
    return row | columns("f1_of_ours_minus", gain)


def _cells(mapped: np.ndarray, real: np.ndarray, known: np.ndarray) -> list[np.ndarray]:
    """tp, fp, fn, tn of each point, 0 or 1; points that are not known are none of them: a domain of the sample."""
    kinds = (mapped & real, mapped & ~real, ~mapped & real, ~mapped & ~real)
    return [(kind & known).astype(float) for kind in kinds]
