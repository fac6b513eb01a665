"""Step `composite`: write one cloud-free 10 m image per tile and year from the scenes of a list."""

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
from jointseg.sentinel2 import cloudless, clouds, register
from jointseg.sentinel2 import normalise as normalisation
from jointseg.sentinel2.merged_dates import write_merged_dates
from jointseg.sentinel2.observations import MaskSettings, Observation, ObservationReader, select_observations
from jointseg.sentinel2.readers import open_reader
from jointseg.sentinel2.reducers import IN_SEASON, METHODS, PADDED
from jointseg.sentinel2.response_cache import CachingReader
from jointseg.sentinel2.row_spool import REMOTE_ROWS, ROWS, RowSpool
from jointseg.sentinel2.scene import Scene, load_scenes
from jointseg.sentinel2.scene_windows import RES_M, window_bounds

log = logging.getLogger(__name__)

Fits = list[list[normalisation.Fit]]  # by scene and band


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
    """Write the composite: uint16, the bands as reflectance x 10000 (1..65534), then `clear`, `scene` and `season`.

    `clear` is the number of clear observations of a pixel; with fewer than `min_clear_observations` it is 0 and the
    bands are nodata (0). `scene` (medoid) is the 1-based index of the selected scene in the scene list. `season` (lists
    with scenes of the season padding) is 1 where the season itself sufficed, 2 where padding scenes were used. Raises
    DataError if a file of a scene is missing or damaged, or its CRS or size differs from the scene list.

    Settings are keys of the config section `sentinel2`.

    Args:
        source: of the scenes, as for the step `scenes`.
        response_cache: folder of cached server responses, removed when the composite is complete.
        reference: composite of the base year.
        merged: output COG of merged dates (see `merged_dates.write_merged_dates`).
    """
    if method not in METHODS:
        raise DataError(f"composite method {method!r} is not valid; choose one of {', '.join(METHODS)}")
    area = parse_tile(tile, tile_km)
    scene_list = load_scenes(scenes)
    if not scene_list:
        raise DataError(f"the scene list {scenes} is empty; delete it to rebuild it")
    reader = open_reader(source, archive, area, scene_list[0].level, parallel_requests, response_cache)
    masking = MaskSettings(
        scl_mask_classes, mask_dilation_m, swath_edge_buffer_m, cloud_score_plus_threshold, s2cloudless_threshold
    )
    observations = ObservationReader(reader, scene_list, bands, masking, area.bounds)
    observations.check()
    base = None if reference is None else _read_base(reference, area, bands)
    facts: dict[str, Any] = {"scenes": len(scene_list)}
    if coregister and (base is not None or len(scene_list) > 1):
        facts["registration"] = _register(observations, area, base, max_shift_m)
    rows, tags = ROWS if source["kind"] == "archive" else REMOTE_ROWS, {"year": str(year), "tile": tile}
    with tempfile.TemporaryFile(dir=composite.parent) as file:
        spool = RowSpool(file, len(scene_list), len(bands), area.shape(RES_M))
        with bar(f"reading {year} {tile}", len(scene_list), unit="scene") as progress:
            spool.fill(observations, area, rows, progress.advance)
        fits = None
        if (base is not None and normalise) or (dark_object_subtraction and scene_list[0].level == "L1C"):
            fits = _fit(spool, bands, base)
            facts["normalisation"] = {
                scene.id: [line.record() for line in lines] for scene, lines in zip(scene_list, fits)
            }
        facts["warped"] = dict(sorted(reader.warped.items()))
        if reader.graphs:
            facts["graphs"] = dict(sorted(reader.graphs.items()))
        composite_tags = tags | {"method": method} | _json_tags(scene_list, facts)
        facts |= _write(composite, area, spool, observations, method, min_clear_observations, fits, composite_tags)
        if merged is not None:
            registration, clear_px = facts.get("registration"), spool.clear_px
            facts |= write_merged_dates(
                merged, observations, clear_px, area, rows, tags, registration, fits, merged_dates
            )
    if isinstance(reader, CachingReader):
        reader.clear()
    return facts


def _json_tags(scenes: list[Scene], facts: dict[str, Any]) -> dict[str, str]:
    """Return the tags of the raster that describe its scenes, as JSON."""
    names = [name for name in ("registration", "normalisation", "warped") if facts.get(name)]
    records = {name: json.dumps(facts[name], sort_keys=True) for name in names}
    return {"scenes": json.dumps([scene.id for scene in scenes])} | records


