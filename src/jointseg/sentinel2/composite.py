"""Step `composite`: one cloud-free 10 m image of a year and a tile from its listed scenes."""

import json
import logging
import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jointseg.area.grid import Tile, parse_tile
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.runtime.progress import bar, track
from jointseg.sentinel2 import archive as archives
from jointseg.sentinel2 import cloudless, clouds, earthengine, register, stac
from jointseg.sentinel2 import merged_dates as several
from jointseg.sentinel2 import normalise as relative
from jointseg.sentinel2 import scene as scene_list
from jointseg.sentinel2.observations import (
    MaskSettings,
    Observation,
    ObservationReader,
    SceneReader,
    select_observations,
)
from jointseg.sentinel2.reducers import IN_SEASON, METHODS, PADDED
from jointseg.sentinel2.response_cache import CachingReader
from jointseg.sentinel2.row_spool import REMOTE_ROWS, ROWS, RowSpool
from jointseg.sentinel2.scene import Scene
from jointseg.sentinel2.scene_windows import RES_M, FileReader, window_bounds

log = logging.getLogger(__name__)


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
    scl_mask_classes: list[int],
    mask_dilation_m: float,
    min_clear_observations: int = 1,
    swath_edge_buffer_m: float = 0.0,
    cloud_score_plus_threshold: float = clouds.CLOUD_SCORE_PLUS_THRESHOLD,
    s2cloudless_threshold: float = cloudless.CLOUD_PROBABILITY,
    coregister: bool = False,
    max_shift_m: float = 15.0,
    dark_object_subtraction: bool = False,
    normalise: bool = True,
    parallel_requests: int = 1,
    response_cache: str | None = None,
    archive: Path | None = None,
    reference: Path | None = None,
    merged: Path | None = None,
    merged_dates: int = 0,
) -> dict:
    """Writes the composite: uint16, the bands as reflectance x 10000 (1..65534), then `clear`, `scene` and `season`.

    `clear` counts the clear observations of a pixel; where there are fewer than `min_clear_observations` it is 0 and so
    are the bands: unknown. `scene` (medoid) is the place in the scene list, from 1, of the observation taken.
    `season` (lists with scenes of a widened season) is 1 where the season itself was enough, 2 where it was widened.

    Args:
        scenes: the frozen list of scenes.
        composite: the COG to write.
        year: year of the composite.
        tile: id of the tile.
        tile_km: side of the tile.
        source: where the scenes are read from, as for the step `scenes`.
        bands: bands in the order of the output.
        method: "median" of each band, or "medoid", the one observation nearest to all others.
        scl_mask_classes: classes of the scene classification that do not count as clear.
        mask_dilation_m: pixels nearer than this to a dropped class do not count either.
        min_clear_observations: clear observations that a pixel needs.
        swath_edge_buffer_m: pixels nearer than this to the edge of a granule or an orbit do not count.
        cloud_score_plus_threshold: Cloud Score+ from which a pixel is clear.
        s2cloudless_threshold: of s2cloudless, from which a pixel is cloud.
        coregister: shift every scene to the place that the dates have in common, or that of the reference.
        max_shift_m: a larger shift is not believed.
        dark_object_subtraction: without a reference, subtract haze by the darkest ground of each L1C scene.
        normalise: bring every scene to the radiometry of the reference.
        parallel_requests: reads at a time; they change no pixel.
        response_cache: folder in which answers of a server are kept until the composite is whole.
        archive: folder of the scenes, for archives.
        reference: composite of the base year.
        merged: the COG of merged dates to write beside the composite (see `merged_dates.write`).
        merged_dates: most dates that are merged.

    Raises:
        DataError: a file of a scene is missing, damaged, of another CRS or size than its scene's.
    """
    if method not in METHODS:
        raise DataError(f"composite method {method!r} is not known; take one of {', '.join(METHODS)}")
    place = parse_tile(tile, tile_km)
    listed = scene_list.load_scenes(scenes)
    if not listed:
        raise DataError(f"{scenes} lists no scene; delete it so that it is made again")
    reader = open_reader(source, archive, place, listed[0].level, parallel_requests, response_cache)
    clearness = MaskSettings(
        scl_mask_classes, mask_dilation_m, swath_edge_buffer_m, cloud_score_plus_threshold, s2cloudless_threshold
    )
    observer = ObservationReader(reader, listed, bands, clearness, place.bounds)
    observer.check()
    base = None if reference is None else _base(reference, place, bands)
    facts: dict[str, Any] = {"scenes": len(listed)}
    if coregister and (base is not None or len(listed) > 1):
        facts["registration"] = _register(observer, place, base, max_shift_m)
    with tempfile.TemporaryFile(dir=composite.parent) as file:
        spool = RowSpool(file, len(listed), len(bands), place.shape(RES_M))
        rows = ROWS if source["kind"] == "archive" else REMOTE_ROWS
        with bar(f"reading {year} {tile}", len(listed), unit="scene") as shown:
            spool.fill(observer, place, rows, lambda number: shown.advance())
        fits = None
        if (base is not None and normalise) or (dark_object_subtraction and listed[0].level == "L1C"):
            fits = _fits(spool, bands, base)
            facts["normalisation"] = {scene.id: [line.record() for line in lines] for scene, lines in zip(listed, fits)}
        facts |= _read_how(reader)
        names = _names(bands, method, listed)
        about = {"year": str(year), "tile": tile}
        with cog.Writer(
            composite,
            shape=place.shape(RES_M),
            count=len(names),
            dtype="uint16",
            crs=place.crs,
            transform=place.transform(RES_M),
            nodata=0,
            descriptions=names,
            tags=about | {"method": method} | _tags(listed, facts),
            overviews="average" if method == "median" else "nearest",
        ) as writer:
            facts |= _write(writer, spool, listed, names, method, min_clear_observations, fits)
        if merged is not None:
            found, seen = facts.get("registration"), spool.clear_px
            facts |= several.write_merged_dates(
                merged, observer, seen, bands, place, rows, about, found, fits, merged_dates
            )
    if isinstance(reader, CachingReader):
        reader.drop()
    return facts


