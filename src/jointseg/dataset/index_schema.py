"""The columns of the index: what each holds, its type and what it may be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from jointseg.area.grid import TILE_ID
from jointseg.dataset.contract import SPLITS


@dataclass(frozen=True)
class Column:
    """A column of the index.

    Attributes:
        meaning: for a reader.
        dtype: "text", "bool", "int" or "float".
        between: the smallest and the largest value; None where anything goes.
        among: the values it may have; () where anything goes.
        pattern: a regular expression that a text matches as a whole.
        example: of such a text.
        nullable: whether it may be missing (NaN).
    """

    meaning: str
    dtype: str
    between: tuple[float, float] | None = None
    among: tuple[str, ...] = ()
    pattern: str | None = None
    example: str = ""
    nullable: bool = False


_DATE = r"20(1[5-9]|[2-9]\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ"
_TINY = float(np.nextafter(0, 1))

COLUMNS = {
    "sample_id": Column("reach and number of the sample", "text", pattern=r".+-\d{4,}", example="upstream-0001"),
    "reach": Column("the reach it lies in", "text"),
    "stratum": Column("the stratum it was drawn from: the reach, or reach/density class", "text"),
    "replacement": Column("whether it makes up for a sample that could not be paired", "bool"),
    "inclusion_probability": Column(
        "the chance of a point of its ground to fall in a chip of the sample", "float", (_TINY, 1)
    ),
    "split": Column("train, validation or test", "text", among=SPLITS),
    "block": Column("the block of ground that went to this split as a whole", "text"),
    "tile": Column("the tile of the grid", "text", pattern=TILE_ID.pattern, example="50N_E0660_N3540"),
    "epsg": Column("its UTM zone", "int"),
    "minx": Column("western edge, UTM m", "float"),
    "miny": Column("southern edge, UTM m", "float"),
    "scene_id": Column("the Jilin-1 scene of the 1 m image", "text"),
    "s2_year": Column("the year of the 10 m composite", "int", (2015, 2100)),
    "shift_x_m": Column("metres the scene was moved east", "float", (-100, 100)),
    "shift_y_m": Column("metres the scene was moved north", "float", (-100, 100)),
    "shift_sd_m": Column("standard deviation of the shift along an axis, m", "float", (0, 100)),
    "registration_correlation": Column("agreement of the two images after registration, at most 1", "float", (0, 1)),
    "cloud_percent": Column("cloud in the whole scene, by the vendor", "float", (0, 100), nullable=True),
    "view_angle": Column("view angle of the scene, degrees", "float", (-90, 90), nullable=True),
    "sun_elevation": Column("elevation of the sun, degrees", "float", (-90, 90), nullable=True),
    "hr_date": Column("when the scene was taken, UTC", "text", pattern=_DATE, example="2022-06-23T02:46:20Z"),
    "isa_fraction": Column("share of impervious pixels among the labelled ones", "float", (0, 1), nullable=True),
    "clear_min": Column("fewest clear looks of the composite in the chip", "float", (0, 65535), nullable=True),
    "clear_median": Column("median number of clear looks", "float", (0, 65535), nullable=True),
    "lr": Column("the 10 m image, below chips/", "text"),
    "hr": Column("the 1 m image", "text"),
    "label": Column("the label by pixel centre", "text"),
    "fraction": Column("the covered area of every pixel", "text"),
}


def schema(names: Sequence[str] = tuple(COLUMNS)) -> Any:
    """The pandera schema of an index with these columns."""
    import pandera.pandas as pa  # takes a second: only who checks should wait

    types = {
        "text": pd.api.types.is_string_dtype,
        "bool": pd.api.types.is_bool_dtype,
        "int": pd.api.types.is_integer_dtype,
        "float": pd.api.types.is_float_dtype,
    }
    columns = {}
    for name in names:
        column = COLUMNS[name]
        checks = [pa.Check(types[column.dtype], name=column.dtype)]
        if column.between:
            checks.append(pa.Check.in_range(*column.between))
        if column.among:
            checks.append(pa.Check.isin(column.among))
        if column.pattern:
            checks.append(pa.Check.str_matches(rf"^(?:{column.pattern})\Z"))
        columns[name] = pa.Column(None, checks, nullable=column.nullable)
    return pa.DataFrameSchema(columns, strict=False)
