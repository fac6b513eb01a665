"""Growth of the cities: areas of ISA by year, mapped and estimated from points, rates, kinds, and where it is new."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyogrio

from jointseg.accuracy import change, figures
from jointseg.accuracy.assess import save
from jointseg.accuracy.city_areas import Changes, by_zone, changes, ground_areas_km2
from jointseg.accuracy.cluster_estimators import columns
from jointseg.accuracy.growth_kinds import fitted, kind_of_growth, likeliest, yearly_percent
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track

log = logging.getLogger(__name__)

GONE_SHARE = 0.05  # of the first year's ISA: from this on, ISA that vanishes is worth a look
CURVE_STEP = 0.25  # years


def growth(
    *,
    mosaics: list[Path],
    study_area: Path,
    table: Path,
    changed: Path,
    zones: Path,
    figure: Path,
    cities: dict[str, str],
    years: list[int],
    ring_km: float,
    seed: int,
    threads: int,
    qualities: list[Path] | None = None,
    strata: list[Path] | None = None,
    designs: list[Path] | None = None,
    references: list[Path] | None = None,
    districts: Path | None = None,
    consistent: list[Path] | None = None,
    truth: Path | None = None,
) -> dict[str, Any]:
    """Tables and draws each city's ISA in each year, and what became of it between them.

    Args:
        mosaics: {year}/{city}.tif, 1 m, 0/1/255, cut to the city's outline.
        study_area: vector file whose layer `cities` holds the outlines by name.
        table: CSV to make, a row by city and year.
        changed: CSV to make, a row by city and pair of years.
        zones: CSV to make, a row by city, pair of years and ring or district.
        figure: PNG to make, a panel by city.
        cities: reach of each city, in the order of the tables.
        years: years in the mosaics.
        ring_km: width of the rings.
        seed: of the bootstrap.
        threads: blocks that are looked at side by side.
        qualities: {year}.csv, what the composites of a year are worth, as step `quality` writes them.
        strata, designs: {city}.csv, as step `change_sample` writes them.
        references: {city}.csv, its points filled in; cities without one have mapped areas alone.
        districts: polygons with a column `name`.
        consistent: {year}/{city}.tif, the same maps as step `consistent` filters them.
        truth: folder of {year}/{reach}.tif, 1 m, 0/1/255.

    Returns:
        Facts for the manifest: points told by city.
    """
    years = sorted(years)
    outlines = pyogrio.read_dataframe(study_area, layer="cities").set_index("name")
    by_place = {(path.stem, int(path.parent.name)): path for path in mosaics}
    consistent_of = {(path.stem, int(path.parent.name)): path for path in consistent or []}
    told = {path.stem: path for path in references or []}
    drawn = {path.stem: (path, design) for path, design in zip(strata or [], designs or [])}
    drifts = drift(qualities or [])
    rows: list[dict[str, Any]] = []
    between: list[dict[str, Any]] = []
    placed: list[pd.DataFrame] = []
    curves: dict[str, dict[str, np.ndarray]] = {}
    counts = {}
    for city, reach in track(cities.items(), "growth of cities", len(cities), "city"):
        missing = [year for year in years if (city, year) not in by_place]
        if missing:
            raise DataError(
                f"city {city} has no mosaic of {missing[0]}; give {missing[0]}/{city}.tif among the mosaics"
            )
        paths = [by_place[city, year] for year in years]
        outline = outlines.loc[city, "geometry"].__geo_interface__
        mapped = ground_areas_km2(paths, outline, threads)
        points = change.interpreted(*drawn[city], told[city], paths, years) if city in told else None
        true = {}
        if truth is not None:
            true = {y: ground_areas_km2([truth / f"{y}/{reach}.tif"], outline, threads)[0]["isa_km2"] for y in years}
        rows += _by_year(city, reach, years, mapped, points, true, drifts, seed)
        filtered = [consistent_of[city, year] for year in years] if consistent_of else []
        if filtered:
            for row, areas in zip(rows[-len(years) :], ground_areas_km2(filtered, outline, threads)):
                row["consistent_km2"] = areas["isa_km2"]
        if city in drawn and points is None:
            log.warning(
                "%s: its points are not told yet, so its areas are map counts alone; fill in the table of points and "
                "put it into accuracy.growth_reference as %s.csv",
                city, city,
            )  # fmt: skip
        if points is not None:
            counts[city] = len(points.mapped)
            curves[city] = _curve(points, seed)
        if len(years) > 1:
            found = changes(paths, years, threads)
            _flag(city, found)
            between += _between(city, reach, found, points, true)
            if filtered:
                kept = changes(filtered, years, threads)
                for row, new, gone in zip(between[-len(kept.spans) :], kept.new, kept.gone):
                    row |= {"consistent_new_km2": float(new.sum()), "consistent_gone_km2": float(gone.sum())}
            placed.append(by_zone(found, ring_km, districts).assign(city=city))
    made = pd.DataFrame(rows)
    save(made, table)
    save(pd.DataFrame(between), changed)
    save(pd.concat(placed) if placed else pd.DataFrame(), zones)
    with atomic_write(figure) as part:
        figures.growth_curves(made, curves, part)
    return {"points": counts}


def _by_year(
    city: str,
    reach: str,
    years: list[int],
    mapped: list[dict[str, float]],
    points: change.Interpreted | None,
    true: dict[int, float],
    drifts: dict[int, float],
    seed: int,
) -> list[dict[str, Any]]:
    steady = [areas["steady_isa_km2"] for areas in mapped]
    kind, share = kind_of_growth(years, steady), float("nan")
    if points is not None and len(years) > 1:
        kind, share = likeliest(years, points.replicates(seed))
    rows = []
    for place, (year, areas) in enumerate(zip(years, mapped)):
        before = years[place - 1] if place else None
        row: dict[str, Any] = {"city": city, "reach": reach, "year": year, **areas}
        row["percent_a_year"] = float("nan")
        if before is not None:
            row["percent_a_year"] = float(yearly_percent(steady[place - 1], steady[place], year - before))  # type: ignore[arg-type]
        row |= {"growth": kind, "growth_share": share, "drift": drifts.get(year, float("nan"))}
        if points is not None:
            row |= columns("estimated_km2", points.area(year)) | {"points": len(points.mapped)}
            row |= {"sampled_km2": points.km2, "untold": points.untold}
            for name, estimate in points.accuracy(year).items():
                row |= columns(name, estimate)
        if true:
            row |= {"truth_km2": true[year], "growth_truth": kind_of_growth(years, [true[y] for y in years])}
        rows.append(row)
    return rows


def _between(
    city: str, reach: str, found: Changes, points: change.Interpreted | None, true: dict[int, float]
) -> list[dict[str, Any]]:
    rows = []
    for place, (first, last) in enumerate(found.spans):
        new, gone = float(found.new[place].sum()), float(found.gone[place].sum())
        row: dict[str, Any] = {"city": city, "reach": reach, "first": first, "last": last}
        row |= {"mapped_new_km2": new, "mapped_gone_km2": gone}
        if points is not None:
            row["points"] = len(points.mapped)
            for name in ("growth", "gained", "lost", "yearly_percent"):
                estimate = getattr(points, name)(first, last)
                row |= columns(name if name == "yearly_percent" else f"{name}_km2", estimate)
            for name, estimate in points.accuracy_of_gain(first, last).items():
                row |= columns(f"gain_{name}", estimate)
            cells = points.transitions(first, last)
            row |= {f"from_{a}_to_{b}_km2": cells[a, b] for a in (0, 1) for b in (0, 1)}
        if true:
            row |= {"truth_growth_km2": true[last] - true[first]}
            row |= {"truth_percent": float(yearly_percent(true[first], true[last], last - first))}  # type: ignore[arg-type]
        rows.append(row)
    return rows


def _flag(city: str, found: Changes) -> None:
    """Warns of ISA that vanishes between the pair of years in which most does."""
    gone, before = found.gone.sum((1, 2)), float(found.isa.sum())
    place = int(gone.argmax())
    if before > 0 and gone[place] > GONE_SHARE * before:
        first, last = found.spans[place]
        log.warning(
            "%s: %.3f km2 that the map of %d calls impervious it does not in %d, %.1f %% of the first year's; ground seldom "
            "turns back: compare the drift and the registration of these years",
            city, gone[place], first, last, 100 * gone[place] / before,
        )  # fmt: skip


def _curve(points: change.Interpreted, seed: int) -> dict[str, np.ndarray]:
    """The fitted curve with its 95 % band, by year, km2."""
    at = np.arange(points.years[0], points.years[-1] + CURVE_STEP / 2, CURVE_STEP)
    own = np.array([[points.area(year).value for year in points.years]])
    band = np.nanpercentile(fitted(points.years, points.replicates(seed), at), [2.5, 97.5], axis=0)
    return {"year": at, "km2": fitted(points.years, own, at)[0], "lower": band[0], "upper": band[1]}


def drift(qualities: list[Path]) -> dict[int, float]:
    """Largest drift of a band's reflectance against the map year's, in units of reflectance, by year."""
    found = {}
    for path in qualities:
        every = pd.read_csv(path)
        whole = every[every["tile"] == "all"].iloc[0]
        bands = [abs(whole[name]) for name in every if name.startswith("drift_")]
        found[int(path.stem)] = float(np.nanmax(bands)) if np.isfinite(bands).any() else float("nan")
    return found
