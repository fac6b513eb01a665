"""Step `change_sample`: points of a city at which people tell, for every year, whether the ground is impervious."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jointseg.accuracy.assess import save
from jointseg.accuracy.block_counts import Block
from jointseg.accuracy.change_strata import ALWAYS, NEAR, NEVER, Strata, names, of_block, stratified
from jointseg.accuracy.sample_size import allocated, pixels_for_overall
from jointseg.area import grid
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

LEAST = 30  # points in every stratum that has as many pixels
# Conjectured shares of the strata on which the maps are right, from which the points for a standard error of 1 % follow.
RIGHT, RIGHT_ELSE, SE = {NEVER: 0.98, NEAR: 0.85, ALWAYS: 0.9}, 0.6, 0.01
MAX_YEARS = 8  # the course of a pixel over the years is eight bits


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
    """Draws a stratified simple random sample of the pixels of a city that every year's map knows.

    Args:
        mosaics: {year}/{city}.tif, 1 m, 0/1/255.
        strata: CSV to make: pixels, km2 and points of each stratum.
        design: CSV to make: place and stratum of each point. Who tells the truth must not see it.
        points: CSV to make: where the points are, in an order that tells nothing, with an empty column a year to fill in:
            1 impervious, 0 not, nothing where it cannot be told.
        city: its name.
        years: in the mosaics.
        number: of points wanted: LEAST in each stratum, the rest in proportion to the strata's pixels.
        seed: of the draw.
        threads: blocks that are looked at side by side.

    Returns:
        Facts for the manifest, among them the points that would tell the overall accuracy to a standard error of 1 %.
    """
    years = sorted(years)
    if not 2 <= len(years) <= MAX_YEARS:
        raise DataError(
            f"{len(years)} years are mapped: points of change need 2 to {MAX_YEARS}; set growth_points to 0"
        )
    by_year = {int(path.parent.name): path for path in mosaics}
    paths = [by_year[year] for year in years]
    found = stratified(paths, years, threads)
    sizes = dict(zip(names(years), found.counts.sum(0).tolist()))
    if not sum(sizes.values()):
        raise DataError(f"city {city} has no pixel that the maps of all of {years} know; its growth cannot be told")
    wanted = allocated(sizes, number, LEAST)
    drawn = _placed(paths, found, _ranks(sizes, wanted, seed))
    drawn = drawn.sample(frac=1, random_state=seed, ignore_index=True)
    drawn.insert(0, "id", range(1, len(drawn) + 1))
    x, y = found.place.transform @ (drawn.pop("col").to_numpy() + 0.5, drawn.pop("row").to_numpy() + 0.5)
    lon, lat = grid.transformer(f"EPSG:{found.place.epsg}", "EPSG:4326").transform(x, y)
    drawn = drawn.assign(x=x, y=y, epsg=found.place.epsg)
    asked = drawn[["id", "x", "y", "epsg"]].copy()
    asked.insert(1, "lon", lon.round(7))
    asked.insert(2, "lat", lat.round(7))
    save(asked.assign(**dict.fromkeys(map(str, years), "")), points)
    save(drawn, design)
    share = found.km2 / sum(sizes.values())
    table = pd.DataFrame({"stratum": list(sizes), "pixels": list(sizes.values())})
    table["km2"], table["points"] = table["pixels"] * share, table["stratum"].map(wanted).fillna(0).astype(int)
    save(table, strata)
    shares = {name: size / sum(sizes.values()) for name, size in sizes.items()}
    enough = pixels_for_overall(shares, {name: RIGHT.get(name, RIGHT_ELSE) for name in sizes}, SE)
    return {"points": len(drawn), "known_km2": round(found.km2, 6), "points_for_one_percent": enough}


def _ranks(sizes: dict[str, int], wanted: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Ranks of the drawn pixels among those of their stratum, ascending; without replacement."""
    return {
        name: np.sort(np.random.default_rng([seed, place]).choice(sizes[name], drawn, replace=False, shuffle=False))
        for place, (name, drawn) in enumerate(wanted.items())
    }


def _placed(paths: list[Path], strata: Strata, ranks: dict[str, np.ndarray]) -> pd.DataFrame:
    """Row, column and stratum of the pixels of those ranks, counted block by block, row by row."""
    listed = names(strata.years)
    in_block: dict[int, list[tuple[int, np.ndarray]]] = {}
    for name, drawn in ranks.items():
        place = listed.index(name)
        ends = strata.counts[:, place].cumsum()
        blocks = np.searchsorted(ends, drawn, side="right")
        for block in np.unique(blocks):
            first = int(ends[block]) - int(strata.counts[block, place])
            in_block.setdefault(int(block), []).append((place, drawn[blocks == block] - first))
    windows = strata.place.windows()
    rows: list[pd.DataFrame] = []
    for number in sorted(in_block):
        window, values = windows[number], []
        for path in paths:
            with raster_io.open_raster(path) as source:
                values.append(source.read(1, window=window))
        block = Block(window.row_off, window.col_off, values, strata.place.transform, 0.0)
        stratum = of_block(block, strata)
        for place, inside in in_block[number]:
            found = np.flatnonzero(stratum.ravel() == place)[inside]
            row, col = np.unravel_index(found, stratum.shape)
            at = {"row": row + window.row_off, "col": col + window.col_off, "stratum": listed[place]}
            rows.append(pd.DataFrame(at))
    return pd.concat(rows, ignore_index=True)
