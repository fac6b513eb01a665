"""What the pixel codes of reference products mean."""

from typing import Any

import numpy as np

from jointseg.runtime.errors import DataError

OUTSIDE = 255  # ground that no file of the product covers
NODATA = 255
_MEANING = {"not_isa": 0, "isa": 1, "nodata": NODATA}


def list_codes(listed: dict[str, Any] | None) -> list[int]:
    """The codes of {codes: [..], range: [first, last]}, the range with both ends; either may be missing."""
    listed = listed or {}
    first, last = listed.get("range") or (0, -1)
    return [*(listed.get("codes") or []), *range(first, last + 1)]


def nearest_year(entry: dict[str, Any], year: int) -> int:
    """Of the years that a product shows, the nearest to one; of two alike the earlier."""
    shown = {int(entry["year"]), *map(int, entry.get("years") or []), *map(int, entry.get("series") or {})}
    return min(shown, key=lambda each: (abs(each - year), each))


def file_year(entry: dict[str, Any], year: int) -> int:
    """The year whose files hold what a product shows of a year: files of a series hold every year of it."""
    return year if year in map(int, entry.get("years") or []) else int(entry["year"])


def class_table(product: str, entry: dict[str, Any], year: int | None = None) -> np.ndarray:
    """Look-up table of a product: int16 [256], code -> 0, 1 or 255, and -1 for codes that the entry does not list.

    Args:
        product: name of the product, for messages.
        entry: its entry of the products table, with isa, not_isa and nodata.
        year: of a series, the year wanted: ISA of later years is not ISA then. Without it, the entry's own.

    Raises DataError for a code listed twice, outside 0..255, or 255 listed as anything but nodata: 255 is what the
    mosaic holds where no file lies.
    """
    table = np.full(256, -1, dtype=np.int16)
    for key, meaning in _MEANING.items():
        for code in list_codes(entry.get(key)):
            if not 0 <= code <= 255 or (code == OUTSIDE and key != "nodata"):
                raise DataError(f"product {product}: code {code} under {key} is not in 0..254; correct its table entry")
            if table[code] >= 0:
                raise DataError(
                    f"product {product}: code {code} is listed twice; keep it under one of {list(_MEANING)}"
                )
            table[code] = meaning
    table[OUTSIDE] = NODATA
    ranges = {int(each): both for each, both in (entry.get("series") or {}).items()}
    if year in ranges:
        first, last = ranges[year]
        inside = np.zeros(256, bool)
        inside[first : last + 1] = True
        strange = np.flatnonzero(inside & (table != 1))
        if strange.size:
            raise DataError(
                f"product {product}: code {strange[0]} is ISA in {year} by its series but not by its entry's isa; list it there"
            )
        table[(table == 1) & ~inside] = 0
    return table


def fractions(entry: dict[str, Any]) -> np.ndarray:
    """Look-up table of the part of a pixel that is ISA: float32 [256], code -> 0 to 1; NaN where a product tells none."""
    out = np.full(256, np.nan, np.float32)
    whole = entry.get("full_cover_code")
    if whole is not None:
        out[: whole + 1] = np.arange(whole + 1) / whole
    return out


def classify(values: np.ndarray, table: np.ndarray, product: str, where: str) -> np.ndarray:
    """Codes, uint8, to 0 not ISA, 1 ISA, 255 nodata.

    Raises DataError naming product, place and code for a code that the product's entry does not list.
    """
    met = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    strange = met[table[met] < 0]
    if strange.size:
        raise DataError(
            f"product {product}, {where}: code {strange[0]} is not in its table entry;"
            " list it there under isa, not_isa or nodata"
        )
    return table[values].astype(np.uint8)