def _read_how(reader: SceneReader) -> dict[str, Any]:
    """From where scenes were warped, and what a server was asked to compute, by scene."""
    graphs = {"graphs": dict(sorted(reader.graphs.items()))} if reader.graphs else {}
    return {"warped": dict(sorted(reader.warped.items())), **graphs}


def _tags(scenes: list[Scene], facts: dict[str, Any]) -> dict[str, str]:
    """What the raster itself tells of its scenes, as JSON."""
    told = {"scenes": json.dumps([scene.id for scene in scenes])}
    kept = [name for name in ("registration", "normalisation", "warped") if facts.get(name)]
    return told | {name: json.dumps(facts[name], sort_keys=True) for name in kept}


def _names(bands: list[str], method: str, scenes: list[Scene]) -> list[str]:
    """The bands of a composite."""
    wider = any(scene.wider for scene in scenes)
    return [*bands, "clear", *(["scene"] if method == "medoid" else []), *(["season"] if wider else [])]


def _write(
    writer: cog.Writer,
    spool: RowSpool,
    scenes: list[Scene],
    names: list[str],
    method: str,
    min_clear_observations: int,
    fits: list[list[relative.Fit]] | None,
) -> dict[str, Any]:
    """Combines and writes strip by strip; returns what the manifest tells of it."""
    known = looks = widened = 0
    for rows in track(spool.strips(), "combining", unit="strip"):
        stack = spool.read(rows)
        made = combine(stack, stack[:, 0] > 0, scenes, method, min_clear_observations, fits)
        writer.write(made, rows.start)
        counts = made[names.index("clear")]
        known, looks = known + int((counts > 0).sum()), looks + int(counts.sum(dtype=np.int64))
        widened += int((made[-1] == PADDED).sum()) if "season" in names else 0
    pixels = spool.shape[0] * spool.shape[1]
    facts = {"valid_fraction": round(known / pixels, 6), "mean_clear_observations": round(looks / pixels, 4)}
    return facts | ({"padded_fraction": round(widened / pixels, 6)} if "season" in names else {})


def combine(
    stack: np.ndarray,
    clear: np.ndarray,
    scenes: list[Scene],
    method: str,
    min_clear_observations: int,
    fits: list[list[relative.Fit]] | None = None,
) -> np.ndarray:
    """The composite of what the scenes saw, uint16 [bands + 1 to 3, rows, columns].

    Args:
        stack: uint16 [scenes, bands, rows, columns], reflectance x 10000; adjusted in place where there are fits.
        clear: bool [scenes, rows, columns].
        scenes: of the list.
        method: a key of combine.METHODS.
        min_clear_observations: observations that a pixel needs.
        fits: lines by scene and band.
    """
    if fits is not None:
        for layer, lines in zip(stack, fits):
            layer[:] = relative.apply_fits(layer, lines)
    needed = max(min_clear_observations, 1)
    used, widened = select_observations(clear, scenes, needed)
    made = METHODS[method](stack, used, needed)
    if not any(scene.wider for scene in scenes):
        return made
    known = made[stack.shape[1]] > 0
    return np.concatenate([made, np.where(known, np.where(widened, PADDED, IN_SEASON), 0)[None].astype(np.uint16)])


