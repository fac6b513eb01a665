"""A reference product's codes on any grid and at any points."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.enums import Resampling

from jointseg.area.grid import transformer
from jointseg.raster import io as raster_io
from jointseg.raster.product_codes import NODATA, OUTSIDE, class_table, classify
from jointseg.raster.resample import warp_to_grid
from jointseg.runtime.errors import DataError

EXACT_PX = 1e-3  # of a product's pixel, effectively exact; rasterio 1.4 cannot open a WarpedVRT with zero tolerance


@dataclass(frozen=True)
class ProductReader:
    """Reads a product by nearest neighbour; where one mosaic has nodata, the next one is read."""

    mosaics: tuple[Path, ...]  # a VRT for each CRS of its files
    product: str  # name, for messages
    table: np.ndarray  # code -> 0, 1, 255, as from `product_codes.class_table`

    @classmethod
    def from_folder(cls, folder: Path, product: str, entry: dict[str, Any], year: int | None = None) -> "ProductReader":
        """Open the product in a folder of step `product_mosaic`, for the given year."""
        mosaics = tuple(sorted(folder.glob("*.vrt")))
        if not mosaics:
            raise DataError(f"product {product}: {folder} contains no mosaic; rerun step product_mosaic")
        return cls(mosaics, product, class_table(product, entry, year))

    def read_grid(
        self, crs: str, transform: Affine, shape: tuple[int, int], tolerance_px: float = EXACT_PX
    ) -> np.ndarray:
        """Return the product's codes on a grid, uint8 [rows, columns]; 255 outside its files.

        `tolerance_px` is the maximum position error in product pixels; larger values are faster.
        """
        out: np.ndarray | None = None
        for path in self.mosaics_for(crs):
            codes = warp_to_grid(path, crs, transform, shape, Resampling.nearest, OUTSIDE, "uint8", tolerance_px)
            if out is None:
                out = codes
            else:
                fill = (self.table[out] == NODATA) & (codes != OUTSIDE)
                out[fill] = codes[fill]
            if len(self.mosaics) == 1 or not (self.table[out] == NODATA).any():
                break
        assert out is not None  # a product has a mosaic
        return out

    def read_points(self, crs: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the product's codes at points of a CRS, uint8 [n]; 255 outside its files."""
        out = np.full(len(x), OUTSIDE, np.uint8)
        for path in self.mosaics_for(crs):
            with raster_io.open_raster(path) as source:
                to_x, to_y = transformer(crs, source.crs.to_string()).transform(np.asarray(x), np.asarray(y))
                codes = np.array([value[0] for value in source.sample(zip(to_x, to_y), indexes=1)], np.uint8)
            fill = (self.table[out] == NODATA) & (codes != OUTSIDE)  # a mosaic returns OUTSIDE beyond its edge
            out[fill] = codes[fill]
        return out

    def classify(self, codes: np.ndarray, where: str) -> np.ndarray:
        """Return codes as 0 non-ISA, 1 ISA, 255 nodata; DataError for a code that the entry does not list."""
        return classify(codes, self.table, self.product, where)

    def mosaics_for(self, crs: str) -> list[Path]:
        """Return the mosaics, the one in the given CRS first, because it needs no reprojection."""
        if len(self.mosaics) == 1:
            return list(self.mosaics)

        def needs_reprojection(path: Path) -> bool:
            with raster_io.open_raster(path) as source:
                return bool(source.crs.to_string() != crs)

        return sorted(self.mosaics, key=lambda path: (needs_reprojection(path), path.name))
