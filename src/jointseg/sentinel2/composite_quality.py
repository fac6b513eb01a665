"""Step `composite_quality`: quality metrics of one year's composites: observations, nodata, shifts, radiometric drift."""

import csv
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window
from scipy.ndimage import label

from jointseg.area.grid import area_scale
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track
from jointseg.sentinel2 import quality_figure
from jointseg.sentinel2.normalise import MAD_TO_SIGMA, MIN_PIXELS, STABLE_SIGMAS
from jointseg.sentinel2.quality_figure import TilePreview
from jointseg.sentinel2.reducers import PADDED
from jointseg.sentinel2.scene import SCALE

ALL = "all"
BLOCK_ROWS = 512
VALUES = 65536  # of uint16
FITTED = ("line", "shift")  # kinds of fits with a measured residual


@dataclass
class QualityTally:
    """Metrics that add up over blocks and tiles."""

    # int64 [65536], number of pixels by number of clear observations; 0 is nodata
    observations: np.ndarray = field(default_factory=lambda: np.zeros(VALUES, dtype=np.int64))
    padded: int | None = None  # number of pixels that use scenes of the season padding; None if no such scene is listed
    nodata_areas: int = 0  # number of connected nodata areas
    largest_km2: float = 0.0  # area of the largest of them
    scenes: int = 0  # number of scenes, summed over tiles
    # lengths of the shifts of registered scenes; None if the scenes were not co-registered
    shifts_m: list[float] | None = None
    unregistered: list[str] = field(default_factory=list)  # ids of scenes that could not be registered, once per tile
    residuals: dict[str, list[float]] = field(default_factory=dict)  # reflectance, of the fitted scenes, by band
    # int64 [bands, 131071], pixels by difference to the base year, DN from -65535; None without one
    differences: np.ndarray | None = None

    def add(self, other: "QualityTally") -> None:
        self.observations += other.observations
        self.nodata_areas += other.nodata_areas
        self.largest_km2 = max(self.largest_km2, other.largest_km2)
        self.scenes += other.scenes
        self.unregistered += other.unregistered
        if other.padded is not None:
            self.padded = (self.padded or 0) + other.padded
        if other.shifts_m is not None:
            self.shifts_m = (self.shifts_m or []) + other.shifts_m
        for band, values in other.residuals.items():
            self.residuals.setdefault(band, []).extend(values)
        if other.differences is not None:
            self.differences = other.differences + (0 if self.differences is None else self.differences)


def composite_quality(
    *,
    composites: list[Path],
    table: Path,
    figure: Path,
    year: int | str,
    level: str,
    bands: list[str],
    base: list[Path] | None = None,
) -> dict:
    """Write a table and a figure of the quality metrics of a year's composites; one row per tile, and one for all.

    docs/reference/steps/sentinel2.md describes the columns. A cell is empty if the metric does not apply; the last row
    counts a scene once per tile. `composites` and `base` (None in the base year) are {tile}.tif of the same tiles;
    `level` is the product level of the year's scenes. Raises DataError if there is no composite, or one is of another
    year, lacks a band, or has no counterpart in the base year.
    """
    if not composites:
        raise DataError(f"there is no composite of {year}; expected at least one")
    base_of = None if base is None else {path.stem: path for path in base}
    cells = quality_figure.preview_cells(len(composites))
    total, rows, previews = QualityTally(), [], []
    for path in track(sorted(composites), f"quality {year}", unit="tile"):
        if base_of is not None and path.stem not in base_of:
            raise DataError(f"the base year has no composite of tile {path.stem}; build it, or remove the tile")
        reference = None if base_of is None else base_of[path.stem]
        tally, preview = assess_composite(path, reference, str(year), bands, cells)
        rows.append(_row(path.stem, level, tally, bands))
        previews.append(preview)
        total.add(tally)
    rows.append(_row(ALL, level, total, bands))
    with atomic_write(table) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    drifts = {band: (rows[-1][f"drift_{band}"], rows[-1][f"spread_{band}"]) for band in bands}
    with atomic_write(figure) as part:
        quality_figure.draw(part, str(year), total.observations, previews, drifts)
    return {
        "valid_fraction": rows[-1]["valid_fraction"],
        "drift": {band: drift for band, (drift, _) in drifts.items()},
        "unregistered": len(total.unregistered),
    }


