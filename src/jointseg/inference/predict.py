"""Step `predict`: 1 m maps of a tile from 10 m composites and two checkpoints, in one pass."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from affine import Affine
from torch import Tensor

from jointseg.area import grid
from jointseg.inference import devices, lattice
from jointseg.inference.blending import Bounds, blend
from jointseg.inference.composite_reader import CompositeReader, ValidityBuffer, read_strips
from jointseg.inference.lattice import Window
from jointseg.inference.predictor import Precision, Predictor
from jointseg.inference.products import FORMATS, Products
from jointseg.inference.row_bands import RowBandStore
from jointseg.inference.stage_times import stage
from jointseg.provenance.cache_key import cache_key
from jointseg.raster import cog_from_rows
from jointseg.raster import io as raster_io
from jointseg.runtime import progress
from jointseg.runtime.errors import DataError

log = logging.getLogger(__name__)

Compute = Callable[[np.ndarray, np.ndarray], Tensor]
Pixels = tuple[np.ndarray, np.ndarray]  # dn and validity of a window
Result = tuple[Window, Tensor | None]
ResultCache = MutableMapping[Window, Tensor | None]


def window_results(
    composites: CompositeReader,
    rows: Iterable[list[Window]],
    compute: Compute,
    pool: Executor,
    batch: int,
    validity: ValidityBuffer | None = None,
    cache: ResultCache | None = None,
) -> Iterator[Result]:
    """Yield the result of each window in order; None for windows without a valid pixel.

    Each window is computed separately over its full extent, so its result depends only on the composites there. The
    next row of windows is read ahead; `batch` windows are in the pool at a time. Raises DataError if a composite cannot
    be read, the networks return non-finite values, or a single window exceeds the GPU memory.

    Args:
        compute: returns the result of a window's dn and validity.
        validity: receives the validity of each row of windows.
        cache: results to reuse; new ones are added.
    """
    queue: deque[tuple[Window, Future[Tensor] | Tensor | None, Pixels]] = deque()
    depth = batch

    def finish_oldest() -> Result:
        nonlocal depth
        window, entry, pixels = queue.popleft()
        try:
            value = entry.result() if isinstance(entry, Future) else entry
        except torch.cuda.OutOfMemoryError:
            wait([pending for _, pending, _ in queue if isinstance(pending, Future)])
            torch.cuda.empty_cache()
            if depth:
                log.warning("%d windows at a time exceed the GPU memory: continuing with one at a time", depth)
            depth = 0
            value = _compute_single(compute, window, pixels)
        # A sum is non-finite if any term is; it takes a tenth of the time of testing each term.
        if value is not None and not bool(torch.isfinite(value.sum())):
            west, south, east, north = window.bounds
            raise DataError(
                f"the networks returned non-finite values in the window {west}-{east} E, {south}-{north} N; "
                "retrain the checkpoints or set inference.precision to fp32"
            )
        if cache is not None:
            cache[window] = value
        return window, value

    for row, strip in read_strips(composites, rows):
        if validity is not None:
            validity.add(strip)
        for window in row:
            dn, valid = strip.crop(window.bounds)
            entry: Future[Tensor] | Tensor | None = None
            if cache is not None and window in cache:
                entry = cache[window]
            elif valid.any():
                entry = pool.submit(compute, dn, valid)
            queue.append((window, entry, (dn, valid)))
            if len(queue) > depth:
                yield finish_oldest()
    while queue:
        yield finish_oldest()


@contextmanager
def single_torch_thread() -> Iterator[None]:
    """Limit PyTorch to one CPU thread in this thread, which blends and writes; the windows have their own threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compute_single(compute: Compute, window: Window, pixels: Pixels) -> Tensor:
    try:
        return compute(*pixels)
    except torch.cuda.OutOfMemoryError as error:
        side = window.bounds[2] - window.bounds[0]
        raise DataError(f"one window of {side} m exceeds the GPU memory; reduce inference.window_m") from error


@dataclass(frozen=True)
class AreaPredictor:
    """Predicts maps of any bounds."""

    predictor: Predictor
    # window_m, stride_m: of the lattice
    window_m: int
    stride_m: int
    batch: int  # windows in the pool at a time; does not change any pixel
    pool: Executor  # from `Predictor.workers`

    def predict_pieces(
        self,
        composites: CompositeReader,
        products: Products,
        bounds: Bounds,
        epsg: int,
        cache: ResultCache | None = None,
    ) -> Iterator[tuple[Bounds, dict[str, np.ndarray]]]:
        """Yield the products of `bounds` in pieces, north to south and west to east: see `blend` and `Products.finalise`.

        Pixels without clear observation, outside the composites or in another UTM zone are nodata.
        """

        def compute(dn: np.ndarray, valid: np.ndarray) -> Tensor:
            return products.blend_channels(*self.predictor.predict_window(dn, valid, products.image))

        validity, rows = ValidityBuffer(), lattice.rows(bounds, self.window_m, self.stride_m)
        results = window_results(composites, rows, compute, self.pool, self.batch, validity, cache)
        device = self.predictor.device
        for piece, values in blend(results, bounds, self.window_m, self.stride_m, products.channels, device):
            west, south, east, north = piece
            with stage("finish"):
                owned = grid.own_zone_mask(epsg, Affine(1, 0, west, 0, -1, north), (north - south, east - west))
                pixels = products.finalise(values, validity.crop(piece), owned)
            yield piece, pixels

    def predict_area(
        self, composites: CompositeReader, bounds: Bounds, epsg: int, cache: ResultCache | None = None
    ) -> np.ndarray:
        """Return the map of small bounds: uint8 [1, rows, columns] of 0, 1 and 255 (nodata)."""
        products = Products(["isa"], self.predictor.threshold)
        pieces = self.predict_pieces(composites, products, bounds, epsg, cache)
        return np.concatenate([rows["isa"].copy() for rows in _join_rows(pieces, bounds)], axis=1)


