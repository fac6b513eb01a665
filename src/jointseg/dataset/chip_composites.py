"""Reader of the composites under a chip, across zones and tiles."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio.crs

from jointseg.raster import io as raster_io
from jointseg.raster.bands import MERGED_BANDS
from jointseg.raster.mosaic import Mosaic
from jointseg.runtime.errors import DataError

CLEAR = "clear"


class Composites:
    """Composites of one year with their merged dates, if any: one mosaic per UTM zone."""

    def __init__(self, paths: Sequence[Path], merged: Sequence[Path] = ()) -> None:
        self._mosaics, self._merged = _by_zone(paths), _by_zone(merged)
        for mosaic in self._merged.values():
            if mosaic.descriptions != MERGED_BANDS:
                raise DataError(
                    f"{mosaic.paths[0]} has bands {mosaic.descriptions}; expected the merged dates {MERGED_BANDS}; rebuild the "
                    "composites"
                )

    def read(self, epsg: int, bounds: raster_io.Bounds, bands: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return (uint16 [bands, h, w] reflectance x 10000, bool [h, w] valid) for bounds on the 10 m lattice.

        Raises DataError if the zone, a band or the band of clear observations is missing.
        """
        values, _ = self.chip(epsg, bounds, bands)
        return values[: len(bands)], np.all(values[: len(bands)] > 0, axis=0)

    def chip(self, epsg: int, bounds: raster_io.Bounds, bands: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return `read`'s bands, 0 for nodata, then the merged dates; and uint16 [h, w] clear observations."""
        if epsg not in self._mosaics:
            raise DataError(f"no composite is in EPSG:{epsg}; add the composites of its tiles")
        mosaic = self._mosaics[epsg]
        missing = [name for name in (*bands, CLEAR) if name not in mosaic.descriptions]
        if missing:
            raise DataError(
                f"composites of EPSG:{epsg} have bands {mosaic.descriptions}; they lack {', '.join(missing)}; rebuild them"
            )
        numbers = [mosaic.descriptions.index(name) + 1 for name in (*bands, CLEAR)]
        values = mosaic.read(bounds, numbers)
        valid = (values[-1] > 0) & (values[:-1] > 0).all(axis=0)
        image = [values[:-1]]
        if self._merged:
            if epsg not in self._merged:
                raise DataError(f"no merged dates are in EPSG:{epsg}; build the merged dates of the composites' tiles")
            image.append(self._merged[epsg].read(bounds))
        return np.where(valid, np.concatenate(image), 0), values[-1]


def _by_zone(paths: Sequence[Path]) -> dict[int, Mosaic]:
    by_zone: dict[int, list[Path]] = defaultdict(list)
    for path in sorted(Path(path) for path in paths):
        with raster_io.open_raster(path) as source:
            code = source.crs.to_epsg() if isinstance(source.crs, rasterio.crs.CRS) else None
        if code is None:
            raise DataError(f"{path} has no EPSG code; expected a composite in a UTM zone")
        by_zone[code].append(path)
    return {code: Mosaic(zone_paths) for code, zone_paths in by_zone.items()}
