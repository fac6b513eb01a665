"""Growth of the cities: area of ISA by year, corrected for UTM scale and for map error, its rate and its kind."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyogrio
import rasterio
from affine import Affine
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom
from rasterio.windows import Window

from jointseg import grid, raster
from jointseg.accuracy import estimators, figures
from jointseg.accuracy.estimators import CELLS, UNKNOWN, Estimate
from jointseg.errors import DataError
from jointseg.progress import track

BAND_ROWS = 512
RAPID_PERCENT = 7.0  # mean growth, percent a year, from which a city grows rapidly: twice its area in ten years
SATURATING_RATIO = 0.5  # a city saturates when its last rate is below this part of its first one


def growth(
    *,
    mosaics: list[Path],
    study_area: Path,
    table: Path,
    figure: Path,
    cities: dict[str, str],
    years: list[int],
    confusion: Path | None = None,
    truth: Path | None = None,
    method: str = "superres",
) -> None:
    """Tables and draws each city's area of ISA in each year.

    Args:
        mosaics: {year}/{city}.tif, 1 m, 0/1/255, cut to the city's outline.
        study_area: vector file whose layer `cities` holds the outlines by name.
        table: CSV to make, a row by city and year.
        figure: PNG to make, a panel by city.
        cities: reach of each city, in the order of the table.
        years: years in the mosaics.
        confusion: pixel counts by chip, as step assess writes them; without it areas are map counts alone.
        truth: folder of {year}/{reach}.tif, 1 m, 0/1/255.
        method: the method in `confusion` that made the mosaics.
    """
    outlines = pyogrio.read_dataframe(study_area, layer="cities").set_index("name")
    by_place = {(path.stem, int(path.parent.name)): path for path in mosaics}
    years = sorted(years)
    chips = None if confusion is None else pd.read_csv(confusion)
    rows = []
    for city, reach in track(cities.items(), "city areas", len(cities), "city"):
        missing = [year for year in years if (city, year) not in by_place]
        if missing:
            raise DataError(
                f"city {city} has no mosaic of {missing[0]}; give {missing[0]}/{city}.tif among the mosaics"
            )
        outline = outlines.loc[city, "geometry"].__geo_interface__
        mapped = ground_areas_km2([by_place[city, year] for year in years], outline)
        for year, areas in zip(years, mapped):
            row: dict[str, Any] = {"city": city, "reach": reach, "year": year, **areas}
            if chips is not None:
                row |= _adjusted(chips, method, reach, areas["isa_km2"], areas["other_km2"])
            if truth is not None:
                raster_of_truth = truth / str(year) / f"{reach}.tif"
                row["truth_km2"] = ground_areas_km2([raster_of_truth], outline)[0]["isa_km2"]
            rows.append(row)
    made = _with_rates(pd.DataFrame(rows), "steady_isa_km2", "")
    if truth is not None:
        made = _with_rates(made, "truth_km2", "_truth")
    with raster.atomic(table) as part:
        made.to_csv(part, index=False, float_format="%.9g", lineterminator="\n")
    with raster.atomic(figure) as part:
        figures.growth_curves(made, part)


def ground_areas_km2(paths: list[Path], outline: dict[str, Any]) -> list[dict[str, float]]:
    """Ground area, km2, inside an outline in each of several years' rasters of one grid.

    For each raster: ISA, other known ground, unknown ground, and "steady" ISA: that on ground known in every raster,
    from which rates are told, so that ground which one year did not see does not count as growth.
    The UTM scale is taken at the middle of blocks of 512 x 512 pixels, over which it varies by less than 1e-5.

    Args:
        paths: rasters of 0/1/255 in a UTM zone.
        outline: GeoJSON geometry, EPSG:4326; pixels whose centre lies outside are not counted.
    """
    totals = np.zeros((len(paths), 4))
    with ExitStack() as stack:
        sources = [stack.enter_context(raster.opened(path)) for path in paths]
        grids = {(source.crs.to_epsg(), source.transform, source.shape) for source in sources}
        if len(grids) > 1:
            raise DataError(
                f"{paths[0]} and the same city's mosaics of other years are not on one grid; make them again"
            )
        epsg, whole, _ = grids.pop()
        shape = transform_geom("EPSG:4326", sources[0].crs, outline)
        for window in _windows(sources[0]):
            transform = whole @ Affine.translation(window.col_off, window.row_off)
            inside = geometry_mask([shape], (window.height, window.width), transform, invert=True)
            x, y = transform @ (window.width / 2, window.height / 2)
            pixel_km2 = abs(transform.a * transform.e) / 1e6 / float(grid.area_scale(epsg, x, y))
            values = np.stack([source.read(1, window=window)[inside] for source in sources])
            steady = (values != UNKNOWN).all(axis=0)
            planes = [values == 1, values == 0, values == UNKNOWN, (values == 1) & steady]
            totals += pixel_km2 * np.stack([plane.sum(axis=1) for plane in planes], axis=1)
    return [dict(zip(("isa_km2", "other_km2", "unknown_km2", "steady_isa_km2"), row)) for row in totals.tolist()]


def _windows(source: rasterio.DatasetReader) -> list[Window]:
    return [
        Window(col, row, min(BAND_ROWS, source.width - col), min(BAND_ROWS, source.height - row))
        for row in range(0, source.height, BAND_ROWS)
        for col in range(0, source.width, BAND_ROWS)
    ]


def _adjusted(chips: pd.DataFrame, method: str, reach: str, isa_km2: float, other_km2: float) -> dict[str, float]:
    """Area of ISA after map error, with its 95 % interval, from the label chips of the city's reach."""
    part = chips[(chips["name"] == method) & (chips["reference"] == "labels") & (chips["reach"] == reach)]
    if part.empty:
        raise DataError(f"no test chip of method {method} lies in reach {reach}; its error cannot be estimated")
    e: Estimate = estimators.linearised(
        part[list(CELLS)].to_numpy(),
        part["weight"].to_numpy(),
        part["stratum"].to_numpy(),
        estimators.adjusted_area(isa_km2, other_km2),
    )
    lower = max(e.lower, 0.0) if np.isfinite(e.lower) else e.lower
    return {"adjusted_km2": e.value, "adjusted_lower_km2": lower, "adjusted_upper_km2": e.upper, "chips": e.units}


