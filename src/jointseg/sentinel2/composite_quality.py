"""Step `quality`: what the composites of a year are worth: looks, holes, the places of the dates, radiometry."""

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
from jointseg.sentinel2.normalise import MIN_PIXELS, STABLE_SIGMAS
from jointseg.sentinel2.quality_figure import TilePreview
from jointseg.sentinel2.reducers import PADDED
from jointseg.sentinel2.scene import SCALE

ALL = "all"
BLOCK_ROWS = 512
VALUES = 65536  # of uint16
FITTED = ("line", "shift")  # fits whose residual was measured
ROBUST = 1.4826  # standard deviation of a normal distribution over its median absolute deviation


@dataclass
class QualityTally:
    """What adds up over blocks and tiles.

    Attributes:
        looks: int64 [65536], pixels by clear looks; place 0 is unknown ground.
        widened: pixels for which the season was widened; None where no scene of a widened season was listed.
        holes: connected areas of unknown ground.
        largest_km2: ground of the largest of them.
        scenes: how many, once for every tile.
        shifts_m: lengths of the shifts of the registered ones; None where the dates were not registered.
        unregistered: ids of those that could not be registered, once for every tile.
        residuals: reflectance, of the fitted scenes, by band.
        differences: int64 [bands, 131071], pixels by difference to the base year, DN from -65535 on; None without one.
    """

    looks: np.ndarray = field(default_factory=lambda: np.zeros(VALUES, dtype=np.int64))
    widened: int | None = None
    holes: int = 0
    largest_km2: float = 0.0
    scenes: int = 0
    shifts_m: list[float] | None = None
    unregistered: list[str] = field(default_factory=list)
    residuals: dict[str, list[float]] = field(default_factory=dict)
    differences: np.ndarray | None = None

    def add(self, other: "QualityTally") -> None:
        self.looks += other.looks
        self.holes += other.holes
        self.largest_km2 = max(self.largest_km2, other.largest_km2)
        self.scenes += other.scenes
        self.unregistered += other.unregistered
        if other.widened is not None:
            self.widened = (self.widened or 0) + other.widened
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
    """Tables and draws what the composites of a year are worth; a row a tile, and one of all of them.

    The table (CSV) has, in this order: `tile`, `level`, `pixels`, `valid_fraction` (of them), `padded_fraction`, `clear_p10`,
    `clear_median` and `clear_max` (looks of known pixels), `holes` (connected areas of unknown ground),
    `largest_nodata_km2`, `scenes`, `registered`, `unregistered_count`, `unregistered` (their ids), `shift_median_m`,
    `shift_max_m`, `compared` (pixels known in the base year too), and for each band, in reflectance, `residual_` (median over
    the scenes, of the fit to the base year), `drift_` and `spread_`: median and 1.4826 x median absolute deviation of
    year minus base year on stable ground, where it lies within 2.5 robust standard deviations of its median. A cell is
    empty where there is nothing to tell. In the last row a scene counts once for every tile.

    Args:
        composites: {tile}.tif of the year, as step composite writes them.
        table: CSV to make.
        figure: PNG to make.
        year: year of the composites.
        level: product level of the year's scenes.
        bands: bands to compare.
        base: composites of the base year, of the same tiles; None in the base year itself.

    Raises:
        DataError: no composite, one of another year, without a band, or without its like in the base year.
    """
    if not composites:
        raise DataError(f"there is no composite of {year} to judge; give at least one")
    like = None if base is None else {path.stem: path for path in base}
    cells = quality_figure.preview_cells(len(composites))
    whole, rows, views = QualityTally(), [], []
    for path in track(sorted(composites), f"quality {year}", unit="tile"):
        if like is not None and path.stem not in like:
            raise DataError(f"the base year has no composite of tile {path.stem}; make it, or leave the tile out")
        tally, view = assess_composite(path, None if like is None else like[path.stem], str(year), bands, cells)
        rows.append(_row(path.stem, level, tally, bands))
        views.append(view)
        whole.add(tally)
    rows.append(_row(ALL, level, whole, bands))
    with atomic_write(table) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    drifts = {band: (rows[-1][f"drift_{band}"], rows[-1][f"spread_{band}"]) for band in bands}
    with atomic_write(figure) as part:
        quality_figure.draw(part, str(year), whole.looks, views, drifts)
    return {
        "valid_fraction": rows[-1]["valid_fraction"],
        "drift": {band: drift for band, (drift, _) in drifts.items()},
        "unregistered": len(whole.unregistered),
    }


