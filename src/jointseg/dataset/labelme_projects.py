"""Labelme projects for manual review: the image of a chip and the disputed polygons."""

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
    """A polygon on which label sources disagree, in metres of the chip's zone; `source` is the one that maps it."""

    sample_id: str
    kind: str
    source: str
    polygon: shapely.Polygon


def write_projects(
    folder: Path, chips: Path, samples: pd.DataFrame, disagreements: Sequence[Disagreement], chip_m: int
) -> None:
    """Write ID.png, the 1 m image, and ID.json, the disputed polygons that the label counts as ISA, of each sample.

    The polygons are labelled `isa`, like the label: copied unchanged to the corrections, the file changes no pixel and
    settles the disagreement. To decide otherwise, a reviewer changes a label to `not_isa` or `unlabelled`.
    """
    with atomic_write(folder) as part:
        part.mkdir()
        for sample in samples.itertuples():
            west, north = sample.minx, sample.miny + chip_m
            image, _, _ = raster_io.read(chips / f"{sample.sample_id}_hr.tif")
            Image.fromarray(percentile_stretch(image)[0]).save(part / f"{sample.sample_id}.png")
            disputed = [one for one in disagreements if one.sample_id == sample.sample_id]
            shapes = [
                labelme.Shape(
                    "isa",
                    shapely.transform(
                        one.polygon, lambda xy, w=west, n=north: np.column_stack([xy[:, 0] - w, n - xy[:, 1]])
                    ),
                    description=f"{one.kind}: {one.source}, {one.polygon.area:.0f} m2",
                )
                for one in sorted(disputed, key=lambda one: -one.polygon.area)
            ]
            annotation = labelme.Annotation(f"{sample.sample_id}.png", (chip_m, chip_m), shapes)
            labelme.write(part / f"{sample.sample_id}.json", annotation)
