"""Checks of the index: columns, values, and consistency with the tables that it was made from."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import geopandas as gpd
import pandas as pd
import shapely

from jointseg.area import grid
from jointseg.dataset.contract import CHIP_RASTERS, LATTICE_M
from jointseg.dataset.index_schema import COLUMNS, schema
from jointseg.dataset.validation.base import FOLDER_CHECKS, INDEX, Folder, Violation, check, is_utm

OUTLINE_M = 0.5
_REBUILD = "rebuild the index"
_RESAMPLE = "rerun step `samples`"


@check(FOLDER_CHECKS, "columns", "columns are missing", "rebuild the dataset, which an older version made")
def columns(folder: Folder) -> Iterator[Violation]:
    if folder.index is not None and (missing := [name for name in COLUMNS if name not in folder.index]):
        yield Violation("", INDEX, f"without {', '.join(missing)}", "every column of the contract")


@check(FOLDER_CHECKS, "column-type", "a column has an unexpected type", _REBUILD)
def column_type(folder: Folder) -> Iterator[Violation]:
    for name in sorted(_cases(folder)[0]):
        yield Violation("", INDEX, f"{name} is {folder.index[name].dtype}", COLUMNS[name].dtype)  # type: ignore[index]


@check(FOLDER_CHECKS, "column-value", "a value is not permitted in its column", _REBUILD)
def column_value(folder: Folder) -> Iterator[Violation]:
    for case in _cases(folder)[1]:
        row = folder.index.iloc[int(case["index"])]  # type: ignore[union-attr]
        name = case["column"]
        yield Violation(_id(row), INDEX, f"{name} is {case['failure_case']!r}", _allowed(name))


def _cases(folder: Folder) -> tuple[set[str], list[dict[str, Any]]]:
    """Return the columns of an unexpected type, and pandera's failure cases of the other columns."""
    from pandera.errors import SchemaErrors

    if folder.index is None:
        return set(), []
    plain = pd.DataFrame(folder.index[[name for name in COLUMNS if name in folder.index]]).reset_index(drop=True)
    try:
        schema(list(plain)).validate(plain, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases.to_dict("records")
        mistyped = {case["column"] for case in cases if pd.isna(case["index"])}
        return mistyped, [case for case in cases if case["column"] not in mistyped]
    return set(), []


def _allowed(name: str) -> str:
    column = COLUMNS[name]
    if column.among:
        return f"one of {', '.join(column.among)}"
    if column.pattern:
        return f"text like {column.example}"
    if column.between:
        low, high = column.between
        return f"more than 0, at most {high:g}" if 0 < low < 1e-300 else f"{low:g} to {high:g}"
    return column.meaning


@check(FOLDER_CHECKS, "id-duplicate", "an id occurs twice", _REBUILD)
def id_duplicate(folder: Folder) -> Iterator[Violation]:
    if _has(folder, "sample_id"):
        counts = folder.index["sample_id"].value_counts()  # type: ignore[index]
        for name, count in counts[counts > 1].sort_index().items():
            yield Violation(str(name), INDEX, f"{count} rows", "one row per chip")


@check(FOLDER_CHECKS, "position-duplicate", "two chips have the same position", _RESAMPLE)
def position_duplicate(folder: Folder) -> Iterator[Violation]:
    for _, rows in folder.table.groupby(["epsg", "minx", "miny"]) if len(folder.table) else []:
        for name in sorted(rows["sample_id"])[1:]:
            yield Violation(name, INDEX, f"the position of {min(rows['sample_id'])}", "a unique position")


@check(FOLDER_CHECKS, "id-order", "rows are not sorted by id", "sort the index by sample_id")
def id_order(folder: Folder) -> Iterator[Violation]:
    if _has(folder, "sample_id"):
        ids = list(folder.index["sample_id"].astype(str))  # type: ignore[index]
        for before, after in pairwise(ids):
            if before > after:
                yield Violation(after, INDEX, f"after {before}", "ascending ids")
                return


@check(FOLDER_CHECKS, "id-reach", "an id starts with the name of another reach", _RESAMPLE)
def id_reach(folder: Folder) -> Iterator[Violation]:
    for row in folder.table.to_dict("records"):
        if str(row["sample_id"]).rpartition("-")[0] != row["reach"]:
            yield Violation(row["sample_id"], INDEX, f"reach {row['reach']}", "the reach in the id")


@check(FOLDER_CHECKS, "path", "a path is not REACH/ID_KIND.tif", _REBUILD)
def path(folder: Folder) -> Iterator[Violation]:
    for row in folder.table.to_dict("records"):
        for kind in CHIP_RASTERS:
            wanted = f"{row['reach']}/{row['sample_id']}_{kind}.tif"
            if kind in row and row[kind] != wanted:
                yield Violation(row["sample_id"], INDEX, f"{kind} is {row[kind]!r}", wanted)


@check(FOLDER_CHECKS, "epsg", "a code is not a UTM zone on WGS 84", _RESAMPLE)
def epsg(folder: Folder) -> Iterator[Violation]:
    for row in folder.table.to_dict("records"):
        if not is_utm(row["epsg"]):
            yield Violation(row["sample_id"], INDEX, f"epsg {row['epsg']}", "326 or 327 followed by a zone, 01 to 60")


@check(FOLDER_CHECKS, "corner", "a corner is off the 10 m lattice", _RESAMPLE)
def corner(folder: Folder) -> Iterator[Violation]:
    for row in folder.table.to_dict("records"):
        if row["minx"] % LATTICE_M or row["miny"] % LATTICE_M:
            yield Violation(
                row["sample_id"], INDEX, f"corner {row['minx']:.10g}, {row['miny']:.10g}", "multiples of 10 m"
            )


@check(FOLDER_CHECKS, "outline", "the outline is not the square of the chip", _REBUILD)
def outline(folder: Folder) -> Iterator[Violation]:
    if not isinstance(folder.index, gpd.GeoDataFrame) or folder.index.crs is None or folder.index.crs.to_epsg() != 4326:
        if folder.index is not None:
            yield Violation("", INDEX, "no geometry in EPSG:4326", "the outline of each chip, EPSG:4326")
        return
    side = folder.chip_m
    for row in folder.table[["sample_id", "epsg", "minx", "miny", "geometry"]].to_dict("records"):
        if not is_utm(row["epsg"]):
            continue
        square = shapely.box(row["minx"], row["miny"], row["minx"] + side, row["miny"] + side)
        if row["geometry"] is None:
            yield Violation(row["sample_id"], INDEX, "no outline", f"the square of {side} m at its corner")
            continue
        projected = grid.reproject(row["geometry"], "EPSG:4326", f"EPSG:{int(row['epsg'])}")
        off = float(shapely.hausdorff_distance(projected, square))
        if not off <= OUTLINE_M:
            yield Violation(
                row["sample_id"], INDEX, f"outline {off:.0f} m off", f"the square of {side} m at its corner"
            )


@check(FOLDER_CHECKS, "scene-date", "a scene has two dates", "rerun step `pairing`")
def scene_date(folder: Folder) -> Iterator[Violation]:
    if _has(folder, "scene_id", "hr_date"):
        for scene, rows in folder.index.groupby("scene_id"):  # type: ignore[union-attr]
            common = rows["hr_date"].mode().iloc[0]
            for row in rows[rows["hr_date"] != common].to_dict("records"):
                yield Violation(_id(row), INDEX, f"hr_date {row['hr_date']}", f"{common}, as other chips of {scene}")


@check(FOLDER_CHECKS, "reach-table", "index.parquet and the index of a reach differ", "rerun step `dataset`")
def reach_table(folder: Folder) -> Iterator[Violation]:
    for name, table in folder.tables.items():
        if name.startswith("index/") and len(folder.table):
            reach = re.sub(r"^index/|\.parquet$", "", name)
            rows = folder.table[folder.table["reach"] == reach].set_index("sample_id")
            yield from _differences(rows, table.set_index("sample_id"), name)


@check(FOLDER_CHECKS, "sample", "the index and the samples differ", "rebuild the dataset from its samples")
def sample(folder: Folder) -> Iterator[Violation]:
    if (samples := folder.tables.get("samples.parquet")) is not None and len(folder.table):
        samples, rows = samples.set_index("sample_id"), folder.table.set_index("sample_id")
        yield from _differences(rows, samples[samples.index.isin(rows.index)], "samples.parquet", geometry=False)


@check(FOLDER_CHECKS, "pair", "the index and the pairs differ", "rebuild the chips from the pairs")
def pair(folder: Folder) -> Iterator[Violation]:
    tables = [table for name, table in folder.tables.items() if name.startswith("pairs")]
    if tables and len(folder.table):
        paired = pd.concat(tables, ignore_index=True)
        paired = paired[paired["status"] == "ok"].set_index("sample_id")
        yield from _differences(folder.table.set_index("sample_id"), paired, "pairs")


def _differences(rows: pd.DataFrame, others: pd.DataFrame, name: str, geometry: bool = True) -> Iterator[Violation]:
    """Yield the chips that only one table has, and the differences in the common columns."""
    for chip in sorted(set(rows.index) ^ set(others.index)):
        present, absent = (INDEX, name) if chip in rows.index else (name, INDEX)
        yield Violation(chip, absent, "no row", f"a row, as in {present}")
    both = rows.index.intersection(others.index)
    first, second = rows.loc[both], others[~others.index.duplicated()].loc[both]
    for column in first.columns.intersection(second.columns):
        if column == "geometry" and not geometry:
            continue
        equal = (first[column] == second[column]) | (first[column].isna() & second[column].isna())
        for chip in both[~equal.to_numpy(dtype=bool)]:
            value = f"{column} is {first.at[chip, column]}"
            yield Violation(chip, INDEX, value, f"{second.at[chip, column]}, as in {name}")


def _has(folder: Folder, *names: str) -> bool:
    return folder.index is not None and set(names) <= set(folder.index)


def _id(row: Any) -> str:
    return str(row.get("sample_id", ""))
