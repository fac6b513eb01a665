"""From 10 m composites and two checkpoints to 1 m ISA: whole tiles, and the same pixels on the test chips."""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from affine import Affine

from jointseg import grid, progress, raster
from jointseg.bands import count_own, filled
from jointseg.errors import DataError
from jointseg.inference import lattice
from jointseg.inference.blend import Bounds, blend
from jointseg.inference.lattice import LR_M, Window
from jointseg.inference.predictor import Predictor

log = logging.getLogger(__name__)

UNKNOWN = 255
# Windows kept for the chips that follow: those of two lattice rows of a reach some 15 km wide.
KEPT_WINDOWS = 64

Compute = Callable[[np.ndarray, np.ndarray], np.ndarray]
Result = tuple[Window, np.ndarray | None]
Kept = MutableMapping[Window, np.ndarray | None]


class Composites:
    """10 m composites of one zone, and their merged dates where the bands ask for them, read as reflectance and validity."""

    def __init__(self, paths: list[Path], bands: tuple[str, ...], merged: Sequence[Path] = ()) -> None:
        own = count_own(bands)
        self.mosaic = raster.Mosaic(paths)
        *self._bands, self._clear = _numbers(self.mosaic, (*bands[:own], "clear"))
        if self.mosaic.res_m != LR_M:
            raise DataError(f"{paths[0]} has {self.mosaic.res_m} m pixels; composites have {LR_M} m")
        self._merged, self._more = None, []
        if own < len(bands):
            if not merged:
                raise DataError(
                    f"the checkpoint reads merged dates ({bands[own]} ...) but none were made beside {paths[0]}; "
                    "set sentinel2.dates as it was for the dataset"
                )
            self._merged = raster.Mosaic(list(merged))
            self._more = _numbers(self._merged, bands[own:])

    def read(self, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
        """(uint16 [bands, h, w] reflectance x 10000, bool [h, w] seen clear at least once)."""
        array = self.mosaic.read(bounds, [*self._bands, self._clear])
        if self._merged is None:
            return array[:-1], array[-1] > 0
        return filled(np.concatenate([array[:-1], self._merged.read(bounds, self._more)])), array[-1] > 0

    def known(self, bounds: Bounds) -> np.ndarray:
        """bool [h, w]: seen clear at least once."""
        return self.mosaic.read(bounds, [self._clear])[0] > 0


def _numbers(mosaic: raster.Mosaic, bands: Sequence[str]) -> list[int]:
    """The numbers, from 1, of bands by name."""
    names = mosaic.descriptions
    if missing := [name for name in bands if name not in names]:
        raise DataError(f"{mosaic.paths[0]} has bands {names} but lacks {missing}; make the composites again with them")
    return [names.index(name) + 1 for name in bands]


def results(
    composites: Composites,
    rows: Iterable[list[Window]],
    compute: Compute,
    pool: Executor,
    batch: int,
    kept: Kept | None = None,
) -> Iterator[Result]:
    """What `compute` makes of each window, in order; None for windows without one known pixel.

    Each window is computed alone over its full extent, from whatever the composites hold there, so its result depends
    on the ground alone. One strip of windows is read at a time; `batch` windows are under way in the pool.
    """
    queue: deque[tuple[Window, Future[np.ndarray] | np.ndarray | None]] = deque()

    def oldest() -> Result:
        window, entry = queue.popleft()
        value = entry.result() if isinstance(entry, Future) else entry
        if kept is not None:
            kept[window] = value
        return window, value

    for row in rows:
        strip = (row[0].bounds[0], row[0].bounds[1], row[-1].bounds[2], row[0].bounds[3])
        made = {window: kept[window] for window in row if window in kept} if kept is not None else {}
        if len(made) < len(row):
            dn, known = composites.read(strip)
        for window in row:
            if window in made:
                queue.append((window, made[window]))
            else:
                cut = slice((window.bounds[0] - strip[0]) // LR_M, (window.bounds[2] - strip[0]) // LR_M)
                seen = known[:, cut].any()
                queue.append((window, pool.submit(compute, dn[:, :, cut], known[:, cut]) if seen else None))
            if len(queue) > batch:
                yield oldest()
    while queue:
        yield oldest()


def classes(
    composites: Composites,
    predictor: Predictor,
    bounds: Bounds,
    epsg: int,
    window_m: int,
    stride_m: int,
    batch: int,
    pool: Executor,
    kept: Kept | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """ISA of `bounds` in row bands: (first row, uint8 [1, rows, columns] of 0, 1 and 255 = unknown), 1 m pixels.

    Unknown is what was never seen clear, what no composite covers, and ground that belongs to another UTM zone.
    """
    minx, _, maxx, maxy = bounds
    found = results(composites, lattice.rows(bounds, window_m, stride_m), predictor.probability, pool, batch, kept)
    for row, values in blend(found, bounds, window_m, stride_m):
        rows = values.shape[1]
        band = (minx, maxy - row - rows, maxx, maxy - row)
        known = composites.known(band).repeat(LR_M, axis=0).repeat(LR_M, axis=1)
        known &= grid.owned(epsg, Affine(1, 0, minx, 0, -1, maxy - row), values.shape[1:])
        yield row, np.where(known, values >= predictor.threshold, UNKNOWN).astype(np.uint8)


def isa(
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

    Returns:
        Facts for the manifest: windows, device, threshold.
    """
    place = grid.parse_tile(tile, tile_km)
    if window_m > tile_km * 1000:
        raise DataError(f"window_m is {window_m}: it must not exceed the tile's {tile_km * 1000} m; take a smaller one")
    if tile not in {path.stem for path in composites}:
        raise DataError(f"tile {tile} has no composite among {[path.name for path in composites]}; make it first")
    predictor = Predictor.load(method, segmentation, superres)
    source = Composites(composites, predictor.bands, merged)
    if source.mosaic.crs != place.crs:
        raise DataError(f"{composites[0]} lies in {source.mosaic.crs} but tile {tile} in {place.crs}; make it again")
    height, width = place.shape(1)
    with (
        raster.Writer(
            isa,
            shape=(height, width),
            count=1,
            dtype="uint8",
            crs=place.crs,
            transform=place.transform(1),
            nodata=UNKNOWN,
            descriptions=("isa",),
        ) as writer,
        predictor.workers(threads) as pool,
        progress.bar(f"ISA {year} {tile}", height * width / 1e6, "km2") as bar,
    ):
        for row, values in classes(source, predictor, place.bounds, place.epsg, window_m, stride_m, batch, pool):
            writer.write(values, row, 0)
            bar.advance(values.size / 1e6)
    windows = sum(1 for _ in lattice.windows(place.bounds, window_m, stride_m))
    return {"windows": windows, "device": predictor.device.type, "threshold": predictor.threshold}


def isa_chips(
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
    predictor = Predictor.load(method, segmentation, superres)
    zones, more = by_zone(composites), by_zone(list(merged))
    with (
        raster.atomic(predictions) as folder,
        predictor.workers(threads) as pool,
        progress.bar("ISA of test chips", len(chips), "chip") as bar,
    ):
        folder.mkdir()
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
                bands = classes(source, predictor, bounds, epsg, window_m, stride_m, batch, pool, kept)
                raster.write(
                    folder / f"{name}.tif",
                    np.concatenate([values for _, values in bands], axis=1),
                    crs=f"EPSG:{epsg}",
                    transform=Affine(1, 0, bounds[0], 0, -1, bounds[3]),
                    nodata=UNKNOWN,
                    descriptions=("isa",),
                )
                bar.advance()
    return {"chips": len(chips), "device": predictor.device.type, "threshold": predictor.threshold}


class Recent(OrderedDict[Window, np.ndarray | None]):
    """The window results added last, at most `size` of them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __setitem__(self, window: Window, value: np.ndarray | None) -> None:
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