def open_reader(
    source: dict, archive: Path | None, tile: Tile, level: str, parallel_requests: int = 1, kept: str | None = None
) -> SceneReader:
    """The reader of a source, for a tile; `kept` is the folder in which a server's answers are kept."""
    if source["kind"] == "archive":
        reader: SceneReader = FileReader(archives.archive_root(source, archive), tile.epsg)
    elif source["kind"] == "stac":
        reader = stac.StacReader(source, tile.epsg, level)
    else:
        reader = earthengine.EarthEngineReader(source, tile.epsg)
    reader.workers = parallel_requests
    return reader if kept is None or source["kind"] == "archive" else CachingReader(reader, Path(kept))


def _register(observer: ObservationReader, place: Tile, base: np.ndarray | None, max_shift_m: float) -> dict[str, Any]:
    """Gives the observer the shifts that bring every scene to its place; returns what was measured, by scene."""
    windows = register.windows(place.shape(RES_M))

    def looks(number: int) -> list[Observation]:
        found = [observer.scene(number, window_bounds(place, *window)) for window in windows]
        observer.reader.close(observer.scenes[number])
        return found

    count = len(observer.scenes)
    with ThreadPoolExecutor(observer.reader.workers) as pool:
        seen = list(track(pool.map(looks, range(count)), "registering", count, unit="scene"))
    stacks = [np.stack([views[k].reflectance for views in seen]) for k in range(len(windows))]
    clears = [np.stack([views[k].clear for views in seen]) for k in range(len(windows))]
    references = None if base is None else [base[(slice(None), *window)] for window in windows]
    found = register.register(stacks, clears, references, max_shift_m)
    for scene, shift in zip(observer.scenes, found):
        if not shift.usable:
            log.warning("scene %s is used as it lies: %s", scene.id, shift.why)
    observer.move([(shift.x_m, shift.y_m) for shift in found])
    return {scene.id: shift.record() for scene, shift in zip(observer.scenes, found)}


def _fits(spool: RowSpool, bands: list[str], base: np.ndarray | None) -> list[list[relative.Fit]]:
    """Lines by scene and band: to the base year's radiometry, or without one to the darkest ground.

    Scenes are fitted one by one, not their composite: haze and light differ from date to date, and without
    this the edge of one date's cloud mask shows in the composite. They are fitted on every n-th pixel of the tile.

    Args:
        spool: what the scenes saw.
        bands: names of the bands.
        base: uint16 [bands, rows, columns] of the base year.
    """
    step = max(1, math.ceil(math.sqrt(math.prod(spool.shape) / relative.MAX_PIXELS)))
    every = [slice(row, row + 1) for row in range(0, spool.shape[0], step)]
    sample = np.concatenate([spool.read(row)[..., ::step] for row in every], axis=2)
    seen = sample[:, 0] > 0
    if base is None:
        return relative.fill_missing_fits(
            [relative.dark_object_fits(layer, clear, bands) for layer, clear in zip(sample, seen)]
        )
    there = base[:, ::step, ::step]
    known = seen & np.logical_and.reduce(there > 0)
    return relative.fill_missing_fits(
        [relative.fit_scene(layer, there, clear, bands) for layer, clear in zip(sample, known)]
    )


def _base(reference: Path, tile: Tile, bands: list[str]) -> np.ndarray:
    """uint16 [bands, rows, columns] of the base year's composite of the same tile."""
    base, transform, crs = raster_io.read(reference)
    with raster_io.open_raster(reference) as source:
        names = [name or "" for name in source.descriptions]
    if crs != tile.crs or transform != tile.transform(RES_M) or base.shape[1:] != tile.shape(RES_M):
        raise DataError(f"{reference} is not a composite of tile {tile.id}; give the base year's of the same tile")
    missing = [name for name in bands if name not in names]
    if missing:
        raise DataError(f"{reference} has no band {missing[0]} (it has {', '.join(names)}); make it again")
    return base[[names.index(name) for name in bands]]
