"""Schemas of the dataset's tables, validated before they are written."""

import geopandas as gpd
import pandera.pandas as pa

from jointseg.area.grid import TILE_ID
from jointseg.dataset.contract import SPLITS
from jointseg.runtime.errors import DataError


def _ranks_are_consecutive(table: gpd.GeoDataFrame) -> bool:
    ranks = table.groupby("stratum")["rank"]
    return bool(
        (ranks.min() == 1).all() and (ranks.max() == ranks.size()).all() and (ranks.nunique() == ranks.size()).all()
    )


def _replacements_are_last(table: gpd.GeoDataFrame) -> bool:
    ranks = table.sort_values(["stratum", "rank"])
    return bool((ranks.groupby("stratum")["replacement"].diff().fillna(0).astype(int) >= 0).all())


SAMPLES = pa.DataFrameSchema(
    {
        "sample_id": pa.Column(str, pa.Check.str_matches(r"^[A-Za-z][A-Za-z0-9-]*-\d{4,}$"), unique=True),
        "reach": pa.Column(str),
        "stratum": pa.Column(str, pa.Check.str_matches(r"^[A-Za-z][A-Za-z0-9-]*(/\d+)?$")),
        "rank": pa.Column("int64", pa.Check.ge(1)),
        "replacement": pa.Column(bool),
        "inclusion_probability": pa.Column("float64", pa.Check.in_range(0, 1, include_min=False)),
        "split": pa.Column(str, pa.Check.isin(SPLITS)),
        "block": pa.Column(str),
        "tile": pa.Column(str, pa.Check.str_matches(TILE_ID.pattern)),
        "epsg": pa.Column("int32", pa.Check(lambda codes: codes.between(32601, 32660) | codes.between(32701, 32760))),
        "minx": pa.Column("float64", pa.Check(lambda metres: metres % 10 == 0, name="on the 10 m lattice")),
        "miny": pa.Column("float64", pa.Check(lambda metres: metres % 10 == 0, name="on the 10 m lattice")),
        "geometry": pa.Column(None, pa.Check(lambda points: points.geom_type == "Point", name="points")),
    },
    checks=[
        pa.Check(lambda table: (table.groupby("block")["split"].nunique() == 1).all(), name="one split per block"),
        pa.Check(_ranks_are_consecutive, name="ranks of a stratum are 1, 2, ..."),
        pa.Check(_replacements_are_last, name="replacement samples follow the main sample"),
    ],
    strict=True,
    ordered=True,
)


def validate(table: gpd.GeoDataFrame, schema: pa.DataFrameSchema, name: str) -> gpd.GeoDataFrame:
    """Return the table if it satisfies its schema and is in EPSG:4326; else raise DataError with column and value."""
    if table.crs is None or table.crs.to_epsg() != 4326:
        raise DataError(f"{name} is in {table.crs}; expected EPSG:4326")
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        of_columns = cases[cases["schema_context"] == "Column"]  # more specific than failures of the table
        first = (of_columns if len(of_columns) else cases).iloc[0]
        subject, found = (
            (f"column {first['column']}", f"; found {first['failure_case']}") if len(of_columns) else ("the table", "")
        )
        raise DataError(f"{name}: {subject} violates its schema ({first['check']}{found})") from error
    return table