def assess_composite(
    path: Path, base: Path | None, year: str, bands: list[str], cells: int
) -> tuple[QualityTally, TilePreview]:
    """What one composite is worth, and its clear looks drawn small; read in bands of rows.

    Args:
        path: the composite.
        base: composite of the base year.
        year: its year.
        bands: bands to compare.
        cells: side of the small picture.
    """
    with ExitStack() as stack:
        source = stack.enter_context(raster_io.open_raster(path))
        reference = None if base is None else stack.enter_context(raster_io.open_raster(base))
        _check(source, reference, year, bands)
        tally = _told(source.tags(), bands)
        unknown = np.zeros(source.shape, dtype=bool)
        sums, known, pixels = np.zeros((3, cells * cells))
        for window in _windows(source):
            clear = _read(source, ["clear"], window)[0]
            tally.looks += np.bincount(clear.ravel(), minlength=VALUES)
            if "season" in source.descriptions:
                season = _read(source, ["season"], window)[0]
                tally.widened = (tally.widened or 0) + int((season == PADDED).sum())
            if reference is not None:
                there = (clear > 0) & (_read(reference, ["clear"], window)[0] > 0)
                now, then = (_read(each, bands, window)[:, there].astype(np.int64) for each in (source, reference))
                found = np.stack([np.bincount(row + VALUES - 1, minlength=2 * VALUES - 1) for row in now - then])
                tally.differences = found if tally.differences is None else tally.differences + found
            top = round(window.row_off)
            unknown[top : top + clear.shape[0]] = clear == 0
            place = _cell(top, clear.shape, source.shape, cells)
            sums += np.bincount(place, clear.ravel(), cells * cells)
            known += np.bincount(place, clear.ravel() > 0, cells * cells)
            pixels += np.bincount(place, minlength=cells * cells)
        epsg, bounds = source.crs.to_epsg(), tuple(source.bounds)
    middle = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    pixel_km2 = abs(source.transform.a * source.transform.e) / 1e6 / float(area_scale(epsg, *middle))
    areas, tally.holes = label(unknown)
    if tally.holes:
        tally.largest_km2 = int(np.bincount(areas.ravel())[1:].max()) * pixel_km2
    # A cell of which more than half is unknown is drawn as unknown.
    looks = np.where(2 * known >= np.maximum(pixels, 1), sums / np.maximum(known, 1), np.nan)
    return tally, TilePreview(epsg, bounds, looks.reshape(cells, cells))


def _check(
    source: rasterio.DatasetReader, reference: rasterio.DatasetReader | None, year: str, bands: list[str]
) -> None:
    """DataError where a composite is of another year, or does not fit what it is compared with."""
    said = source.tags().get("year")
    if said != year:
        raise DataError(f"{source.name} is a composite of {said or 'no year'}, not of {year}; give those of one year")
    for each in [source] if reference is None else [source, reference]:
        for name in [*bands, "clear"]:
            if name not in each.descriptions:
                there = ", ".join(filter(None, each.descriptions)) or "none with a name"
                raise DataError(f"{each.name} has no band {name} (it has {there}); make it again")
    if reference is not None:
        own, other = ((each.crs, each.transform, each.shape) for each in (source, reference))
        if own != other:
            raise DataError(f"{source.name} and {reference.name} are not on one grid; make them again")


def _told(tags: dict[str, str], bands: list[str]) -> QualityTally:
    """What a composite's tags tell of its scenes."""
    tally = QualityTally(scenes=len(json.loads(tags["scenes"])))
    if "registration" in tags:
        tally.shifts_m = []
        for scene, shift in sorted(json.loads(tags["registration"]).items()):
            if shift["why"]:
                tally.unregistered.append(scene)
            else:
                tally.shifts_m.append(float(np.hypot(shift["x_m"], shift["y_m"])))
    for lines in json.loads(tags.get("normalisation", "{}")).values():
        for line in lines:
            if line["band"] in bands and line["kind"] in FITTED:
                tally.residuals.setdefault(line["band"], []).append(line["residual_dn"] * SCALE)
    return tally


