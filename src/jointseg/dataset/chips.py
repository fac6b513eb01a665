"""Step `chips`: the rasters of a reach's chips: composite, registered and matched high-resolution image, labels."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine

from jointseg.area import grid
from jointseg.dataset import radiometric_match, registration
from jointseg.dataset.chip_composites import Composites
from jointseg.dataset.contract import CHIP_RASTERS, FRACTION_NODATA, HR_BANDS, REFLECTANCE_PER_DN, UNLABELLED
from jointseg.dataset.rasterize import FRACTION_BANDS, rasterize_fractions, rasterize_labels
from jointseg.dataset.scene_windows import SceneReader, SceneWindow, WindowRequest, resample_to_1m, resample_to_10m
from jointseg.dataset.scenes import load
from jointseg.raster import cog
from jointseg.raster.bands import MERGED_BANDS
from jointseg.runtime import process_pool
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import bar

# A chip up to this side is one block: no padding, and every reader of a chip reads all of it.
SINGLE_BLOCK_PX = 1024
# Fewest chips per worker: starting a process takes longer than fewer chips.
CHIPS_PER_WORKER = 50
# Chips queued per worker.
QUEUED_PER_WORKER = 3
# Columns of the pairs that are not in the index.
NOT_INDEXED = ["status", "path", "date", "rejected", *(f"gain_{band}" for band in HR_BANDS)]


def chips(
    *,
    samples: Path,
    pairs: Path,
    labels: Path,
    composites: Sequence[Path],
    jilin1: Path,
    deliveries: Path,
    chips: Path,
    index: Path,
    reach: str,
    chip_m: int,
    bands: Sequence[str],
    merged: Sequence[Path] = (),
    workers: int = 1,
) -> dict[str, Any]:
    """Write four rasters per chip and the index of the reach, for the paired samples.

    {id}_lr.tif: uint16 [bands, chip_m / 10, chip_m / 10], the composite, then the merged dates, reflectance x 10000.
    {id}_hr.tif: uint16 [3, chip_m, chip_m], the scene at 1 m, moved by its shift and matched to the composite per band
    with the scene's gain and the chip's offset; reflectance x 10000 of B04, B03, B02.
    {id}_label.tif: uint8 [1, chip_m, chip_m], 0 not impervious, 1 impervious, 255 unlabelled.
    {id}_fraction.tif: uint16 [1 + kinds, chip_m, chip_m], see `rasterize.rasterize_fractions`. In the first two, 0 is
    nodata.

    Every scene is read once, from north to south, while workers write the chips. Raises DataError if a band is missing,
    or a file of the pairs cannot be read.

    Args:
        deliveries: index of the scenes in the folder jilin1.
        bands: of the composite; B04, B03 and B02 among them.
        merged: the merged dates of the composites' tiles; their bands follow the composite's.
        workers: maximum number of processes; the files do not depend on it.
    """
    if missing := [name for name in HR_BANDS if name not in bands]:
        raise DataError(f"bands {list(bands)} lack {', '.join(missing)}, which the radiometric match needs")
    table = gpd.read_parquet(samples)
    paired = pd.read_parquet(pairs)
    table = table[table["reach"] == reach].drop(columns="geometry").merge(paired[paired["status"] == "ok"])
    scenes = {scene.id: scene for scene in load(deliveries)}
    if missing := sorted(set(table["scene_id"]) - set(scenes)):
        raise DataError(f"{deliveries} has no usable scene {missing[0]}, which {pairs} names; rerun step `pairing`")
    mosaics = Composites(composites, merged)
    names = (*bands, *(MERGED_BANDS if merged else ()))
    shapes = dict(list(gpd.read_parquet(labels).groupby("sample_id")))
    workers = min(workers, max(1, len(table) // CHIPS_PER_WORKER))
    statistics: dict[str, ChipStatistics] = {}
    read: dict[str, float] = {}
    # For one worker, a thread: a worker process takes seconds to start.
    pool = process_pool.spawn_pool(workers) if workers > 1 else ThreadPoolExecutor(1)
    with atomic_write(chips) as folder, bar(f"chips {reach}", len(table), "chip") as progress, pool:
        folder.mkdir()
        running: deque[tuple[str, Future[ChipStatistics]]] = deque()

        def collect(max_running: int) -> None:
            while len(running) > max_running:
                sample_id, future = running.popleft()
                statistics[sample_id] = future.result()
                progress.advance()

        for scene_id, rows in table.groupby("scene_id", sort=True):
            reader = SceneReader(jilin1, scenes[str(scene_id)])
            scene_rows = list(rows.itertuples())
            requests = [_request(row, chip_m, registration.PSF_MARGIN_M) for row in scene_rows]
            for number, window in reader.windows(requests):
                row = scene_rows[number]
                request = _request(row, chip_m)
                lr, clear = mosaics.chip(request.epsg, request.bounds, bands)
                gain = np.array([getattr(row, f"gain_{band}") for band in HR_BANDS])
                chip = ChipInputs(row.sample_id, request, window, lr, clear, gain, shapes.get(row.sample_id))
                running.append((row.sample_id, pool.submit(_write_chip, folder, chip, names)))
                collect(QUEUED_PER_WORKER * workers)
            read[str(scene_id)] = round(reader.decoded_px / reader.size_px, 4)
        collect(0)
    frame = _index(table.sort_values("sample_id"), statistics, chip_m)
    with atomic_write(index) as part:
        frame.to_parquet(part)
    return {"chips": len(frame), "read": read}


@dataclass(frozen=True)
class ChipInputs:
    sample_id: str
    request: WindowRequest  # its square, and the shift of its scene
    window: SceneWindow
    lr: np.ndarray  # uint16 [bands, h, w] of the composite, then of the merged dates, 0 for nodata
    clear: np.ndarray  # uint16 [h, w], number of clear observations of the composite
    gain: np.ndarray  # float64 [3], of its scene
    shapes: gpd.GeoDataFrame | None


@dataclass(frozen=True)
class ChipStatistics:
    """Statistics of a chip's pixels, which are columns of the index."""

    isa_fraction: float
    clear_min: float
    clear_median: float


