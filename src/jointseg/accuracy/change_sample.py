"""Step `change_sample`: a stratified sample of points at which interpreters record the class of every year."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jointseg.accuracy.assess import write_csv
from jointseg.accuracy.block_counts import Block
from jointseg.accuracy.change_strata import ALWAYS, NEAR, NEVER, Strata, block_strata, stratify, stratum_names
from jointseg.accuracy.sample_size import allocate, pixels_for_overall_accuracy
from jointseg.area import grid
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

MIN_POINTS = 30  # minimum number of points per stratum, if it has as many pixels
# Conjectured user's accuracies of the strata, for the number of points that overall accuracy needs for TARGET_SE.
USERS_ACCURACY, USERS_ACCURACY_OF_CHANGE, TARGET_SE = {NEVER: 0.98, NEAR: 0.85, ALWAYS: 0.9}, 0.6, 0.01
MAX_YEARS = 8  # the class sequence of a pixel is stored in eight bits


def change_sample(
    *,
    mosaics: list[Path],
    strata: Path,
    design: Path,
    points: Path,
    city: str,
    years: list[int],
    number: int,
    seed: int,
    threads: int,
) -> dict[str, Any]:
    """Draw a stratified simple random sample of the pixels of a city that are valid on every year's map.

    The facts for the manifest contain the number of points for a standard error of overall accuracy of 1 %.

    Args:
        mosaics: {year}/{city}.tif, 1 m, 0/1/255.
        strata: output CSV: pixels, km2 and points of each stratum.
        design: output CSV: location and stratum of each point. Interpreters must not see it.
        points: output CSV: locations of the points in random order, with an empty column per year to fill in: 1
            impervious, 0 not impervious, empty if it cannot be interpreted.
        number: of points: MIN_POINTS in each stratum, the rest in proportion to the strata's pixels.
    """
    years = sorted(years)
    if not 2 <= len(years) <= MAX_YEARS:
        raise DataError(
            f"{len(years)} years are mapped; a change sample needs 2 to {MAX_YEARS}; set accuracy.growth_points to 0"
        )
    by_year = {int(path.parent.name): path for path in mosaics}
    paths = [by_year[year] for year in years]
    stratification = stratify(paths, years, threads)
    sizes = dict(zip(stratum_names(years), stratification.counts.sum(0).tolist()))
    total = sum(sizes.values())
    if not total:
        raise DataError(f"city {city} has no pixel that is valid in all of {years}; set accuracy.growth_points to 0")
    allocation = allocate(sizes, number, MIN_POINTS)
    drawn = _locate(paths, stratification, _draw_ranks(sizes, allocation, seed))
    drawn = drawn.sample(frac=1, random_state=seed, ignore_index=True)
    drawn.insert(0, "id", range(1, len(drawn) + 1))
    city_grid = stratification.grid
    x, y = city_grid.transform @ (drawn.pop("col").to_numpy() + 0.5, drawn.pop("row").to_numpy() + 0.5)
    lon, lat = grid.transformer(f"EPSG:{city_grid.epsg}", "EPSG:4326").transform(x, y)
    drawn = drawn.assign(x=x, y=y, epsg=city_grid.epsg)
    form = drawn[["id", "x", "y", "epsg"]].copy()
    form.insert(1, "lon", lon.round(7))
    form.insert(2, "lat", lat.round(7))
    write_csv(form.assign(**dict.fromkeys(map(str, years), "")), points)
    write_csv(drawn, design)
    table = pd.DataFrame({"stratum": list(sizes), "pixels": list(sizes.values())})
    table["km2"] = table["pixels"] * (stratification.valid_km2 / total)
    table["points"] = table["stratum"].map(allocation).fillna(0).astype(int)
    write_csv(table, strata)
    fractions = {name: size / total for name, size in sizes.items()}
    users = {name: USERS_ACCURACY.get(name, USERS_ACCURACY_OF_CHANGE) for name in sizes}
    needed = pixels_for_overall_accuracy(fractions, users, TARGET_SE)
    valid_km2 = round(stratification.valid_km2, 6)
    return {"points": len(drawn), "valid_km2": valid_km2, "points_for_one_percent": needed}


def _draw_ranks(sizes: dict[str, int], allocation: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Draw pixels without replacement; return their ranks among the pixels of their stratum, ascending."""
    return {
        name: np.sort(np.random.default_rng([seed, index]).choice(sizes[name], count, replace=False, shuffle=False))
        for index, (name, count) in enumerate(allocation.items())
    }


def _locate(paths: list[Path], strata: Strata, ranks: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return row, column and stratum of the pixels of the given ranks, which count block by block and row by row."""
    names = stratum_names(strata.years)
    ranks_in_block: dict[int, list[tuple[int, np.ndarray]]] = {}
    for name, drawn in ranks.items():
        index = names.index(name)
        ends = strata.counts[:, index].cumsum()
        blocks = np.searchsorted(ends, drawn, side="right")
        for block in np.unique(blocks):
            first = int(ends[block]) - int(strata.counts[block, index])
            ranks_in_block.setdefault(int(block), []).append((index, drawn[blocks == block] - first))
    windows = strata.grid.windows()
    rows: list[pd.DataFrame] = []
    for number in sorted(ranks_in_block):
        window, values = windows[number], []
        for path in paths:
            with raster_io.open_raster(path) as source:
                values.append(source.read(1, window=window))
        stratum = block_strata(Block(window.row_off, window.col_off, values, strata.grid.transform, 0.0), strata)
        for index, block_ranks in ranks_in_block[number]:
            pixels = np.flatnonzero(stratum.ravel() == index)[block_ranks]
            row, col = np.unravel_index(pixels, stratum.shape)
            located = {"row": row + window.row_off, "col": col + window.col_off, "stratum": names[index]}
            rows.append(pd.DataFrame(located))
    return pd.concat(rows, ignore_index=True)
