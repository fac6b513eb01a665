"""Labelme projects for a person: the picture of a chip and the polygons to decide on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from PIL import Image

from jointseg.dataset import labelme
from jointseg.raster import io as raster_io
from jointseg.raster.rendering import percentile_stretch
from jointseg.runtime.files import atomic_write


@dataclass(frozen=True)
class Disagreement:
    """A polygon on which sources contradict each other, in metres of the chip's zone.

    Attributes:
        source: who says that there is something.
    """

    sample_id: str
    kind: str
    source: str
    polygon: shapely.Polygon


def write_projects(
    folder: Path, chips: Path, places: pd.DataFrame, doubts: Sequence[Disagreement], chip_m: int
) -> None:
    """ID.png and ID.json of each chip: its 1 m image, and polygons that the label counts as ISA with some doubt.

    They are labelled `isa`, as the label has them: a file that goes to the corrections as it stands changes no pixel and
    settles the doubt; a person decides otherwise by changing a label to `not_isa` or `unknown`.

    Args:
        chips: the reach's folder of chips.
        places: `sample_id`, `minx`, `miny` of the chips to write.
    """
    with atomic_write(folder) as part:
        part.mkdir()
        for place in places.itertuples():
            west, north = place.minx, place.miny + chip_m
            image, _, _ = raster_io.read(chips / f"{place.sample_id}_hr.tif")
            Image.fromarray(percentile_stretch(image)[0]).save(part / f"{place.sample_id}.png")
            own = sorted((one for one in doubts if one.sample_id == place.sample_id), key=lambda one: -one.polygon.area)
            shapes = [
                labelme.Shape(
                    "isa",
                    shapely.transform(
                        one.polygon, lambda xy, w=west, n=north: np.column_stack([xy[:, 0] - w, n - xy[:, 1]])
                    ),
                    description=f"{one.kind}: {one.source}, {one.polygon.area:.0f} m2",
                )
                for one in own
            ]
            drawing = labelme.Annotation(f"{place.sample_id}.png", (chip_m, chip_m), shapes)
            labelme.write(part / f"{place.sample_id}.json", drawing)
