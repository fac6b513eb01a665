"""Corrections of labels, drawn in Labelme on the images of scenes or chips, in metres of the chips' zones."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine

from jointseg.area import grid
from jointseg.dataset import labelme
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Correction:
    """A polygon of a Labelme file in the zone of a chip; it may extend beyond the chip."""

    chip: Any
    id: str  # FILE#NUMBER
    action: str  # add, remove or unlabelled
    polygon: shapely.Geometry


def read_corrections(
    folder: Path, jilin1: Path, table: gpd.GeoDataFrame, pairs: pd.DataFrame, chip_m: int
) -> Iterator[Correction]:
    """Yield the corrections of the chips in `table`, from annotations of scenes and of chips.

    A scene's annotation is moved by the chip's registration shift. If the chip was paired with another scene, the median
    shift of the annotated scene is used.
    """
    scene_of = {Path(row.path).stem: row.path for row in pairs.itertuples()}
    chip_of = {row.sample_id: row for row in table.itertuples()}
    for path in sorted(folder.glob("**/*.json")):
        annotation = labelme.read(path)
        if annotation.stem in chip_of:
            chip = chip_of[annotation.stem]
            _check_size(path, annotation, chip.sample_id, (chip_m, chip_m))
            transform = Affine(1, 0, chip.minx, 0, -1, chip.miny + chip_m)
            yield from _on_chip(path, annotation, chip, transform, f"EPSG:{chip.epsg}", (0, 0))
        elif annotation.stem in scene_of:
            scene = scene_of[annotation.stem]
            with raster_io.open_raster(jilin1 / scene) as source:
                transform, crs, size = source.transform, source.crs.to_string(), (source.width, source.height)
            _check_size(path, annotation, scene, size)
            shifts = pairs[pairs["path"] == scene].set_index("sample_id")[["shift_x_m", "shift_y_m"]]
            for chip in chip_of.values():
                shift_m = tuple(shifts.loc[chip.sample_id] if chip.sample_id in shifts.index else shifts.median())
                yield from _on_chip(path, annotation, chip, transform, crs, shift_m)
        else:
            log.info("%s belongs to no chip and no paired scene of this reach; ignored", path.name)


def _check_size(path: Path, annotation: labelme.Annotation, name: str, size: tuple[int, int]) -> None:
    if annotation.size != size:
        raise DataError(
            f"{path} was drawn on {annotation.size} px but {name} has {size}; draw on the image at full resolution"
        )


def _on_chip(
    path: Path, annotation: labelme.Annotation, chip: Any, transform: Affine, crs: str, shift_m: Any
) -> Iterator[Correction]:
    for number, shape in enumerate(annotation.shapes):
        polygon = pixels_to_zone(shape.polygon, transform, crs, int(chip.epsg), shift_m)
        yield Correction(chip, f"{path.name}#{number}", shape.action, polygon)


def pixels_to_zone(
    polygon: shapely.Geometry, transform: Affine, crs: str, epsg: int, shift_m: tuple[float, float]
) -> shapely.Geometry:
    """Return a polygon in pixels of a raster as metres of a UTM zone, moved by the registration shift."""
    to_zone = grid.transformer(crs, f"EPSG:{epsg}")

    def to_metres(points: np.ndarray) -> np.ndarray:
        px, py = points.T
        x = transform.a * px + transform.b * py + transform.c
        y = transform.d * px + transform.e * py + transform.f
        return np.column_stack(to_zone.transform(x, y)) + np.array(shift_m)

    return shapely.transform(polygon, to_metres)
