"""Step `composite`: one cloud-free 10 m image of a year and a tile from its listed scenes."""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from jointseg import raster
from jointseg.errors import DataError
from jointseg.grid import Tile, parse_tile
from jointseg.progress import track
from jointseg.sentinel2 import archive as archives
from jointseg.sentinel2 import clouds, earthengine, normalise, stac
from jointseg.sentinel2 import scene as scene_list
from jointseg.sentinel2.combine import METHODS
from jointseg.sentinel2.pixels import RES_M, Files
from jointseg.sentinel2.scene import SCALE, Scene

log = logging.getLogger(__name__)
Bounds = tuple[float, float, float, float]
# uint16 [scenes, bands, rows, columns] reflectance x 10000; bool [scenes, rows, columns] clear.
Observed = tuple[np.ndarray, np.ndarray]

# Bytes of one block of rows over all scenes and bands; sorting takes about twice as much again.
BLOCK_BYTES = 256 << 20
# Value that the sensor gives where it saturates.
SATURATED_DN = 65535


class Reader(Protocol):
    """Delivers windows of scenes on the tile's 10 m lattice (see `pixels.Files`)."""

    warped: dict[str, str]
    workers: int

    def check(self, scene: Scene, bands: list[str]) -> None: ...

    def read(self, scene: Scene, keys: list[str], bounds: Bounds) -> np.ndarray: ...


def composite(
    *,
    scenes: Path,
    composite: Path,
    year: int | str,
    tile: str,
    tile_km: int,
    source: dict,
    bands: list[str],
    method: str,
    scl_drop: list[int],
    scl_buffer_m: float,
    min_clear: int = 1,
    dark_object: bool = False,
    archive: Path | None = None,
    reference: Path | None = None,
) -> dict:
    """Writes the composite: uint16, the bands as reflectance x 10000 (1..65534), then `clear`, and `scene`.

    `clear` counts the clear observations of a pixel; where there are fewer than `min_clear` it is 0 and so
    are the bands: unknown. `scene` (medoid) is the place in the scene list, from 1, of the observation taken.

    Args:
        scenes: the frozen list of scenes.
        composite: the COG to write.
        year: year of the composite.
        tile: id of the tile.
        tile_km: side of the tile.
        source: where the scenes are read from, as for the step `scenes`.
        bands: bands in the order of the output.
        method: "median" of each band, or "medoid", the one observation nearest to all others.
        scl_drop: classes of the scene classification that do not count as clear.
        scl_buffer_m: pixels nearer than this to a dropped class do not count either.
        min_clear: clear observations that a pixel needs.
        dark_object: without a reference, subtract haze by the darkest ground of each L1C scene.
        archive: folder of the scenes, for archives.
        reference: composite of the base year; given, every scene is first brought to its radiometry.

    Raises:
        DataError: a file of a scene is missing, damaged, of another CRS or size than its scene's.
    """
    if method not in METHODS:
        raise DataError(f"composite method {method!r} is not known; take one of {', '.join(METHODS)}")
    place = parse_tile(tile, tile_km)
    listed = scene_list.load(scenes)
    if not listed:
        raise DataError(f"{scenes} lists no scene; delete it so that it is made again")
    reader = _reader(source, archive, place, listed[0].level)
    for scene in listed:
        reader.check(scene, bands)
    blocks = list(_blocks(place, len(listed), len(bands)))

    @lru_cache(maxsize=1)  # a tile of one block is read once for both passes
    def observed(bounds: Bounds) -> Observed:
        return _observations(reader, listed, bands, bounds, scl_drop, scl_buffer_m)

    fits = None
    if reference is not None or (dark_object and listed[0].level == "L1C"):
        fits = _fits(((row, *observed(bounds)) for row, bounds in blocks), place, bands, reference)
    out = np.zeros((len(bands) + 1 + (method == "medoid"), *place.shape(RES_M)), dtype=np.uint16)
    for row, bounds in track(blocks, f"composite {year} {tile}", unit="block"):
        stack, clear = observed(bounds)
        if fits is not None:
            stack = np.stack([normalise.apply(layer, lines) for layer, lines in zip(stack, fits)])
        made = METHODS[method](stack, clear, max(min_clear, 1))
        out[:, row : row + made.shape[1]] = made

    tags = {"year": str(year), "tile": tile, "method": method, "scenes": json.dumps([scene.id for scene in listed])}
    facts: dict = {"scenes": len(listed), "warped": reader.warped}
    if fits is not None:
        facts["normalisation"] = {scene.id: [line.record() for line in lines] for scene, lines in zip(listed, fits)}
        tags["normalisation"] = json.dumps(facts["normalisation"])
    if reader.warped:
        tags["warped"] = json.dumps(reader.warped, sort_keys=True)
    raster.write(
        composite,
        out,
        crs=place.crs,
        transform=place.transform(RES_M),
        nodata=0,
        descriptions=[*bands, "clear", *(["scene"] if method == "medoid" else [])],
        tags=tags,
        overviews="average" if method == "median" else "nearest",
    )
    counts = out[len(bands)]
    facts["known_share"] = round(float((counts > 0).mean()), 6)
    facts["mean_clear"] = round(float(counts.mean()), 4)
    return facts