def _request(row: Any, chip_m: int, margin_m: int = 0) -> WindowRequest:
    west, south = row.minx - margin_m, row.miny - margin_m
    side = chip_m + 2 * margin_m
    return WindowRequest(int(row.epsg), (west, south, west + side, south + side), (row.shift_x_m, row.shift_y_m))


def _write_chip(folder: Path, chip: ChipInputs, bands: Sequence[str]) -> ChipStatistics:
    west, _, _, north = chip.request.bounds
    values, hr_valid = resample_to_1m(chip.window, chip.request)
    degraded = resample_to_10m(chip.window, chip.request)
    ratio = registration.RATIO
    side = chip.clear.shape[0]
    dn = chip.lr[[list(bands).index(name) for name in HR_BANDS]]
    valid = np.all(dn > 0, axis=0) & hr_valid.reshape(side, ratio, side, ratio).all(axis=(1, 3))
    target = dn.astype(np.float32) * np.float32(REFLECTANCE_PER_DN)
    match = radiometric_match.fit_offset(
        radiometric_match.RadiometricMatch(chip.gain, np.zeros(len(chip.gain))), degraded, target, valid
    )
    labelled = (chip.shapes, chip.request.epsg, (west, north), side * ratio)
    label = rasterize_labels(*labelled)
    crs = f"EPSG:{chip.request.epsg}"
    fine, coarse = (Affine(pixel, 0, west, 0, -pixel, north) for pixel in (1, ratio))
    stem = f"{folder}/{chip.sample_id}"

    def write(kind: str, array: np.ndarray, transform: Affine, nodata: int, names: Sequence[str] = ()) -> None:
        path, block_px = Path(f"{stem}_{kind}.tif"), _block_px(array.shape[-1])
        cog.write(path, array, crs=crs, transform=transform, nodata=nodata, descriptions=names, block_px=block_px)

    write("lr", chip.lr, coarse, 0, bands)
    write("hr", _digital_numbers(values, hr_valid, match), fine, 0, HR_BANDS)
    write("label", label[None], fine, UNLABELLED)
    write("fraction", rasterize_fractions(*labelled), fine, FRACTION_NODATA, FRACTION_BANDS)
    classes = label[label != UNLABELLED]
    return ChipStatistics(
        isa_fraction=float((classes == 1).mean()) if classes.size else float("nan"),
        clear_min=float(chip.clear.min()),
        clear_median=float(np.median(chip.clear)),
    )


def _block_px(side_px: int) -> int:
    """Return the block size: the chip's side, as a multiple of 16 (TIFF) and at least 128 (COG), if small enough."""
    single = -(-max(side_px, 128) // 16) * 16
    return single if single <= SINGLE_BLOCK_PX else cog.BLOCK_PX


def _digital_numbers(values: np.ndarray, valid: np.ndarray, match: radiometric_match.RadiometricMatch) -> np.ndarray:
    """Return reflectance x 10000, uint16 [3, rows, columns], of a scene's values; 0 for nodata."""
    gain, offset = ((part * 1e4).astype(np.float32)[:, None, None] for part in (match.gain, match.offset))
    hr = values * gain + offset
    np.rint(hr, out=hr)
    np.clip(hr, 1, 65535, out=hr)
    hr[:, ~valid] = 0
    return hr.astype(np.uint16)


def _index(table: pd.DataFrame, statistics: dict[str, ChipStatistics], chip_m: int) -> gpd.GeoDataFrame:
    polygons = []
    for row in table.itertuples():
        square = shapely.box(row.minx, row.miny, row.minx + chip_m, row.miny + chip_m)
        polygons.append(grid.reproject(square, f"EPSG:{int(row.epsg)}", "EPSG:4326"))
    ids = table["sample_id"]
    stems = table["reach"] + "/" + ids
    index = table.drop(columns=["rank", *NOT_INDEXED]).reset_index(drop=True)
    index["hr_date"] = table["date"].to_numpy()
    for name in ChipStatistics.__dataclass_fields__:
        index[name] = [getattr(statistics[sample_id], name) for sample_id in ids]
    for kind in CHIP_RASTERS:
        index[kind] = (stems + f"_{kind}.tif").to_numpy()
    return gpd.GeoDataFrame(index, geometry=polygons, crs=4326)
