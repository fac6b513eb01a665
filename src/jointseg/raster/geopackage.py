"""Reproducible GeoPackages: the same layers give the same bytes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyogrio

TIMESTAMP = "2000-01-01T00:00:00Z"


@contextmanager
def fixed_gpkg_timestamp(timestamp: str = TIMESTAMP) -> Iterator[None]:
    """Fix the modification time that GDAL stores in the GeoPackages written inside the block."""
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": timestamp})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
