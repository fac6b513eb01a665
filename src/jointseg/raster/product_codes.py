"""Pixel codes of reference products: lookup tables from code to class or to ISA fraction."""

from typing import Any

import numpy as np

from jointseg.runtime.errors import DataError

OUTSIDE = 255  # code of mosaic pixels that no file of the product covers
NODATA = 255  # class
_CLASSES = {"not_isa": 0, "isa": 1, "nodata": NODATA}


def list_codes(entry: dict[str, Any] | None) -> list[int]:
    """Return the codes of {codes: [...], range: [first, last]}, both optional; the range includes its last code."""
    entry = entry or {}
    first, last = entry.get("range") or (0, -1)
    return [*(entry.get("codes") or []), *range(first, last + 1)]


def nearest_year(entry: dict[str, Any], year: int) -> int:
    """Return the product year that is nearest to `year`; of two equally near years, the earlier one."""
    years = {int(entry["year"]), *map(int, entry.get("years") or []), *map(int, entry.get("series") or {})}
    return min(years, key=lambda available: (abs(available - year), available))


def file_year(entry: dict[str, Any], year: int) -> int:
    """Return the year in the file names of a product year: the files of a series contain all of its years."""
    return year if year in map(int, entry.get("years") or []) else int(entry["year"])


def class_table(product: str, entry: dict[str, Any], year: int | None = None) -> np.ndarray:
    """Return the lookup table from code to class, int16 [256]: 0, 1 or 255, and -1 for codes that are not listed.

    `entry` is the product's entry in the config. With the year of a series, ISA of later years is not ISA. Raises
    DataError if a code is listed twice or is outside 0..255, or 255 is listed as ISA or not ISA (mosaics use it where
    no file exists).
    """
    table = np.full(256, -1, dtype=np.int16)
    for key, value in _CLASSES.items():
        for code in list_codes(entry.get(key)):
            if not 0 <= code <= 255 or (code == OUTSIDE and key != "nodata"):
                raise DataError(f"product {product}: code {code} under {key} is not in 0..254; correct its table entry")
            if table[code] >= 0:
                raise DataError(
                    f"product {product}: code {code} is listed twice; keep it under one of {', '.join(_CLASSES)}"
                )
            table[code] = value
    table[OUTSIDE] = NODATA
    ranges = {int(series_year): codes for series_year, codes in (entry.get("series") or {}).items()}
    if year in ranges:
        first, last = ranges[year]
        is_isa = np.zeros(256, bool)
        is_isa[first : last + 1] = True
        unlisted = np.flatnonzero(is_isa & (table != 1))
        if unlisted.size:
            raise DataError(
                f"product {product}: code {unlisted[0]} is ISA in {year} by its series but not by its entry's isa; list it there"
            )
        table[(table == 1) & ~is_isa] = 0
    return table


def fractions(entry: dict[str, Any]) -> np.ndarray:
    """Return the lookup table from code to ISA fraction of the pixel, float32 [256]; NaN for codes without fraction."""
    out = np.full(256, np.nan, np.float32)
    full_cover = entry.get("full_cover_code")
    if full_cover is not None:
        out[: full_cover + 1] = np.arange(full_cover + 1) / full_cover
    return out


def classify(values: np.ndarray, table: np.ndarray, product: str, where: str) -> np.ndarray:
    """Map codes, uint8, to classes by a `class_table`: uint8, 0 not ISA, 1 ISA, 255 nodata.

    `product` and `where` (file or extent) are for the error. Raises DataError if a code is not listed in the product's
    entry.
    """
    present = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    unlisted = present[table[present] < 0]
    if unlisted.size:
        raise DataError(
            f"product {product}, {where}: code {unlisted[0]} is not in its table entry;"
            " list it there under isa, not_isa or nodata"
        )
    return table[values].astype(np.uint8)