def assess_composite(
    path: Path, base: Path | None, year: str, bands: list[str], cells: int
) -> tuple[QualityTally, TilePreview]:
    """Return the metrics of one composite and a preview of `cells` x `cells` of its clear observations.

    The composite is read in blocks of rows; `base` is that of the base year.
    """
    with ExitStack() as stack:
        source = stack.enter_context(raster_io.open_raster(path))
        reference = None if base is None else stack.enter_context(raster_io.open_raster(base))
        _check(source, reference, year, bands)
        tally = _tally_scenes(source.tags(), bands)
        nodata = np.zeros(source.shape, dtype=bool)
        sums, valid, pixels = np.zeros((3, cells * cells))
        for window in _blocks(source):
            clear = _read(source, ["clear"], window)[0]
            tally.observations += np.bincount(clear.ravel(), minlength=VALUES)
            if "season" in source.descriptions:
                season = _read(source, ["season"], window)[0]
                tally.padded = (tally.padded or 0) + int((season == PADDED).sum())
            if reference is not None:
                both = (clear > 0) & (_read(reference, ["clear"], window)[0] > 0)
                now, then = (_read(image, bands, window)[:, both].astype(np.int64) for image in (source, reference))
                counts = np.stack([np.bincount(row + VALUES - 1, minlength=2 * VALUES - 1) for row in now - then])
                tally.differences = counts if tally.differences is None else tally.differences + counts
            top = round(window.row_off)
            nodata[top : top + clear.shape[0]] = clear == 0
            cell = _cell_index(top, clear.shape, source.shape, cells)
            sums += np.bincount(cell, clear.ravel(), cells * cells)
            valid += np.bincount(cell, clear.ravel() > 0, cells * cells)
            pixels += np.bincount(cell, minlength=cells * cells)
        epsg, bounds = source.crs.to_epsg(), tuple(source.bounds)
    centre = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    pixel_km2 = abs(source.transform.a * source.transform.e) / 1e6 / float(area_scale(epsg, *centre))
    areas, tally.nodata_areas = label(nodata)
    if tally.nodata_areas:
        tally.largest_km2 = int(np.bincount(areas.ravel())[1:].max()) * pixel_km2
    # A cell with more than half nodata is drawn as nodata.
    means = np.where(2 * valid >= np.maximum(pixels, 1), sums / np.maximum(valid, 1), np.nan)
    return tally, TilePreview(epsg, bounds, means.reshape(cells, cells))


def _check(
    source: rasterio.DatasetReader, reference: rasterio.DatasetReader | None, year: str, bands: list[str]
) -> None:
    """Raise DataError if a composite is of another year, lacks a band, or is not on the grid of the base year."""
    actual = source.tags().get("year")
    if actual != year:
        raise DataError(f"{source.name} is a composite of {actual or 'no year'}, not of {year}; expected one year")
    for image in [source] if reference is None else [source, reference]:
        for name in [*bands, "clear"]:
            if name not in image.descriptions:
                available = ", ".join(filter(None, image.descriptions)) or "no named band"
                raise DataError(f"{image.name} has no band {name} (it has {available}); rebuild it")
    if reference is not None:
        grid, expected = ((image.crs, image.transform, image.shape) for image in (source, reference))
        if grid != expected:
            raise DataError(f"{source.name} and {reference.name} have different grids; rebuild them")


def _tally_scenes(tags: dict[str, str], bands: list[str]) -> QualityTally:
    """Return the metrics of the scenes, from the tags of a composite."""
    tally = QualityTally(scenes=len(json.loads(tags["scenes"])))
    if "registration" in tags:
        tally.shifts_m = []
        for scene, record in sorted(json.loads(tags["registration"]).items()):
            if record["usable"]:
                tally.shifts_m.append(float(np.hypot(record["x_m"], record["y_m"])))
            else:
                tally.unregistered.append(scene)
    for lines in json.loads(tags.get("normalisation", "{}")).values():
        for line in lines:
            if line["band"] in bands and line["kind"] in FITTED:
                tally.residuals.setdefault(line["band"], []).append(line["residual_dn"] * SCALE)
    return tally


