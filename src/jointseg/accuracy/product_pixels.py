"""A product's codes on any grid and at any points, out of its mosaics."""

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

EXACT_PX = 1e-3  # of a product's pixel: as good as exact; rasterio 1.4 cannot open a WarpedVRT with none at all


@dataclass(frozen=True)
class Codes:
    """Reads a product by nearest neighbour; where one mosaic does not know the ground, the next is asked.

    Attributes:
        mosaics: a VRT for each CRS of its files.
        product: name, for messages.
        table: code -> 0, 1, 255, as `product_codes.meanings` gives it.
    """

    mosaics: tuple[Path, ...]
    product: str
    table: np.ndarray

    @classmethod
    def of(cls, folder: Path, product: str, entry: dict[str, Any], year: int | None = None) -> "Codes":
        """The product in the folder of mosaics that `product_mosaic` made, as it shows a year."""
        found = tuple(sorted(folder.glob("*.vrt")))
        if not found:
            raise DataError(f"product {product}: {folder} holds no mosaic; run step product_mosaic again")
        return cls(found, product, class_table(product, entry, year))

    def on(self, crs: str, transform: Affine, shape: tuple[int, int], tolerance_px: float = EXACT_PX) -> np.ndarray:
        """Codes on a grid, uint8 [rows, columns], not looked up yet; 255 where no file lies.

        Args:
            crs, transform, shape: of the grid.
            tolerance_px: how far, in the product's pixels, the place may err for the sake of speed.
        """
        out: np.ndarray | None = None
        for path in self.sorted_for(crs):
            codes = warp_to_grid(path, crs, transform, shape, Resampling.nearest, OUTSIDE, "uint8", tolerance_px)
            if out is None:
                out = codes
            else:
                better = (self.table[out] == NODATA) & (codes != OUTSIDE)
                out[better] = codes[better]
            if len(self.mosaics) == 1 or not (self.table[out] == NODATA).any():
                break
        assert out is not None  # a product has a mosaic
        return out

    def classes(self, codes: np.ndarray, where: str) -> np.ndarray:
        """Codes as 0 not ISA, 1 ISA, 255 unknown; DataError for one that the entry does not list."""
        return classify(codes, self.table, self.product, where)

    def at(self, crs: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Codes at points of a CRS, uint8 [n], not looked up yet; 255 where no file lies."""
        out = np.full(len(x), OUTSIDE, np.uint8)
        for path in self.sorted_for(crs):
            with raster_io.open_raster(path) as source:
                to_x, to_y = transformer(crs, source.crs.to_string()).transform(np.asarray(x), np.asarray(y))
                found = np.array([value[0] for value in source.sample(zip(to_x, to_y), indexes=1)], np.uint8)
            take = (self.table[out] == NODATA) & (found != OUTSIDE)  # beyond a mosaic's edge is its nodata, OUTSIDE
            out[take] = found[take]
        return out

    def sorted_for(self, crs: str) -> list[Path]:
        """The mosaics, the one in the wanted CRS first: nothing is resampled there."""
        if len(self.mosaics) == 1:
            return list(self.mosaics)

        def other(path: Path) -> bool:
            with raster_io.open_raster(path) as source:
                return bool(source.crs.to_string() != crs)

        return sorted(self.mosaics, key=lambda path: (other(path), path.name))
