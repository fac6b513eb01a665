"""Step `growth`: ISA area, growth rates, growth types and ISA gain of the cities, mapped and estimated from points."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyogrio

from jointseg.accuracy import change, figures
from jointseg.accuracy.assess import write_csv
from jointseg.accuracy.city_areas import MapChanges, areas_km2, changes_by_zone, map_changes
from jointseg.accuracy.cluster_estimators import estimate_columns
from jointseg.accuracy.growth_kinds import fit_curve, growth_type, most_likely_type, yearly_percent
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track

log = logging.getLogger(__name__)

MAX_LOSS_FRACTION = 0.05  # of the first year's ISA; a larger mapped loss is logged as a warning
CURVE_STEP = 0.25  # years


def growth(
    *,
    mosaics: list[Path],
    study_area: Path,
    table: Path,
    changes: Path,
    zones: Path,
    figure: Path,
    cities: dict[str, str],
    years: list[int],
    ring_km: float,
    seed: int,
    threads: int,
    quality_tables: list[Path] | None = None,
    strata: list[Path] | None = None,
    designs: list[Path] | None = None,
    references: list[Path] | None = None,
    districts: Path | None = None,
    filtered: list[Path] | None = None,
    truth: Path | None = None,
) -> dict[str, Any]:
    """Write tables and a figure of each city's ISA area in each year, and its change between years.

    Args:
        mosaics: {year}/{city}.tif, 1 m, 0/1/255, cut to the city's outline.
        study_area: vector file with the outlines by name in the layer `cities`.
        table: output CSV, one row per city and year.
        changes: output CSV, one row per city and pair of years.
        zones: output CSV, one row per city, pair of years and ring or district.
        figure: output PNG, one panel per city.
        cities: reach of each city, in output order.
        quality_tables: {year}.csv of step `composite_quality`.
        strata, designs: {city}.csv of step `change_sample`.
        references: {city}.csv, its interpreted points; cities without one have mapped areas only.
        districts: polygons with a column `name`.
        filtered: {year}/{city}.tif of step `temporal_consistency`.
        truth: folder of {year}/{reach}.tif, 1 m, 0/1/255.
    """
    years = sorted(years)
    outlines = pyogrio.read_dataframe(study_area, layer="cities").set_index("name")
    mosaic_of, filtered_of = _by_city_and_year(mosaics), _by_city_and_year(filtered or [])
    interpreted = {path.stem: path for path in references or []}
    samples = {path.stem: (path, design) for path, design in zip(strata or [], designs or [])}
    drifts = drift(quality_tables or [])
    year_rows: list[dict[str, Any]] = []
    pair_rows: list[dict[str, Any]] = []
    zone_tables: list[pd.DataFrame] = []
    curves: dict[str, dict[str, np.ndarray]] = {}
    counts = {}
    for city, reach in track(cities.items(), "growth of cities", len(cities), "city"):
        missing = [year for year in years if (city, year) not in mosaic_of]
        if missing:
            raise DataError(f"city {city} has no mosaic of {missing[0]}; add {missing[0]}/{city}.tif to the mosaics")
        paths = [mosaic_of[city, year] for year in years]
        filtered_paths = [filtered_of[city, year] for year in years] if filtered_of else []
        outline = outlines.loc[city, "geometry"].__geo_interface__
        points = None
        if city in interpreted:
            points = change.read_interpreted(*samples[city], interpreted[city], paths, years)
            counts[city] = len(points.mapped)
            curves[city] = _curve(points, seed)
        elif city in samples:
            log.warning(
                "%s: its points are not interpreted yet, so its areas are pixel counts only; fill in the table of points "
                "and save it in accuracy.growth_reference as %s.csv",
                city, city,
            )  # fmt: skip
        true = {}
        if truth is not None:
            true = {y: areas_km2([truth / f"{y}/{reach}.tif"], outline, threads)[0]["isa_km2"] for y in years}
        year_rows += _year_rows(city, reach, years, areas_km2(paths, outline, threads), points, true, drifts, seed)
        if filtered_paths:
            for row, areas in zip(year_rows[-len(years) :], areas_km2(filtered_paths, outline, threads)):
                row["filtered_km2"] = areas["isa_km2"]
        if len(years) > 1:
            mapped = map_changes(paths, years, threads)
            _warn_of_loss(city, mapped)
            pair_rows += _pair_rows(city, reach, mapped, points, true)
            if filtered_paths:
                calm = map_changes(filtered_paths, years, threads)
                for row, gain, loss in zip(pair_rows[-len(calm.year_pairs) :], calm.gain, calm.loss):
                    row |= {"filtered_gain_km2": float(gain.sum()), "filtered_loss_km2": float(loss.sum())}
            zone_tables.append(changes_by_zone(mapped, ring_km, districts).assign(city=city))
    by_year = pd.DataFrame(year_rows)
    write_csv(by_year, table)
    write_csv(pd.DataFrame(pair_rows), changes)
    write_csv(pd.concat(zone_tables) if zone_tables else pd.DataFrame(), zones)
    with atomic_write(figure) as part:
        figures.growth_curves(by_year, curves, part)
    return {"points": counts}


def _by_city_and_year(paths: list[Path]) -> dict[tuple[str, int], Path]:
    return {(path.stem, int(path.parent.name)): path for path in paths}


def _year_rows(
    city: str,
    reach: str,
    years: list[int],
    mapped: list[dict[str, float]],
    points: change.InterpretedPoints | None,
    true: dict[int, float],
    drifts: dict[int, float],
    seed: int,
) -> list[dict[str, Any]]:
    common = [areas["common_isa_km2"] for areas in mapped]
    kind, confidence = growth_type(years, common), float("nan")
    if points is not None and len(years) > 1:
        kind, confidence = most_likely_type(years, points.replicates(seed))
    rows = []
    for index, (year, areas) in enumerate(zip(years, mapped)):
        row: dict[str, Any] = {"city": city, "reach": reach, "year": year, **areas, "percent_per_year": float("nan")}
        if index:
            rate = yearly_percent(common[index - 1], common[index], year - years[index - 1])  # type: ignore[arg-type]
            row["percent_per_year"] = float(rate)
        row |= {"growth": kind, "growth_confidence": confidence, "drift": drifts.get(year, float("nan"))}
        if points is not None:
            row |= estimate_columns("estimated_km2", points.area(year)) | {"points": len(points.mapped)}
            row |= {"sampled_km2": points.area_km2, "unusable_points": points.unusable}
            for name, estimate in points.accuracy(year).items():
                row |= estimate_columns(name, estimate)
        if true:
            row |= {"truth_km2": true[year], "growth_truth": growth_type(years, [true[y] for y in years])}
        rows.append(row)
    return rows


def _pair_rows(
    city: str, reach: str, mapped: MapChanges, points: change.InterpretedPoints | None, true: dict[int, float]
) -> list[dict[str, Any]]:
    rows = []
    for (first, last), gain, loss in zip(mapped.year_pairs, mapped.gain, mapped.loss):
        row: dict[str, Any] = {"city": city, "reach": reach, "first": first, "last": last}
        row |= {"mapped_gain_km2": float(gain.sum()), "mapped_loss_km2": float(loss.sum())}
        if points is not None:
            row["points"] = len(points.mapped)
            for name in ("growth", "gain", "loss", "yearly_percent"):
                estimate = getattr(points, name)(first, last)
                row |= estimate_columns(name if name == "yearly_percent" else f"{name}_km2", estimate)
            for name, estimate in points.accuracy_of_gain(first, last).items():
                row |= estimate_columns(f"gain_{name}", estimate)
            cells = points.transitions(first, last)
            row |= {f"from_{a}_to_{b}_km2": cells[a, b] for a in (0, 1) for b in (0, 1)}
        if true:
            row |= {"truth_growth_km2": true[last] - true[first]}
            row |= {"truth_percent": float(yearly_percent(true[first], true[last], last - first))}  # type: ignore[arg-type]
        rows.append(row)
    return rows


def _warn_of_loss(city: str, mapped: MapChanges) -> None:
    """Log a warning if the largest mapped loss between two years exceeds MAX_LOSS_FRACTION."""
    loss, before = mapped.loss.sum((1, 2)), float(mapped.isa.sum())
    pair = int(loss.argmax())
    if before > 0 and loss[pair] > MAX_LOSS_FRACTION * before:
        first, last = mapped.year_pairs[pair]
        log.warning(
            "%s: %.3f km2 are impervious on the map of %d but not in %d, %.1f %% of the first year's ISA; impervious surface "
            "is rarely removed: check the drift and the registration of these years",
            city, loss[pair], first, last, 100 * loss[pair] / before,
        )  # fmt: skip


def _curve(points: change.InterpretedPoints, seed: int) -> dict[str, np.ndarray]:
    """Return the fitted curve with its 95 % band, by year, km2."""
    at = np.arange(points.years[0], points.years[-1] + CURVE_STEP / 2, CURVE_STEP)
    estimates = np.array([[points.area(year).value for year in points.years]])
    band = np.nanpercentile(fit_curve(points.years, points.replicates(seed), at), [2.5, 97.5], axis=0)
    return {"year": at, "km2": fit_curve(points.years, estimates, at)[0], "lower": band[0], "upper": band[1]}


def drift(quality_tables: list[Path]) -> dict[int, float]:
    """Return the largest drift of a band's reflectance from the map year, in units of reflectance, by year."""
    largest = {}
    for path in quality_tables:
        table = pd.read_csv(path)
        all_tiles = table[table["tile"] == "all"].iloc[0]
        drifts = [abs(all_tiles[name]) for name in table if name.startswith("drift_")]
        largest[int(path.stem)] = float(np.nanmax(drifts)) if np.isfinite(drifts).any() else float("nan")
    return largest
