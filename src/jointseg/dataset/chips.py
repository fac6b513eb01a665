"""Cuts the chips of a reach: composite, registered and matched high-resolution image, label."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
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
from jointseg.dataset.contract import FRACTION_NODATA, HR_BANDS, REFLECTANCE_PER_DN, UNLABELLED
from jointseg.dataset.rasterize import FRACTION_BANDS, rasterize_fractions, rasterize_labels
from jointseg.dataset.scene_windows import SceneReader, SceneWindow, WindowRequest, resample_to_1m, resample_to_10m
from jointseg.dataset.scenes import load
from jointseg.raster import cog
from jointseg.raster.bands import MERGED_BANDS
from jointseg.runtime import process_pool
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import bar

# A chip up to this side is one block: nothing is padded, and whoever reads a chip reads all of it.
WHOLE_PX = 1024
# A worker takes seconds to start, so that few chips are made without.
CHIPS_A_WORKER = 50
# Chips that wait for a worker, for each worker.
AHEAD = 3
# Columns of the pairs that the index of the chips has no use for.
UNINDEXED = ["status", "path", "date", "rejected", *(f"gain_{band}" for band in HR_BANDS)]


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
    """Writes four rasters a chip and the index of the reach, for the samples that were paired.

    {id}_lr.tif: uint16 [bands, chip_m / 10, chip_m / 10], the composite, then the merged dates, reflectance x 10000.
    {id}_hr.tif: uint16 [3, chip_m, chip_m], the scene at 1 m, moved by its shift, per band brought to the composite by
    the gain of its scene and an offset of its own, reflectance x 10000 of B04, B03, B02.
    {id}_label.tif: uint8 [1, chip_m, chip_m], 0 not impervious, 1 impervious, 255 unknown.
    {id}_fraction.tif: uint16 [1 + kinds, chip_m, chip_m], see burn.fractions.
    In the first two 0 is unknown.

    Every scene is read once, from north to south; chips are made while it is read.

    Args:
        deliveries: index of the scenes in the folder jilin1.
        chip_m: side of a chip.
        bands: of the composite; B04, B03 and B02 among them.
        merged: the merged dates beside the composites, whose bands follow the composite's.
        workers: most processes that make chips; their number changes no byte.

    Raises DataError when a band is missing, or a file of the pairs cannot be read.
    """
    if missing := [name for name in HR_BANDS if name not in bands]:
        raise DataError(f"bands {list(bands)} lack {', '.join(missing)}, which a scene is matched to")
    table = gpd.read_parquet(samples)
    paired = pd.read_parquet(pairs)
    table = table[table["reach"] == reach].drop(columns="geometry").merge(paired[paired["status"] == "ok"])
    scenes = {scene.id: scene for scene in load(deliveries)}
    mosaics = Composites(composites, merged)
    names = (*bands, *(MERGED_BANDS if merged else ()))
    shapes = dict(list(gpd.read_parquet(labels).groupby("sample_id")))
    workers = min(workers, max(1, len(table) // CHIPS_A_WORKER))
    made: dict[str, ChipStatistics] = {}
    read: dict[str, float] = {}
    with atomic_write(chips) as folder, bar(f"chips {reach}", len(table), "chip") as shown, _workers(workers) as pool:
        folder.mkdir()
        running: deque[tuple[str, Future[ChipStatistics]]] = deque()

        def collect(most: int) -> None:
            while len(running) > most:
                sample_id, future = running.popleft()
                made[sample_id] = future.result()
                shown.advance()

        for scene_id, rows in table.groupby("scene_id", sort=True):
            if scene_id not in scenes:
                raise DataError(f"{deliveries} has no usable scene {scene_id} of {pairs}; make the pairs again")
            reading = SceneReader(jilin1, scenes[str(scene_id)])
            all_rows = list(rows.itertuples())
            wanted = [_wanted(row, chip_m, registration.PSF_MARGIN_M) for row in all_rows]
            for number, raw in reading.windows(wanted):
                row = all_rows[number]
                lr, clear = mosaics.chip(int(row.epsg), _wanted(row, chip_m).bounds, bands)
                gain = np.array([getattr(row, f"gain_{band}") for band in HR_BANDS])
                chip = ChipInputs(row.sample_id, _wanted(row, chip_m), raw, lr, clear, gain, shapes.get(row.sample_id))
                running.append((row.sample_id, pool(_make, folder, chip, names)))
                collect(AHEAD * workers)
            read[str(scene_id)] = round(reading.pixels / reading.size, 4)
        collect(0)
    frame = _frame(table.sort_values("sample_id"), made, chip_m)
    with atomic_write(index) as part:
        frame.to_parquet(part)
    return {"chips": len(frame), "read": read}


@contextmanager
def _workers(number: int) -> Iterator[Callable[..., Future]]:
    """A function that has another one called, by one of some processes, or at once where one is enough."""
    if number == 1:
        yield _at_once
        return
    with process_pool.spawn_pool(number) as workers:
        try:
            yield workers.submit
        except BaseException:
            workers.shutdown(wait=True, cancel_futures=True)
            raise


def _at_once(function: Callable[..., Any], *arguments: Any) -> Future:
    future: Future = Future()
    future.set_result(function(*arguments))
    return future


@dataclass(frozen=True)
class ChipInputs:
    """What one chip is made of.

    Attributes:
        wanted: its square, and the shift of its scene.
        raw: the scene around it.
        lr: uint16 [bands, h, w] of the composite, then of the merged dates, 0 where unknown.
        clear: uint16 [h, w], how many clear observations the composite has.
        gain: float64 [3], of its scene.
        shapes: its label polygons, or None.
    """

    sample_id: str
    wanted: WindowRequest
    raw: SceneWindow
    lr: np.ndarray
    clear: np.ndarray
    gain: np.ndarray
    shapes: gpd.GeoDataFrame | None


@dataclass(frozen=True)
class ChipStatistics:
    """What the index tells of a chip's pixels."""

    isa_fraction: float
    clear_min: float
    clear_median: float


