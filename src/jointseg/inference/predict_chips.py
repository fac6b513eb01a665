"""Step `predict_chips`: prediction of the test chips only, for baselines without a full map."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
from affine import Affine
from torch import Tensor

from jointseg.inference import devices
from jointseg.inference.chip_extents import chip_bounds, group_by_zone
from jointseg.inference.composite_reader import CompositeReader
from jointseg.inference.lattice import Window
from jointseg.inference.predict import AreaPredictor
from jointseg.inference.predictor import Precision, Predictor
from jointseg.inference.products import FORMATS
from jointseg.raster import cog
from jointseg.runtime import progress
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

CACHED_WINDOWS = 64  # two lattice rows of a reach about 15 km wide


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
    """Predict every test chip: {sample_id}.tif, uint8 0, 1, 255 on the chip's 1 m grid, equal to the full map.

    `composites` are all tiles of the map year that the chips and their windows intersect, `merged` their merged dates.
    """
    chips = gpd.read_parquet(index)
    chips = chips[chips["split"] == "test"]
    composites_of, merged_of = group_by_zone(composites), group_by_zone(list(merged))
    storage = FORMATS["isa"]
    with (
        devices.claim_device() as device,
        atomic_write(predictions) as folder,
        progress.bar("ISA of test chips", len(chips), "chip") as bar,
    ):
        predictor = Predictor.load(method, segmentation, superres, precision, device)
        folder.mkdir()
        with predictor.workers(threads) as pool:
            area_predictor = AreaPredictor(predictor, window_m, stride_m, batch, pool)
            for epsg, group in chips.groupby("epsg", sort=True):
                if epsg not in composites_of:
                    raise DataError(
                        f"test chips are in EPSG:{epsg} but no composite is; build the composites of that zone"
                    )
                source = CompositeReader(composites_of[epsg], predictor.bands, merged_of.get(epsg, ()))
                cache: RecentResults = RecentResults(CACHED_WINDOWS)
                bounds_of = {chip.sample_id: chip_bounds(chip) for chip in group.itertuples()}
                order = sorted(
                    bounds_of, key=lambda name: (-(bounds_of[name][3] // stride_m), bounds_of[name][0], name)
                )
                for name in order:
                    bounds = bounds_of[name]
                    cog.write(
                        folder / f"{name}.tif",
                        area_predictor.predict_area(source, bounds, epsg, cache),
                        crs=f"EPSG:{epsg}",
                        transform=Affine(1, 0, bounds[0], 0, -1, bounds[3]),
                        nodata=storage.nodata,
                        descriptions=storage.bands,
                    )
                    bar.advance()
    return {"chips": len(chips), "device": device.type, "threshold": predictor.threshold}


class RecentResults(OrderedDict[Window, Tensor | None]):
    """The window results added last, at most `size` of them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __setitem__(self, window: Window, value: Tensor | None) -> None:
        super().__setitem__(window, value)
        self.move_to_end(window)
        while len(self) > self._size:
            self.popitem(last=False)
