"""Adjacent rasters on one pixel lattice, read as one raster."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.windows import Window

from jointseg.raster.io import Bounds, open_raster, window_from_bounds
from jointseg.runtime.errors import DataError


class Mosaic:
    """Rasters with the same CRS, resolution, lattice and bands, read as one raster; gaps are nodata."""

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise DataError("a mosaic needs at least one raster")
        self.paths = [Path(path) for path in paths]
        self._bounds: list[Bounds] = []
        first: tuple | None = None
        for path in self.paths:
            with open_raster(path) as source:
                profile = (
                    source.crs.to_string(),
                    source.transform.a,
                    source.descriptions,
                    source.dtypes[0],
                    source.nodata,
                )
                first = first or profile
                if profile != first:
                    raise DataError(
                        f"{path} has (CRS, pixel, bands, type, nodata) {profile} but {self.paths[0]} has {first}; "
                        "expected the same for all rasters of a mosaic"
                    )
                if source.transform.c % source.transform.a or source.transform.f % source.transform.a:
                    raise DataError(
                        f"{path} has its origin at ({source.transform.c:g}, {source.transform.f:g}); "
                        f"expected multiples of its {source.transform.a:g} m pixels"
                    )
                self._bounds.append(tuple(source.bounds))
        assert first is not None
        self.crs: str = first[0]
        self.res_m: float = first[1]
        self.descriptions: tuple[str, ...] = first[2]
        self.dtype: str = first[3]
        self.nodata: float = 0 if first[4] is None else first[4]

    @property
    def bounds(self) -> Bounds:
        """Bounds of all rasters together."""
        west, south, east, north = zip(*self._bounds)
        return min(west), min(south), max(east), max(north)

    def read(self, bounds: Bounds, bands: Sequence[int] | None = None) -> np.ndarray:
        """Read [bands, rows, columns] of bounds on the lattice; where rasters overlap, the first one is used."""
        bands = list(bands) if bands else list(range(1, len(self.descriptions) + 1))
        lattice = Affine(self.res_m, 0, bounds[0], 0, -self.res_m, bounds[3])
        _, _, rows, cols = window_from_bounds(Affine(self.res_m, 0, 0, 0, -self.res_m, 0), bounds)
        out = np.full((len(bands), rows, cols), self.nodata, dtype=self.dtype)
        for path, (west, south, east, north) in reversed(list(zip(self.paths, self._bounds))):
            part = (max(west, bounds[0]), max(south, bounds[1]), min(east, bounds[2]), min(north, bounds[3]))
            if part[0] >= part[2] or part[1] >= part[3]:
                continue
            row, col, height, width = window_from_bounds(lattice, part)
            with open_raster(path) as source:
                top, left, _, _ = window_from_bounds(source.transform, part)
                out[:, row : row + height, col : col + width] = source.read(
                    bands, window=Window(left, top, width, height)
                )
        return out
