"""From 10 m composites and two checkpoints to 1 m maps of a tile, in one pass."""

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
from jointseg.inference.composite_reader import Composites, Seen, strips
from jointseg.inference.lattice import Window
from jointseg.inference.predictor import Precision, Predictor
from jointseg.inference.products import FORMS, Products
from jointseg.inference.row_bands import Bands
from jointseg.inference.stage_times import stage
from jointseg.provenance.cache_key import cache_key
from jointseg.raster import cog_from_rows
from jointseg.raster import io as raster_io
from jointseg.runtime import progress
from jointseg.runtime.errors import DataError

log = logging.getLogger(__name__)

Compute = Callable[[np.ndarray, np.ndarray], Tensor]
Result = tuple[Window, Tensor | None]
Kept = MutableMapping[Window, Tensor | None]


def results(
    composites: Composites,
    rows: Iterable[list[Window]],
    compute: Compute,
    pool: Executor,
    batch: int,
    seen: Seen | None = None,
    kept: Kept | None = None,
) -> Iterator[Result]:
    """What `compute` makes of each window, in order; None for windows without one known pixel.

    Each window is computed alone over its full extent, from whatever the composites hold there, so its result depends
    on the ground alone. The row of windows that comes next is read ahead; `batch` windows are under way in the pool.

    Args:
        seen: is told which ground was seen clear, a row of windows at a time.
        kept: results that need not be computed again; new ones are added.

    Raises:
        DataError: a composite cannot be read, the networks gave something that is not a number, or one window alone does
            not fit the GPU's memory.
    """
    queue: deque[tuple[Window, Future[Tensor] | Tensor | None, tuple[np.ndarray, np.ndarray]]] = deque()
    depth = batch

    def oldest() -> Result:
        nonlocal depth
        window, entry, ground = queue.popleft()
        try:
            value = entry.result() if isinstance(entry, Future) else entry
        except torch.cuda.OutOfMemoryError:
            wait([other for _, other, _ in queue if isinstance(other, Future)])
            torch.cuda.empty_cache()
            if depth:
                log.warning("the GPU's memory held no %d windows at a time: one at a time from here", depth)
            depth = 0
            value = _alone(compute, window, ground)
        # A sum is no number where one of its terms is none; it costs a tenth of looking at each of them.
        if value is not None and not bool(torch.isfinite(value.sum())):
            west, south, east, north = window.bounds
            raise DataError(
                f"the networks gave values that are no numbers in the window {west}-{east} E, {south}-{north} N; "
                "train the checkpoints again, or take inference.precision fp32"
            )
        if kept is not None:
            kept[window] = value
        return window, value

    for row, strip in strips(composites, rows):
        if seen is not None:
            seen.keep(strip)
        for window in row:
            dn, known = strip.of(window.bounds)
            entry: Future[Tensor] | Tensor | None = None
            if kept is not None and window in kept:
                entry = kept[window]
            elif known.any():
                entry = pool.submit(compute, dn, known)
            queue.append((window, entry, (dn, known)))
            if len(queue) > depth:
                yield oldest()
    while queue:
        yield oldest()


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes on one CPU thread in this one, which blends and writes; the windows have threads of their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alone(compute: Compute, window: Window, ground: tuple[np.ndarray, np.ndarray]) -> Tensor:
    try:
        return compute(*ground)
    except torch.cuda.OutOfMemoryError as error:
        side = window.bounds[2] - window.bounds[0]
        raise DataError(
            f"one window of {side} m does not fit the GPU's memory; take a smaller inference.window_m"
        ) from error


