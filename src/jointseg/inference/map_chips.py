"""Step `map_chips`: the map's pixels on the test chips."""

from pathlib import Path
from typing import Any

import geopandas as gpd
from affine import Affine

from jointseg.inference.chip_extents import chip_bounds, group_by_zone
from jointseg.raster import cog
from jointseg.raster.mosaic import Mosaic
from jointseg.runtime import progress
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write


def map_chips(*, index: Path, isa: list[Path], predictions: Path, method: str) -> dict[str, Any]:
    """Crop the map to every test chip's 1 m grid: {sample_id}.tif, uint8 0, 1, 255; DataError if its zone has no tile."""
    chips = gpd.read_parquet(index)
    chips = chips[chips["split"] == "test"]
    maps = {epsg: Mosaic(paths) for epsg, paths in group_by_zone(isa).items()}
    with atomic_write(predictions) as folder:
        folder.mkdir()
        for chip in progress.track(list(chips.itertuples()), f"chips of the {method} map", unit="chip"):
            if chip.epsg not in maps:
                raise DataError(f"chip {chip.sample_id} is in EPSG:{chip.epsg}, which has no tile of the map; add it")
            bounds = chip_bounds(chip)
            cog.write(
                folder / f"{chip.sample_id}.tif",
                maps[chip.epsg].read(bounds),
                crs=maps[chip.epsg].crs,
                transform=Affine(1, 0, bounds[0], 0, -1, bounds[3]),
                nodata=maps[chip.epsg].nodata,
                descriptions=("isa",),
            )
    return {"chips": len(chips)}