def _row(tile: str, level: str, tally: QualityTally, bands: list[str]) -> dict[str, Any]:
    """A row of the table; None where there is nothing to tell."""
    pixels, looks = int(tally.looks.sum()), tally.looks.copy()
    looks[0] = 0
    shifts = tally.shifts_m
    row: dict[str, Any] = {
        "tile": tile,
        "level": level,
        "pixels": pixels,
        "valid_fraction": round(int(looks.sum()) / pixels, 6),
        "padded_fraction": None if tally.widened is None else round(tally.widened / pixels, 6),
        "clear_p10": _percentile(looks, 10),
        "clear_median": _percentile(looks, 50),
        "clear_max": _percentile(looks, 100),
        "nodata_areas": tally.holes,
        "largest_nodata_km2": round(tally.largest_km2, 4) if tally.holes else None,
        "scenes": tally.scenes,
        "registered": None if shifts is None else len(shifts),
        "unregistered": None if shifts is None else len(tally.unregistered),
        "unregistered_scenes": " ".join(sorted(set(tally.unregistered))) or None,
        "shift_median_m": round(float(np.median(shifts)), 3) if shifts else None,
        "shift_max_m": round(max(shifts), 3) if shifts else None,
        "compared_pixels": None if tally.differences is None else int(tally.differences[0].sum()),
    }
    stable = [None] * len(bands) if tally.differences is None else [_stable(counts) for counts in tally.differences]
    for band in bands:
        told = tally.residuals.get(band)
        row[f"residual_{band}"] = round(float(np.median(told)), 6) if told else None
    for number, name in enumerate(("drift", "spread")):
        row |= {f"{name}_{band}": None if at is None else round(at[number], 6) for band, at in zip(bands, stable)}
    return row


def _stable(counts: np.ndarray) -> tuple[float, float] | None:
    """(median, robust standard deviation), reflectance, of the differences on stable ground.

    Ground that was built up or cleared lies far from the median of all differences and is left out, by the limit that the
    normalisation uses too.

    Args:
        counts: int64 [131071], pixels by difference, DN from -65535 on; fewer than 500 tell nothing.
    """
    if counts.sum() < MIN_PIXELS:
        return None
    middle, spread = _middle(counts)
    away = np.abs(np.arange(counts.size) - (VALUES - 1) - middle)
    middle, spread = _middle(np.where(away <= STABLE_SIGMAS * spread, counts, 0))
    return middle * SCALE, spread * SCALE


def _middle(counts: np.ndarray) -> tuple[int, float]:
    """(median, 1.4826 x median absolute deviation), DN, of counted differences."""
    rank = _percentile(counts, 50)
    assert rank is not None
    away = np.bincount(np.abs(np.arange(counts.size) - rank), counts).astype(np.int64)
    deviation = _percentile(away, 50)
    assert deviation is not None
    return rank - (VALUES - 1), ROBUST * deviation


def _percentile(counts: np.ndarray, percent: int) -> int | None:
    """The least value that `percent` % of what was counted do not exceed; None where nothing was counted."""
    total = int(counts.sum())
    return int(np.searchsorted(np.cumsum(counts), -(-total * percent // 100))) if total else None


def _read(source: rasterio.DatasetReader, names: list[str], window: Window) -> np.ndarray:
    """[bands, rows, columns] of named bands."""
    return source.read([source.descriptions.index(name) + 1 for name in names], window=window)


def _windows(source: rasterio.DatasetReader) -> Iterator[Window]:
    for top in range(0, source.height, BLOCK_ROWS):
        yield Window(0, top, source.width, min(BLOCK_ROWS, source.height - top))


def _cell(top: int, shape: tuple[int, ...], whole: tuple[int, int], cells: int) -> np.ndarray:
    """int64 [pixels], the cell of the small picture that each pixel of a band of rows lies in."""
    row = np.arange(top, top + shape[0]) * cells // whole[0]
    col = np.arange(shape[1]) * cells // whole[1]
    return (row[:, None] * cells + col).ravel()