@dataclass(frozen=True)
class Mapper:
    """Networks and how they are worked: what maps any ground.

    Attributes:
        predictor: the networks.
        window_m, stride_m: the lattice.
        batch: windows under way at a time; changes no pixel.
        pool: in which they are computed, as `Predictor.workers` gives it.
    """

    predictor: Predictor
    window_m: int
    stride_m: int
    batch: int
    pool: Executor

    def pieces(
        self, composites: Composites, products: Products, bounds: Bounds, epsg: int, kept: Kept | None = None
    ) -> Iterator[tuple[Bounds, dict[str, np.ndarray]]]:
        """The products of `bounds`, piece by piece from north to south and west to east: see `blend` and `Products.finished`.

        Unknown is what was never seen clear, what no composite covers, and ground that belongs to another UTM zone.
        """

        def compute(dn: np.ndarray, known: np.ndarray) -> Tensor:
            return products.blended(*self.predictor.window(dn, known, products.image))

        seen, rows = Seen(), lattice.rows(bounds, self.window_m, self.stride_m)
        found = results(composites, rows, compute, self.pool, self.batch, seen, kept)
        device = self.predictor.device
        for place, values in blend(found, bounds, self.window_m, self.stride_m, products.channels, device):
            west, south, east, north = place
            with stage("finish"):
                owned = grid.own_zone_mask(epsg, Affine(1, 0, west, 0, -1, north), (north - south, east - west))
                made = products.finished(values, seen.of(place), owned)
            yield place, made

    def whole(self, composites: Composites, bounds: Bounds, epsg: int, kept: Kept | None = None) -> np.ndarray:
        """The map's pixels of small bounds: uint8 [1, rows, columns] of 0, 1 and 255 = unknown."""
        products = Products(["isa"], self.predictor.threshold)
        found = self.pieces(composites, products, bounds, epsg, kept)
        return np.concatenate([rows["isa"].copy() for rows in _rows(found, bounds)], axis=1)


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
    """The 1 m ISA map of one tile: COG uint8, 0 not impervious, 1 impervious, 255 unknown.

    Args:
        composites: those of the tile and of its neighbours, as far as they exist.
        segmentation, superres: the checkpoints; `superres` goes with method "superres" alone.
        isa: the map to write.
        method: "superres" or "bilinear", what makes the 1 m image that is segmented.
        window_m, stride_m: the lattice; no window may be larger than the tile.
        batch: windows under way at a time; more hides the time of reading and blending behind the networks.
        threads: windows computed side by side, each on one CPU thread.
        merged: the merged dates beside the composites, for checkpoints that read them.
        probability, disagreement, rgb: COGs to write in the same pass, see `products.FORMS`; none where left out.
        precision: of the networks' arithmetic.
        state: folder of finished rows, so that a killed job goes on where it was; nothing is kept without it.

    Returns:
        Facts for the manifest: windows, device, threshold, rows that an earlier try had finished.
    """
    wanted = {"isa": isa, "probability": probability, "disagreement": disagreement, "rgb": rgb}
    paths = {name: path for name, path in wanted.items() if path is not None}
    place = grid.parse_tile(tile, tile_km)
    if window_m > tile_km * 1000:
        raise DataError(f"window_m is {window_m}: it must not exceed the tile's {tile_km * 1000} m; take a smaller one")
    if tile not in {path.stem for path in composites}:
        raise DataError(f"tile {tile} has no composite among {[path.name for path in composites]}; make it first")
    with devices.claimed() as device, raster_io.limit_block_cache(), one_thread():
        predictor = Predictor.load(method, segmentation, superres, precision, device)
        source = Composites(composites, predictor.bands, merged)
        if source.mosaic.crs != place.crs:
            raise DataError(
                f"{composites[0]} lies in {source.mosaic.crs} but tile {tile} in {place.crs}; make it again"
            )
        products = Products(list(paths), predictor.threshold)
        read = [*composites, *merged, segmentation, *([superres] if superres is not None else [])]
        told = {"tile": tile, "lattice": [window_m, stride_m], "products": products.names, "precision": precision}
        told |= {"method": method, "torch": torch.__version__, "device": device.type}
        height, width = place.shape(1)
        sizes = {name: len(FORMS[name].bands) * np.dtype(FORMS[name].dtype).itemsize * width for name in paths}
        with Bands(Path(state) if state else None, cache_key(__name__, read, told), sizes) as bands:
            done = bands.rows
            if done:
                log.info("%d of %d rows are finished already", done, height)
            with (
                predictor.workers(threads) as pool,
                progress.bar(f"ISA {year} {tile}", height * width / 1e6, "km2") as bar,
            ):
                bar.advance(done * width / 1e6)
                minx, miny, maxx, maxy = place.bounds
                left = (minx, miny, maxx, maxy - done)
                mapper = Mapper(predictor, window_m, stride_m, batch, pool)
                for rows in _rows(mapper.pieces(source, products, left, place.epsg), left):
                    with stage("keep rows"):
                        bands.append(rows)
                    bar.advance(rows["isa"].size / 1e6)
            with stage("encode and write"):
                _publish(bands, paths, place, threads)
    windows = sum(1 for _ in lattice.windows(place.bounds, window_m, stride_m))
    return {"windows": windows, "device": device.type, "threshold": predictor.threshold, "resumed_rows": done}


def _publish(bands: Bands, paths: dict[str, Path], place: grid.Tile, threads: int) -> None:
    """Makes the COGs of a tile out of its finished rows."""
    for name, path in paths.items():
        form = FORMS[name]
        cog_from_rows.write(
            path,
            bands.path(name),
            shape=place.shape(1),
            bands=form.bands,
            dtype=form.dtype,
            crs=place.crs,
            transform=place.transform(1),
            nodata=form.nodata,
            overviews=form.overviews,
            scale=form.scale,
            threads=threads,
        )


def _rows(found: Iterable[tuple[Bounds, dict[str, np.ndarray]]], bounds: Bounds) -> Iterator[dict[str, np.ndarray]]:
    """Pieces joined to rows over the whole width of the bounds; rows are only good until the next ones are asked for."""
    minx, _, maxx, _ = bounds
    room: dict[str, np.ndarray] = {}
    for (west, _, east, _), arrays in found:
        for name, array in arrays.items():
            count, rows, _ = array.shape
            if name not in room or rows > room[name].shape[1]:
                room[name] = np.empty((count, rows, maxx - minx), dtype=array.dtype)
            room[name][:, :rows, west - minx : east - minx] = array
        if east == maxx:
            yield {name: whole[:, :rows] for name, whole in room.items()}