def yearly_percent(before_km2: float, after_km2: float, years: float) -> float:
    """Compound growth, percent a year; NaN from nothing."""
    if before_km2 <= 0 or after_km2 <= 0:
        return float("nan")
    return 100 * ((after_km2 / before_km2) ** (1 / years) - 1)


def kind_of_growth(years: list[int], areas_km2: list[float]) -> str:
    """saturating, rapid or moderate; "" for fewer than two years.

    saturating: of three or more years, the last interval's rate is below SATURATING_RATIO of the first one's;
    else rapid: the mean rate over all years reaches RAPID_PERCENT; else moderate.
    """
    if len(years) < 2:
        return ""
    rates = [yearly_percent(areas_km2[i], areas_km2[i + 1], years[i + 1] - years[i]) for i in range(len(years) - 1)]
    if len(rates) > 1 and rates[-1] < SATURATING_RATIO * rates[0]:
        return "saturating"
    mean = yearly_percent(areas_km2[0], areas_km2[-1], years[-1] - years[0])
    return "rapid" if mean >= RAPID_PERCENT else "moderate"


def _with_rates(table: pd.DataFrame, column: str, suffix: str) -> pd.DataFrame:
    """The table with the rate since the row's previous year and the city's kind of growth."""
    out = table.copy()
    for _, part in table.groupby("city", sort=False):
        years, areas = part["year"].tolist(), part[column].tolist()
        steps = range(1, len(years))
        rates = [yearly_percent(areas[i - 1], areas[i], years[i] - years[i - 1]) for i in steps]
        out.loc[part.index, f"percent_a_year{suffix}"] = [float("nan"), *rates]
        out.loc[part.index, f"growth{suffix}"] = kind_of_growth(years, areas)
    return out
