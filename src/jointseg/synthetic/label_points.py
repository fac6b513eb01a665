"""Step `label_points`: label the sample points of change from the truth of the synthetic scene."""

from pathlib import Path
from typing import Any

import pandas as pd
from rasterio.transform import rowcol

from jointseg.raster import io as raster_io
from jointseg.runtime.files import atomic_write


def label_points(
    *, points: Path, truth: Path, reference: Path, city: str, reach: str, years: list[int]
) -> dict[str, Any]:
    """Write the table of points with the true class in each year, like an interpreter without errors.

    `truth` contains {year}/{reach}.tif, 1 m, 0/1/255; a point on nodata or outside stays unlabelled.
    """
    table = pd.read_csv(points)
    for year in years:
        with raster_io.open_raster(truth / str(year) / f"{reach}.tif") as source:
            values, shape = source.read(1), source.shape
            row, col = rowcol(source.transform, table["x"], table["y"])
        inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
        labels = pd.Series(pd.NA, index=table.index, dtype="Int64")
        labels[inside] = values[row[inside], col[inside]]
        table[str(year)] = labels.where(labels != 255)
    with atomic_write(reference) as part:
        table.to_csv(part, index=False, lineterminator="\n")
    return {"city": city, "unlabelled": int(table[[str(year) for year in years]].isna().any(axis=1).sum())}
