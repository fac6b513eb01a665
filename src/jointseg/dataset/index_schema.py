"""Columns of the index: meaning, type and permitted values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from jointseg.area.grid import TILE_ID
from jointseg.dataset.contract import SPLITS


@dataclass(frozen=True)
class Column:
    meaning: str
    dtype: str  # "text", "bool", "int" or "float"
    between: tuple[float, float] | None = None  # minimum and maximum; None for no limits
    among: tuple[str, ...] = ()  # permitted values; () for all
    pattern: str | None = None  # regular expression that the entire text must match
    example: str = ""
    nullable: bool = False


_DATE = r"20(1[5-9]|[2-9]\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ"
_TINY = float(np.nextafter(0, 1))

COLUMNS = {
    "sample_id": Column("reach and number of the sample", "text", pattern=r".+-\d{4,}", example="upstream-0001"),
    "reach": Column("name of the reach", "text"),
    "stratum": Column("stratum: the reach, or reach/density class", "text"),
    "replacement": Column("whether it replaces a sample that could not be paired", "bool"),
    "inclusion_probability": Column(
        "probability that a point of its area falls in a chip of the sample", "float", (_TINY, 1)
    ),
    "split": Column("train, validation or test", "text", among=SPLITS),
    "block": Column("spatial block; all chips of a block are in one split", "text"),
    "tile": Column("tile of the grid", "text", pattern=TILE_ID.pattern, example="50N_E0660_N3540"),
    "epsg": Column("UTM zone, EPSG code", "int"),
    "minx": Column("western edge, UTM m", "float"),
    "miny": Column("southern edge, UTM m", "float"),
    "scene_id": Column("Jilin-1 scene of the 1 m image", "text"),
    "s2_year": Column("year of the 10 m composite", "int", (2015, 2100)),
    "shift_x_m": Column("registration shift of the scene to the east, m", "float", (-100, 100)),
    "shift_y_m": Column("registration shift of the scene to the north, m", "float", (-100, 100)),
    "shift_sd_m": Column("standard deviation of the shift along an axis, m", "float", (0, 100)),
    "registration_correlation": Column(
        "structural agreement of the two images after registration, 0 to 1", "float", (0, 1)
    ),
    "cloud_percent": Column("cloud in the entire scene, from the vendor", "float", (0, 100), nullable=True),
    "view_angle": Column("view angle of the scene, degrees", "float", (-90, 90), nullable=True),
    "sun_elevation": Column("elevation of the sun, degrees", "float", (-90, 90), nullable=True),
    "hr_date": Column("acquisition time of the scene, UTC", "text", pattern=_DATE, example="2022-06-23T02:46:20Z"),
    "isa_fraction": Column("fraction of impervious pixels among the labelled pixels", "float", (0, 1), nullable=True),
    "clear_min": Column("minimum number of clear observations of the composite", "float", (0, 65535), nullable=True),
    "clear_median": Column("median number of clear observations", "float", (0, 65535), nullable=True),
    "lr": Column("10 m image, path relative to chips/", "text"),
    "hr": Column("1 m image", "text"),
    "label": Column("label by pixel centre", "text"),
    "fraction": Column("impervious fraction of every pixel", "text"),
}


def schema(names: Sequence[str] = tuple(COLUMNS)) -> Any:
    """Return the pandera schema of an index with these columns."""
    import pandera.pandas as pa  # the import takes a second; only the validation needs it

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
