"""The map's pixels on the test chips, computed for these alone: what a baseline would have mapped there."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from affine import Affine
from torch import Tensor

from jointseg.area import grid
from jointseg.inference import devices
from jointseg.inference.blending import Bounds
from jointseg.inference.composite_reader import Composites
from jointseg.inference.lattice import LR_M, Window
from jointseg.inference.predict import Mapper
from jointseg.inference.predictor import Precision, Predictor
from jointseg.inference.products import FORMS
from jointseg.raster import cog
from jointseg.runtime import progress
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

# Windows kept for the chips that follow: those of two lattice rows of a reach some 15 km wide.
KEPT_WINDOWS = 64


def predict_chips(
    *,
    index: Path,
    composites: list[Path],
    segmentation: Path,
    predictions: Path,
    method: str,
    window_m: int,
    stride_m: int,
    batch: int,
    threads: int,
    superres: Path | None = None,
    merged: Sequence[Path] = (),
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """The map's pixels on every test chip: a folder of {sample_id}.tif, uint8 0, 1, 255 on the chip's 1 m grid.

    Args:
        index: the dataset's index; only chips of split "test" are mapped.
        composites: of the map's year, all tiles that the chips and the windows around them touch.
        predictions: the folder to write.
        merged: the merged dates beside the composites, for checkpoints that read them.
    """
    chips = gpd.read_parquet(index)
    chips = chips[chips["split"] == "test"]
    zones, more = by_zone(composites), by_zone(list(merged))
    form = FORMS["isa"]
    with (
        devices.claimed() as device,
        atomic_write(predictions) as folder,
        progress.bar("ISA of test chips", len(chips), "chip") as bar,
    ):
        predictor = Predictor.load(method, segmentation, superres, precision, device)
        folder.mkdir()
        with predictor.workers(threads) as pool:
            mapper = Mapper(predictor, window_m, stride_m, batch, pool)
            for epsg, group in chips.groupby("epsg", sort=True):
                if epsg not in zones:
                    raise DataError(
                        f"test chips lie in EPSG:{epsg} but no composite does; make the composites of that zone"
                    )
                source = Composites(zones[epsg], predictor.bands, more.get(epsg, ()))
                kept: Recent = Recent(KEPT_WINDOWS)
                places = {chip.sample_id: chip_bounds(chip) for chip in group.itertuples()}
                order = sorted(places, key=lambda name: (-(places[name][3] // stride_m), places[name][0], name))
                for name in order:
                    bounds = places[name]
                    pixels = mapper.whole(source, bounds, epsg, kept)
                    cog.write(
                        folder / f"{name}.tif",
                        pixels,
                        crs=f"EPSG:{epsg}",
                        transform=Affine(1, 0, bounds[0], 0, -1, bounds[3]),
                        nodata=form.nodata,
                        descriptions=form.bands,
                    )
                    bar.advance()
    return {"chips": len(chips), "device": device.type, "threshold": predictor.threshold}


class Recent(OrderedDict[Window, Tensor | None]):
    """The window results added last, at most `size` of them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __setitem__(self, window: Window, value: Tensor | None) -> None:
        super().__setitem__(window, value)
        self.move_to_end(window)
        while len(self) > self._size:
            self.popitem(last=False)


def by_zone(tiles: list[Path]) -> dict[int, list[Path]]:
    """Rasters named by their tile, by the EPSG code of their zone."""
    zones: dict[int, list[Path]] = {}
    for path in tiles:
        zones.setdefault(grid.parse_tile(path.stem, 1).epsg, []).append(path)
    return zones


def chip_bounds(chip: Any) -> Bounds:
    """(minx, miny, maxx, maxy) of a chip in its zone; its side is read off its outline, to whole 10 m pixels."""
    to_utm = grid.transformer("EPSG:4326", f"EPSG:{chip.epsg}")
    x, _ = to_utm.transform(*np.array(chip.geometry.exterior.coords)[:, :2].T)
    side = round((max(x) - chip.minx) / LR_M) * LR_M
    return int(chip.minx), int(chip.miny), int(chip.minx) + side, int(chip.miny) + side
