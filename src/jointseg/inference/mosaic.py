"""Step `mosaic`: the ISA tiles of a city, mosaicked and cut to its outline with the GDAL tools."""

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

NODATA = 255


def mosaic(*, isa: list[Path], study_area: Path, mosaic: Path, city: str, year: str) -> dict[str, Any]:
    """Write the ISA map of a city: COG uint8 at 1 m, 0 not impervious, 1 impervious, 255 nodata or outside the outline.

    A pixel belongs to the city if its centre is inside the outline in the layer `cities` of the study area. If the
    tiles are in several UTM zones, the mosaic is in the zone of most tiles; the others are resampled by nearest
    neighbour.
    """
    if not isa:
        raise DataError(f"city {city} has no ISA tile in {year}; map the tiles that intersect its outline")
    names = sorted(gpd.read_file(study_area, layer="cities", ignore_geometry=True)["name"])
    if city not in names:
        raise DataError(f"layer cities of {study_area} contains {names}, not city {city}; rebuild it")
    zones = {path: grid.parse_tile(path.stem, 1).crs for path in isa}
    counts = Counter(zones.values())
    target = max(sorted(counts), key=lambda crs: counts[crs])
    quoted = city.replace("'", "''")
    with atomic_write(mosaic) as part, tempfile.TemporaryDirectory() as folder:
        zone_mosaics = []
        for crs in sorted(counts, key=lambda crs: (crs == target, crs)):
            zone_mosaics.append(f"{folder}/{crs[5:]}.vrt")
            tiles = sorted(
                object_store.gdal_path(path.resolve() if path.exists() else path) for path in isa if zones[path] == crs
            )
            gdal_cli.run(["gdalbuildvrt", "-q", "-strict", "-srcnodata", str(NODATA), zone_mosaics[-1], *tiles])
        warp = ["gdalwarp", "-q", "-t_srs", target, "-r", "near", "-tr", "1", "1", "-tap"]
        warp += ["-srcnodata", str(NODATA), "-dstnodata", str(NODATA)]
        warp += ["-cutline", str(study_area), "-cl", "cities", "-cwhere", f"name='{quoted}'", "-crop_to_cutline"]
        # One thread: with several, the order of blocks in the file can vary.
        warp += ["-of", "COG", "-co", "COMPRESS=DEFLATE", "-co", "BLOCKSIZE=512", "-co", "NUM_THREADS=1"]
        warp += ["-co", "OVERVIEW_RESAMPLING=NEAREST", "-co", "BIGTIFF=IF_SAFER"]
        gdal_cli.run([*warp, *zone_mosaics, str(part)])
    return {"tiles": sorted(path.stem for path in isa), "crs": target}
