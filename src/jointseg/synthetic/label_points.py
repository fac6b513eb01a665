"""Step `interpret`: who looks at the points of change in the synthetic scene, where the truth is known, and fills in their table."""

from pathlib import Path
from typing import Any

import pandas as pd
from rasterio.transform import rowcol

from jointseg.raster import io as raster_io
from jointseg.runtime.files import atomic_write


def label_points(
    *, points: Path, truth: Path, reference: Path, city: str, reach: str, years: list[int]
) -> dict[str, Any]:
    """Writes the table of points with the class of each year, as a person who makes no mistake would.

    Args:
        points: CSV to fill in, as step `change_sample` writes it.
        truth: folder of {year}/{reach}.tif, 1 m, 0/1/255; what it does not know stays empty.
        reference: CSV to make.
        city: whose points they are.
        reach: in which it lies.
        years: to tell.

    Returns:
        Facts for the manifest: points that could not be told in every year.
    """
    table = pd.read_csv(points)
    for year in years:
        with raster_io.open_raster(truth / str(year) / f"{reach}.tif") as source:
            values, shape = source.read(1), source.shape
            row, col = rowcol(source.transform, table["x"], table["y"])
        inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
        told = pd.Series(pd.NA, index=table.index, dtype="Int64")
        told[inside] = values[row[inside], col[inside]]
        table[str(year)] = told.where(told != 255)
    with atomic_write(reference) as part:
        table.to_csv(part, index=False, lineterminator="\n")
    return {"city": city, "untold": int(table[[str(year) for year in years]].isna().any(axis=1).sum())}