def _fits(
    blocks: Iterator[tuple[int, np.ndarray, np.ndarray]], place: Tile, bands: list[str], reference: Path | None
) -> list[list[normalise.Fit]]:
    """Lines by scene and band: to the base year's radiometry, or without one to the darkest ground."""
    sample, seen, step = _sample(blocks, place)
    if reference is None:
        fits = [normalise.dark_objects(layer, clear, bands) for layer, clear in zip(sample, seen)]
    else:
        base = _base(reference, place, bands)[:, ::step, ::step]
        known = seen & np.logical_and.reduce(base > 0)
        fits = [normalise.fit(layer, base, clear, bands) for layer, clear in zip(sample, known)]
    return normalise.shared(fits)


def _reader(source: dict, archive: Path | None, tile: Tile, level: str) -> Reader:
    if source["kind"] == "archive":
        return Files(archives.root_of(source, archive), tile.epsg)
    if source["kind"] == "stac":
        return stac.Urls(source, tile.epsg, level)
    return earthengine.Pixels(source, tile.epsg)


def _blocks(tile: Tile, scenes: int, bands: int) -> Iterator[tuple[int, Bounds]]:
    """(first row, bounds) of blocks of rows that fit the memory bound."""
    height, width = tile.shape(RES_M)
    rows = max(64, min(height, BLOCK_BYTES // (scenes * (bands + 1) * width * 2)))
    west, _, east, north = tile.bounds
    for row in range(0, height, rows):
        last = min(height, row + rows)
        yield row, (west, north - last * RES_M, east, north - row * RES_M)


def _observations(
    reader: Reader, scenes: list[Scene], bands: list[str], bounds: Bounds, drop: Sequence[int], buffer_m: float
) -> Observed:
    """What the scenes saw within bounds."""
    rows, cols = round((bounds[3] - bounds[1]) / RES_M), round((bounds[2] - bounds[0]) / RES_M)
    stack = np.zeros((len(scenes), len(bands), rows, cols), dtype=np.uint16)
    clear = np.zeros((len(scenes), rows, cols), dtype=bool)

    def observe(number: int) -> None:
        scene = scenes[number]
        dn = reader.read(scene, bands, bounds)
        seen = ((dn > 0) & (dn < SATURATED_DN)).all(axis=0)
        if seen.any() and scene.mask is not None:
            seen &= _unclouded(reader, scene, bounds, drop, buffer_m)
        stack[number], clear[number] = _reflectance(dn, scene), seen

    if reader.workers == 1:
        for number in range(len(scenes)):
            observe(number)
    else:  # reading waits for the network; each scene fills its own place, whichever comes first
        with ThreadPoolExecutor(reader.workers) as pool:
            list(pool.map(observe, range(len(scenes))))
    return stack, clear


def _unclouded(reader: Reader, scene: Scene, bounds: Bounds, drop: Sequence[int], buffer_m: float) -> np.ndarray:
    """Clear pixels of bounds; clouds outside them count by their buffer, so that the cut does not matter."""
    assert scene.mask is not None
    halo = int(np.ceil(buffer_m / RES_M))
    wide = (bounds[0] - halo * RES_M, bounds[1] - halo * RES_M, bounds[2] + halo * RES_M, bounds[3] + halo * RES_M)
    values = reader.read(scene, [scene.mask], wide)[0]
    clear = clouds.clear(clouds.classes(scene.mask, values, f"scene {scene.id}"), drop, buffer_m / RES_M)
    return clear[halo : clear.shape[0] - halo, halo : clear.shape[1] - halo]


def _reflectance(dn: np.ndarray, scene: Scene) -> np.ndarray:
    """Reflectance x 10000 of DN, at least 1: a dark pixel is not an unknown one."""
    value = dn.astype(np.int32) + scene.offset_dn
    if scene.scale != SCALE:
        value = np.rint(value * (scene.scale / SCALE)).astype(np.int32)
    return np.clip(value, 1, SATURATED_DN - 1).astype(np.uint16)


def _base(reference: Path, tile: Tile, bands: list[str]) -> np.ndarray:
    """uint16 [bands, rows, columns] of the base year's composite of the same tile."""
    base, transform, crs = raster.read(reference)
    with raster.opened(reference) as source:
        names = [name or "" for name in source.descriptions]
    if crs != tile.crs or transform != tile.transform(RES_M) or base.shape[1:] != tile.shape(RES_M):
        raise DataError(f"{reference} is not a composite of tile {tile.id}; give the base year's of the same tile")
    missing = [name for name in bands if name not in names]
    if missing:
        raise DataError(f"{reference} has no band {missing[0]} (it has {', '.join(names)}); make it again")
    return base[[names.index(name) for name in bands]]


def _sample(blocks: Iterator[tuple[int, np.ndarray, np.ndarray]], tile: Tile) -> tuple[np.ndarray, np.ndarray, int]:
    """(stack, clear, n): every n-th pixel of a tile's observations, on which its scenes are fitted.

    Scenes are fitted one by one, not their composite: haze and light differ from date to date, and without
    this the edge of one date's cloud mask shows in the composite.

    Args:
        blocks: (first row, stack, clear) of the tile, from the north.
    """
    rows, cols = tile.shape(RES_M)
    step = max(1, math.ceil(math.sqrt(rows * cols / normalise.MAX_PIXELS)))
    values, seen = [], []
    for row, stack, clear in blocks:
        first = -row % step
        values.append(stack[:, :, first::step, ::step])
        seen.append(clear[:, first::step, ::step])
    return np.concatenate(values, axis=2), np.concatenate(seen, axis=1), step
