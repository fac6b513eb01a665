"""Vector files that are the same bytes each time."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyogrio

DATE = "2000-01-01T00:00:00Z"


@contextmanager
def fixed_gpkg_timestamp(date: str = DATE) -> Iterator[None]:
    """GeoPackages carry their time of writing: what is written inside carries this one."""
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": date})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