def _wanted(row: Any, chip_m: int, margin_m: int = 0) -> WindowRequest:
    west, south = row.minx - margin_m, row.miny - margin_m
    side = chip_m + 2 * margin_m
    return WindowRequest(int(row.epsg), (west, south, west + side, south + side), (row.shift_x_m, row.shift_y_m))


def _make(folder: Path, chip: ChipInputs, bands: Sequence[str]) -> ChipStatistics:
    """Writes the rasters of one chip."""
    west, _, _, north = chip.wanted.bounds
    values, seen = resample_to_1m(chip.raw, chip.wanted)
    degraded = resample_to_10m(chip.raw, chip.wanted)
    ratio = registration.RATIO
    side = chip.clear.shape[0]
    dn = chip.lr[[list(bands).index(name) for name in HR_BANDS]]
    known = np.all(dn > 0, axis=0) & seen.reshape(side, ratio, side, ratio).all(axis=(1, 3))
    target = dn.astype(np.float32) * np.float32(REFLECTANCE_PER_DN)
    match = radiometric_match.fit_offset(
        radiometric_match.RadiometricMatch(chip.gain, np.zeros(len(chip.gain))), degraded, target, known
    )
    place = (chip.shapes, chip.wanted.epsg, (west, north), side * ratio)
    label = rasterize_labels(*place)
    crs = f"EPSG:{chip.wanted.epsg}"
    fine, coarse = (Affine(pixel, 0, west, 0, -pixel, north) for pixel in (1, ratio))
    stem = f"{folder}/{chip.sample_id}"

    def write(kind: str, array: np.ndarray, transform: Affine, nodata: int, names: Sequence[str] = ()) -> None:
        path, block_px = Path(f"{stem}_{kind}.tif"), _block_px(array.shape[-1])
        cog.write(path, array, crs=crs, transform=transform, nodata=nodata, descriptions=names, block_px=block_px)

    write("lr", chip.lr, coarse, 0, bands)
    write("hr", _digital_numbers(values, seen, match), fine, 0, HR_BANDS)
    write("label", label[None], fine, UNLABELLED)
    write("fraction", rasterize_fractions(*place), fine, FRACTION_NODATA, FRACTION_BANDS)
    told = label[label != UNLABELLED]
    return ChipStatistics(
        isa_fraction=float((told == 1).mean()) if told.size else float("nan"),
        clear_min=float(chip.clear.min()),
        clear_median=float(np.median(chip.clear)),
    )


def _block_px(side_px: int) -> int:
    """Side of a raster's blocks: itself, in the multiples of 16 that TIFF has, at least the 128 that COGs have."""
    whole = -(-max(side_px, 128) // 16) * 16
    return whole if whole <= WHOLE_PX else cog.BLOCK_PX


def _digital_numbers(values: np.ndarray, seen: np.ndarray, match: radiometric_match.RadiometricMatch) -> np.ndarray:
    """Reflectance x 10000, uint16 [3, rows, columns], of a scene's values; 0 where it has none."""
    gain, offset = ((part * 1e4).astype(np.float32)[:, None, None] for part in (match.gain, match.offset))
    hr = values * gain + offset
    np.rint(hr, out=hr)
    np.clip(hr, 1, 65535, out=hr)
    hr[:, ~seen] = 0
    return hr.astype(np.uint16)


def _frame(table: pd.DataFrame, made: dict[str, ChipStatistics], chip_m: int) -> gpd.GeoDataFrame:
    polygons = []
    for row in table.itertuples():
        square = shapely.box(row.minx, row.miny, row.minx + chip_m, row.miny + chip_m)
        polygons.append(grid.reproject(square, f"EPSG:{int(row.epsg)}", "EPSG:4326"))
    ids = table["sample_id"]
    stems = table["reach"] + "/" + ids
    kept = table.drop(columns=["rank", *UNINDEXED]).reset_index(drop=True)
    kept["hr_date"] = table["date"].to_numpy()
    for fact in ("isa_fraction", "clear_min", "clear_median"):
        kept[fact] = [getattr(made[sample_id], fact) for sample_id in ids]
    for kind in ("lr", "hr", "label", "fraction"):
        kept[kind] = (stems + f"_{kind}.tif").to_numpy()
    return gpd.GeoDataFrame(kept, geometry=polygons, crs=4326)