def _write(
    path: Path,
    area: Tile,
    spool: RowSpool,
    observations: ObservationReader,
    method: str,
    min_clear_observations: int,
    fits: Fits | None,
    tags: dict[str, str],
) -> dict[str, Any]:
    """Combine the observations strip by strip and write the COG; return statistics for the manifest."""
    scenes, padded = observations.scenes, any(scene.in_padding for scene in observations.scenes)
    scene_band, season_band = ["scene"] if method == "medoid" else [], ["season"] if padded else []
    names = [*observations.bands, "clear", *scene_band, *season_band]
    valid = clear_observations = padded_px = 0
    with cog.open_writer(
        path,
        shape=spool.shape,
        count=len(names),
        dtype="uint16",
        crs=area.crs,
        transform=area.transform(RES_M),
        nodata=0,
        descriptions=names,
        tags=tags,
        overviews="average" if method == "median" else "nearest",
    ) as writer:
        for rows in track(spool.strips(), "combining", unit="strip"):
            stack = spool.read(rows)
            image = combine(stack, stack[:, 0] > 0, scenes, method, min_clear_observations, fits)
            writer.write(image, rows.start)
            counts = image[names.index("clear")]
            valid += int((counts > 0).sum())
            clear_observations += int(counts.sum(dtype=np.int64))
            padded_px += int((image[-1] == PADDED).sum()) if padded else 0
    pixels = spool.shape[0] * spool.shape[1]
    facts = {
        "valid_fraction": round(valid / pixels, 6),
        "mean_clear_observations": round(clear_observations / pixels, 4),
    }
    return facts | ({"padded_fraction": round(padded_px / pixels, 6)} if padded else {})


def combine(
    stack: np.ndarray,
    clear: np.ndarray,
    scenes: list[Scene],
    method: str,
    min_clear_observations: int,
    fits: Fits | None = None,
) -> np.ndarray:
    """Return the composite of the observations, uint16 [bands + 1 to 3, rows, columns].

    Args:
        stack: uint16 [scenes, bands, rows, columns], reflectance x 10000; with `fits` it is adjusted in place.
        clear: bool [scenes, rows, columns].
        method: a key of `reducers.METHODS`.
        fits: normalisation lines by scene and band.
    """
    if fits is not None:
        for layer, lines in zip(stack, fits):
            layer[:] = normalisation.apply_fits(layer, lines)
    minimum = max(min_clear_observations, 1)
    used, padded = select_observations(clear, scenes, minimum)
    image = METHODS[method](stack, used, minimum)
    if not any(scene.in_padding for scene in scenes):
        return image
    season = np.where(image[stack.shape[1]] > 0, np.where(padded, PADDED, IN_SEASON), 0)
    return np.concatenate([image, season[None].astype(np.uint16)])


def _register(
    observations: ObservationReader, area: Tile, base: np.ndarray | None, max_shift_m: float
) -> dict[str, Any]:
    """Set the registration shifts of the observations; return `Registration.record` by scene id."""
    windows = register.windows(area.shape(RES_M))

    def observe(index: int) -> list[Observation]:
        views = [observations.observe(index, window_bounds(area, *window)) for window in windows]
        observations.reader.close(observations.scenes[index])
        return views

    count = len(observations.scenes)
    with ThreadPoolExecutor(observations.reader.workers) as pool:
        scenes = list(track(pool.map(observe, range(count)), "registering", count, unit="scene"))
    stacks = [np.stack([views[k].reflectance for views in scenes]) for k in range(len(windows))]
    clears = [np.stack([views[k].clear for views in scenes]) for k in range(len(windows))]
    references = None if base is None else [base[(slice(None), *window)] for window in windows]
    results = register.register(stacks, clears, references, max_shift_m)
    for scene, result in zip(observations.scenes, results):
        if not result.usable:
            log.warning("scene %s is not registered and used without shift: %s", scene.id, result.reason)
    observations.set_shifts([(result.x_m, result.y_m) for result in results])
    return {scene.id: result.record() for scene, result in zip(observations.scenes, results)}


def _fit(spool: RowSpool, bands: list[str], base: np.ndarray | None) -> Fits:
    """Fit every scene to the base year's radiometry or, without one, to its darkest pixels.

    Scenes are fitted separately, not their composite: haze and illumination differ between dates, and otherwise the
    edges of a cloud mask would be visible in the composite. The fit uses every n-th row and column.
    """
    step = max(1, math.ceil(math.sqrt(math.prod(spool.shape) / normalisation.MAX_PIXELS)))
    sampled_rows = [slice(row, row + 1) for row in range(0, spool.shape[0], step)]
    sample = np.concatenate([spool.read(row)[..., ::step] for row in sampled_rows], axis=2)
    clear = sample[:, 0] > 0
    if base is None:
        fits = [normalisation.dark_object_fits(layer, mask, bands) for layer, mask in zip(sample, clear)]
    else:
        target = base[:, ::step, ::step]
        valid = clear & np.logical_and.reduce(target > 0)
        fits = [normalisation.fit_scene(layer, target, mask, bands) for layer, mask in zip(sample, valid)]
    return normalisation.fill_missing_fits(fits)


def _read_base(reference: Path, tile: Tile, bands: list[str]) -> np.ndarray:
    """Return the base year's composite of the same tile, uint16 [bands, rows, columns]."""
    base, transform, crs = raster_io.read(reference)
    with raster_io.open_raster(reference) as source:
        names = [name or "" for name in source.descriptions]
    if crs != tile.crs or transform != tile.transform(RES_M) or base.shape[1:] != tile.shape(RES_M):
        raise DataError(f"{reference} is not a composite of tile {tile.id}; expected the base year's of the same tile")
    missing = [name for name in bands if name not in names]
    if missing:
        raise DataError(f"{reference} has no band {missing[0]} (it has {', '.join(names)}); rebuild it")
    return base[[names.index(name) for name in bands]]
