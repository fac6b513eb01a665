"""Select the dates of a tile for merging to 5 m pixels, and write the merged raster beside the composite."""

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jointseg.area.grid import Tile
from jointseg.raster import cog
from jointseg.raster.bands import MERGED_BANDS, RGB
from jointseg.runtime.errors import DataError
from jointseg.runtime.progress import track
from jointseg.sentinel2 import merge_frames
from jointseg.sentinel2 import normalise as normalisation
from jointseg.sentinel2.merge_frames import RADIUS_PX, Date
from jointseg.sentinel2.observations import ObservationReader
from jointseg.sentinel2.row_spool import RowSpool, row_strips
from jointseg.sentinel2.scene_windows import RES_M

log = logging.getLogger(__name__)

ROWS = 128  # rows of a strip that is merged


def write_merged_dates(
    path: Path,
    observations: ObservationReader,
    clear_px: Sequence[int],
    area: Tile,
    rows: int,
    tags: dict[str, str],
    registration: dict[str, Any] | None,
    fits: list[list[normalisation.Fit]] | None,
    count: int,
) -> dict[str, Any]:
    """Write at most `count` dates, merged: uint16, bands `bands.MERGED_BANDS`, reflectance x 10000, 0 is nodata.

    Their scenes are read again without subpixel resampling, which would remove the finest detail.

    Args:
        observations: of all scenes, with their registration shifts.
        clear_px: number of clear pixels of each scene.
        rows: of a scene that are read at once.
        registration: `Registration.record` by scene id; None if the scenes are not co-registered.
        fits: lines by scene and band.

    Returns:
        Facts for the manifest: the dates, and the fraction of the tile with at least one date.
    """
    bands = observations.bands
    if missing := [name for name in RGB if name not in bands]:
        raise DataError(f"merged_dates requires {', '.join(RGB)}; add {', '.join(missing)} to bands {bands}")
    shape, scenes = area.shape(RES_M), observations.scenes
    pixels = shape[0] * shape[1]
    dates = merge_frames.select_dates(candidate_dates(observations, clear_px, pixels, registration), count)
    if not dates:
        log.warning("no date of %s is registered: no dates are merged", area.id)
    records = [_record(date, observations) for date in dates]
    indices = sorted(index for date in dates for index in date.scenes)
    lines = None if fits is None else [[fits[index][bands.index(name)] for name in RGB] for index in indices]
    unresampled = ObservationReader(
        observations.reader,
        [scenes[index] for index in indices],
        list(RGB),
        observations.masking,
        area.bounds,
        [merge_frames.split_shift(observations.shifts[index])[0] for index in indices],
    )
    scenes_of_dates = [[indices.index(index) for index in date.scenes] for date in dates]
    valid = 0
    with (
        tempfile.TemporaryFile(dir=path.parent) as file,
        cog.open_writer(
            path,
            shape=shape,
            count=len(MERGED_BANDS),
            dtype="uint16",
            crs=area.crs,
            transform=area.transform(RES_M),
            nodata=0,
            descriptions=MERGED_BANDS,
            tags=tags | {"dates": json.dumps(records)},
            overviews="average",
        ) as writer,
    ):
        spool = RowSpool(file, len(indices), len(RGB), shape)
        spool.fill(unresampled, area, rows)
        for strip in track(row_strips(shape[0], ROWS), "merging dates", unit="strip") if dates else ():
            merged = merge_frames.merge_dates(_stack(spool, strip, scenes_of_dates, lines), dates)
            writer.write(merged, strip.start)
            valid += int((merged[0] > 0).sum())
    return {"dates": records, "merged_fraction": round(valid / pixels, 6)}


def _record(date: Date, observations: ObservationReader) -> dict[str, Any]:
    """Return a date for the manifest and the tags of the raster."""
    return {
        "scenes": [observations.scenes[index].id for index in date.scenes],
        "offset_m": list(date.offset_m),
        "clear_share": round(date.clear_fraction, 6),
        "quality": date.quality,
    }


def candidate_dates(
    observations: ObservationReader, clear_px: Sequence[int], pixels: int, registration: dict[str, Any] | None
) -> list[Date]:
    """Return the passes of the season with their registration; a pass without usable shift has quality 0."""
    dates = []
    for indices in observations.passes():
        if any(observations.scenes[index].in_padding for index in indices):
            continue
        clearest = max(indices, key=lambda index: clear_px[index])
        quality = 1.0
        if registration is not None:
            record = registration[observations.scenes[clearest].id]
            quality = record["quality"] if record["usable"] else 0.0
        clear = sum(clear_px[index] for index in indices) / pixels
        offset = merge_frames.split_shift(observations.shifts[clearest])[1]
        dates.append(Date(tuple(indices), offset, clear, quality))
    return dates


def _stack(
    spool: RowSpool, rows: slice, scenes_of_dates: list[list[int]], fits: list[list[normalisation.Fit]] | None
) -> np.ndarray:
    """Return the clear pixels of each date, uint16 [dates, 3, rows + 4, columns + 4], 0 outside the tile."""
    inside = slice(max(rows.start - RADIUS_PX, 0), min(rows.stop + RADIUS_PX, spool.shape[0]))
    stack = np.zeros((len(scenes_of_dates), len(RGB), inside.stop - inside.start, spool.shape[1]), dtype=np.uint16)
    for number, indices in enumerate(scenes_of_dates):
        for index in indices:
            scene = spool.read(inside, [index])[0]
            # Each pixel is clear in at most one granule of a pass, so the sum selects it.
            stack[number] += scene if fits is None else normalisation.apply_fits(scene, fits[index])
    above, below = inside.start - rows.start + RADIUS_PX, rows.stop + RADIUS_PX - inside.stop
    return np.pad(stack, ((0, 0), (0, 0), (above, below), (RADIUS_PX, RADIUS_PX)))