def predict(
    *,
    composites: list[Path],
    segmentation: Path,
    isa: Path,
    year: str,
    tile: str,
    tile_km: int,
    method: str,
    window_m: int,
    stride_m: int,
    batch: int,
    threads: int,
    superres: Path | None = None,
    merged: Sequence[Path] = (),
    probability: Path | None = None,
    disagreement: Path | None = None,
    rgb: Path | None = None,
    precision: Precision = "fp32",
    state: str | None = None,
) -> dict[str, Any]:
    """Write the 1 m ISA map of one tile: COG uint8, 0 not impervious, 1 impervious, 255 nodata.

    Args:
        composites: of the tile and of its existing neighbours.
        segmentation, superres: checkpoints; `superres` only with method "superres".
        year: for messages.
        method: "superres" or "bilinear", how the 1 m image that is segmented is made.
        window_m, stride_m: of the lattice; a window must not be larger than the tile.
        batch: windows in the pool at a time; more windows hide the time of reading and blending.
        threads: windows computed in parallel, each on one CPU thread.
        merged: merged dates of the composites, for checkpoints that need them.
        probability, disagreement, rgb: optional output COGs of the same pass, see `products.FORMATS`.
        state: folder of finished rows, from which an interrupted job resumes; None disables resuming.

    Returns:
        Facts for the manifest: windows, device, threshold, rows resumed from an earlier attempt.
    """
    outputs = {"isa": isa, "probability": probability, "disagreement": disagreement, "rgb": rgb}
    paths = {name: path for name, path in outputs.items() if path is not None}
    extent = grid.parse_tile(tile, tile_km)
    if window_m > tile_km * 1000:
        raise DataError(f"window_m is {window_m}; it must not exceed the tile's {tile_km * 1000} m; reduce it")
    if tile not in {path.stem for path in composites}:
        raise DataError(f"tile {tile} is not among the composites {[path.name for path in composites]}; add it")
    with devices.claim_device() as device, raster_io.limit_block_cache(), single_torch_thread():
        predictor = Predictor.load(method, segmentation, superres, precision, device)
        source = CompositeReader(composites, predictor.bands, merged)
        if source.mosaic.crs != extent.crs:
            raise DataError(f"{composites[0]} is in {source.mosaic.crs} but tile {tile} in {extent.crs}; rebuild it")
        products = Products(list(paths), predictor.threshold)
        inputs = [*composites, *merged, segmentation, *([superres] if superres is not None else [])]
        settings = {"tile": tile, "lattice": [window_m, stride_m], "products": products.names, "precision": precision}
        settings |= {"method": method, "torch": torch.__version__, "device": device.type}
        height, width = extent.shape(1)
        sizes = {name: len(FORMATS[name].bands) * np.dtype(FORMATS[name].dtype).itemsize * width for name in paths}
        with RowBandStore(Path(state) if state else None, cache_key(__name__, inputs, settings), sizes) as store:
            resumed = store.rows
            if resumed:
                log.info("resuming after %d of %d rows", resumed, height)
            with (
                predictor.workers(threads) as pool,
                progress.bar(f"ISA {year} {tile}", height * width / 1e6, "km2") as bar,
            ):
                bar.advance(resumed * width / 1e6)
                minx, miny, maxx, maxy = extent.bounds
                remaining = (minx, miny, maxx, maxy - resumed)
                area_predictor = AreaPredictor(predictor, window_m, stride_m, batch, pool)
                pieces = area_predictor.predict_pieces(source, products, remaining, extent.epsg)
                for rows in _join_rows(pieces, remaining):
                    with stage("store rows"):
                        store.append(rows)
                    bar.advance(rows["isa"].size / 1e6)
            with stage("encode and write"):
                _write_cogs(store, paths, extent, threads)
    windows = sum(1 for _ in lattice.windows(extent.bounds, window_m, stride_m))
    return {"windows": windows, "device": device.type, "threshold": predictor.threshold, "resumed_rows": resumed}


def _write_cogs(store: RowBandStore, paths: dict[str, Path], extent: grid.Tile, threads: int) -> None:
    for name, path in paths.items():
        layout: dict[str, Any] = {"shape": extent.shape(1), "crs": extent.crs, "transform": extent.transform(1)}
        cog_from_rows.write(path, store.path(name), threads=threads, **layout, **vars(FORMATS[name]))


def _join_rows(
    pieces: Iterable[tuple[Bounds, dict[str, np.ndarray]]], bounds: Bounds
) -> Iterator[dict[str, np.ndarray]]:
    """Join pieces to rows over the full width of the bounds; rows are valid only until the next ones are requested."""
    minx, _, maxx, _ = bounds
    buffers: dict[str, np.ndarray] = {}
    for (west, _, east, _), arrays in pieces:
        for name, array in arrays.items():
            count, rows, _ = array.shape
            if name not in buffers or rows > buffers[name].shape[1]:
                buffers[name] = np.empty((count, rows, maxx - minx), dtype=array.dtype)
            buffers[name][:, :rows, west - minx : east - minx] = array
        if east == maxx:
            yield {name: buffer[:, :rows] for name, buffer in buffers.items()}
