"""The ISA tiles of one city joined and cut out along its outline, by GDAL's tools."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import geopandas as gpd

from jointseg.area import grid
from jointseg.raster import gdal_cli
from jointseg.runtime import object_store
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

UNKNOWN = 255


def mosaic(*, isa: list[Path], study_area: Path, mosaic: Path, city: str, year: str) -> dict[str, Any]:
    """ISA of a city: COG uint8 at 1 m, 0 not impervious, 1 impervious, 255 unknown or outside the outline.

    A pixel belongs to the city when its centre lies inside the outline. Where the tiles lie in several UTM zones, the
    mosaic is in the zone of most of them and the others are resampled to it by the nearest pixel.

    Args:
        isa: the maps of the city's tiles in one year.
        study_area: GeoPackage with the layer `cities` (name).

    Returns:
        Facts for the manifest: the tiles and the mosaic's CRS.
    """
    if not isa:
        raise DataError(f"city {city} has no ISA tile in {year}; map the tiles that its outline touches first")
    names = sorted(gpd.read_file(study_area, layer="cities", ignore_geometry=True)["name"])
    if city not in names:
        raise DataError(f"city {city} is not in the layer cities of {study_area}, which has {names}; make it again")
    zones = {path: grid.parse_tile(path.stem, 1).crs for path in isa}
    counts = Counter(zones.values())
    target = max(sorted(counts), key=lambda crs: counts[crs])
    quoted = city.replace("'", "''")
    with atomic_write(mosaic) as part, tempfile.TemporaryDirectory() as folder:
        joined = []
        for crs in sorted(counts, key=lambda crs: (crs == target, crs)):
            joined.append(f"{folder}/{crs[5:]}.vrt")
            tiles = sorted(
                object_store.gdal_path(path.resolve() if path.exists() else path) for path in isa if zones[path] == crs
            )
            gdal_cli.run(["gdalbuildvrt", "-q", "-strict", "-srcnodata", str(UNKNOWN), joined[-1], *tiles])
        warp = ["gdalwarp", "-q", "-t_srs", target, "-r", "near", "-tr", "1", "1", "-tap"]
        warp += ["-srcnodata", str(UNKNOWN), "-dstnodata", str(UNKNOWN)]
        warp += ["-cutline", str(study_area), "-cl", "cities", "-cwhere", f"name='{quoted}'", "-crop_to_cutline"]
        # One thread: with more, the order of blocks in the file may change from run to run.
        warp += ["-of", "COG", "-co", "COMPRESS=DEFLATE", "-co", "BLOCKSIZE=512", "-co", "NUM_THREADS=1"]
        warp += ["-co", "OVERVIEW_RESAMPLING=NEAREST", "-co", "BIGTIFF=IF_SAFER"]
        gdal_cli.run([*warp, *joined, str(part)])
    return {"tiles": sorted(path.stem for path in isa), "crs": target}
