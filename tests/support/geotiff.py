"""GeoTIFFs from an array and a transform."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine


def write(path: Path, array: np.ndarray, transform: Affine, crs: str | None = "EPSG:32650", **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, rows, cols = array.shape
    profile = {"driver": "GTiff", "width": cols, "height": rows, "count": count, "dtype": array.dtype.name, "crs": crs}
    colours, descriptions = options.pop("colours", None), options.pop("descriptions", None)
    with rasterio.open(path, "w", transform=transform, **profile, **options) as to:
        to.write(array)
        if colours:
            to.colorinterp = colours
        if descriptions:
            to.descriptions = descriptions
