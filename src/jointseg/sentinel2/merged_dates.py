"""Which dates of a tile are merged to 5 m pixels, and the raster of them beside the composite."""

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
from jointseg.sentinel2 import normalise as relative
from jointseg.sentinel2.merge_frames import RADIUS_PX, Date
from jointseg.sentinel2.observations import ObservationReader
from jointseg.sentinel2.row_spool import RowSpool, row_strips
from jointseg.sentinel2.scene_windows import RES_M

log = logging.getLogger(__name__)

ROWS = 128  # that are merged at a time


def write_merged_dates(
    path: Path,
    observer: ObservationReader,
    clear_px: Sequence[int],
    bands: list[str],
    place: Tile,
    rows: int,
    tags: dict[str, str],
    registration: dict[str, Any] | None,
    fits: list[list[relative.Fit]] | None,
    count: int,
) -> dict[str, Any]:
    """Writes the best dates, at most `count`, merged: uint16 bands of `bands.MERGED`, reflectance x 10000, 0 unknown.

    Their scenes are read again, this time as they lie: to resample them would cost the finest waves.

    Args:
        path: the COG to write.
        observer: of all scenes, as registered.
        clear_px: clear pixels of each scene.
        bands: of the fits; B04, B03 and B02 among them.
        place: the tile.
        rows: of a scene that are read at a time.
        tags: text to keep in the raster.
        registration: what was found of each scene, where dates were registered.
        fits: lines by scene and band.
        count: most dates.

    Returns:
        Facts for the manifest: the dates, and the share of the tile that any of them shows.
    """
    if lacking := [name for name in RGB if name not in bands]:
        raise DataError(f"bands {bands} lack {', '.join(lacking)}, which dates are merged in; add them")
    shape, scenes = place.shape(RES_M), observer.scenes
    chosen = merge_frames.select_dates(candidate_dates(observer, clear_px, shape[0] * shape[1], registration), count)
    if not chosen:
        log.warning("no date of %s could be registered: nothing is merged", place.id)
    told = [
        {"scenes": [scenes[number].id for number in date.scenes], "offset_m": list(date.offset_m)}
        | {"clear_share": round(date.clear_share, 6), "quality": date.quality}
        for date in chosen
    ]
    numbers = sorted(number for date in chosen for number in date.scenes)
    lines = None if fits is None else [[fits[number][bands.index(name)] for name in RGB] for number in numbers]
    still = ObservationReader(
        observer.reader,
        [scenes[number] for number in numbers],
        list(RGB),
        observer.clearness,
        place.bounds,
        [merge_frames.split_shift(observer.shifts[number])[0] for number in numbers],
    )
    layers = [[numbers.index(number) for number in date.scenes] for date in chosen]
    known = 0
    with (
        tempfile.TemporaryFile(dir=path.parent) as file,
        cog.Writer(
            path,
            shape=shape,
            count=len(MERGED_BANDS),
            dtype="uint16",
            crs=place.crs,
            transform=place.transform(RES_M),
            nodata=0,
            descriptions=MERGED_BANDS,
            tags=tags | {"dates": json.dumps(told)},
            overviews="average",
        ) as writer,
    ):
        spool = RowSpool(file, len(numbers), len(RGB), shape)
        spool.fill(still, place, rows)
        for strip in track(row_strips(shape[0], ROWS), "merging dates", unit="strip") if chosen else ():
            made = merge_frames.merge_dates(_stack(spool, strip, layers, lines), chosen)
            writer.write(made, strip.start)
            known += int((made[0] > 0).sum())
    return {"dates": told, "merged_fraction": round(known / (shape[0] * shape[1]), 6)}


def candidate_dates(
    observer: ObservationReader, clear_px: Sequence[int], pixels: int, registration: dict[str, Any] | None
) -> list[Date]:
    """The passes of the season, with what registration found of them; a pass without a usable shift has quality 0."""
    found = []
    for numbers in observer.passes():
        if any(observer.scenes[number].wider for number in numbers):
            continue
        main = max(numbers, key=lambda number: clear_px[number])
        quality = 1.0
        if registration is not None:
            told = registration[observer.scenes[main].id]
            quality = told["quality"] if told["usable"] else 0.0
        clear = sum(clear_px[number] for number in numbers) / pixels
        found.append(Date(tuple(numbers), merge_frames.split_shift(observer.shifts[main])[1], clear, quality))
    return found


def _stack(spool: RowSpool, rows: slice, dates: list[list[int]], fits: list[list[relative.Fit]] | None) -> np.ndarray:
    """uint16 [dates, 3, rows + 4, columns + 4] of what the scenes of each date saw clear, 0 beyond the tile."""
    there = slice(max(rows.start - RADIUS_PX, 0), min(rows.stop + RADIUS_PX, spool.shape[0]))
    stack = np.zeros((len(dates), len(RGB), there.stop - there.start, spool.shape[1]), dtype=np.uint16)
    for place, numbers in enumerate(dates):
        for number in numbers:
            saw = spool.read(there, [number])[0]
            # What several granules show counts for one of them alone.
            stack[place] += saw if fits is None else relative.apply_fits(saw, fits[number])
    above, below = there.start - rows.start + RADIUS_PX, rows.stop + RADIUS_PX - there.stop
    return np.pad(stack, ((0, 0), (0, 0), (above, below), (RADIUS_PX, RADIUS_PX)))