def _row(tile: str, level: str, tally: QualityTally, bands: list[str]) -> dict[str, Any]:
    """Return a row of the table; None where a metric does not apply."""
    pixels, observations = int(tally.observations.sum()), tally.observations.copy()
    observations[0] = 0
    shifts = tally.shifts_m
    row: dict[str, Any] = {
        "tile": tile,
        "level": level,
        "pixels": pixels,
        "valid_fraction": round(int(observations.sum()) / pixels, 6),
        "padded_fraction": None if tally.padded is None else round(tally.padded / pixels, 6),
        "clear_p10": _percentile(observations, 10),
        "clear_median": _percentile(observations, 50),
        "clear_max": _percentile(observations, 100),
        "nodata_areas": tally.nodata_areas,
        "largest_nodata_km2": round(tally.largest_km2, 4) if tally.nodata_areas else None,
        "scenes": tally.scenes,
        "registered": None if shifts is None else len(shifts),
        "unregistered": None if shifts is None else len(tally.unregistered),
        "unregistered_scenes": " ".join(sorted(set(tally.unregistered))) or None,
        "shift_median_m": round(float(np.median(shifts)), 3) if shifts else None,
        "shift_max_m": round(max(shifts), 3) if shifts else None,
        "compared_pixels": None if tally.differences is None else int(tally.differences[0].sum()),
    }
    drifts = [None] * len(bands) if tally.differences is None else [_drift(counts) for counts in tally.differences]
    for band in bands:
        residuals = tally.residuals.get(band)
        row[f"residual_{band}"] = round(float(np.median(residuals)), 6) if residuals else None
    for index, name in enumerate(("drift", "spread")):
        row |= {f"{name}_{band}": None if pair is None else round(pair[index], 6) for band, pair in zip(bands, drifts)}
    return row


def _drift(counts: np.ndarray) -> tuple[float, float] | None:
    """Return (median, robust standard deviation), reflectance, of the differences on stable pixels.

    Pixels that changed are far from the median of all differences and are excluded, by the limit of the normalisation.
    `counts`, int64 [131071], are pixels by difference, DN from -65535; with fewer than 500 the result is None.
    """
    if counts.sum() < MIN_PIXELS:
        return None
    centre, spread = _median_and_spread(counts)
    distance = np.abs(np.arange(counts.size) - (VALUES - 1) - centre)
    centre, spread = _median_and_spread(np.where(distance <= STABLE_SIGMAS * spread, counts, 0))
    return centre * SCALE, spread * SCALE


def _median_and_spread(counts: np.ndarray) -> tuple[int, float]:
    """Return (median, 1.4826 x median absolute deviation), DN, of a histogram of differences."""
    index = _percentile(counts, 50)
    assert index is not None
    distances = np.bincount(np.abs(np.arange(counts.size) - index), counts).astype(np.int64)
    deviation = _percentile(distances, 50)
    assert deviation is not None
    return index - (VALUES - 1), MAD_TO_SIGMA * deviation


def _percentile(counts: np.ndarray, percent: int) -> int | None:
    """Return the percentile (a value of the data) of a histogram of integers from 0; None if it is empty."""
    total = int(counts.sum())
    return int(np.searchsorted(np.cumsum(counts), -(-total * percent // 100))) if total else None


def _read(source: rasterio.DatasetReader, names: list[str], window: Window) -> np.ndarray:
    """Return named bands, [bands, rows, columns]."""
    return source.read([source.descriptions.index(name) + 1 for name in names], window=window)


def _blocks(source: rasterio.DatasetReader) -> Iterator[Window]:
    for top in range(0, source.height, BLOCK_ROWS):
        yield Window(0, top, source.width, min(BLOCK_ROWS, source.height - top))


def _cell_index(top: int, shape: tuple[int, ...], full_shape: tuple[int, int], cells: int) -> np.ndarray:
    """Return the preview cell of each pixel of a block of rows, int64 [pixels]."""
    row = np.arange(top, top + shape[0]) * cells // full_shape[0]
    col = np.arange(shape[1]) * cells // full_shape[1]
    return (row[:, None] * cells + col).ravel()
