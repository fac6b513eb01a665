"""Positions of corrections in a UTM zone."""

import numpy as np
import shapely
from affine import Affine

from jointseg.dataset.corrections import pixels_to_zone


def test_correction_moves_with_the_registered_scene() -> None:
    transform = Affine(0.75, 0, 660_000, 0, -0.75, 3_540_300)
    polygon = shapely.box(40, 80, 80, 120)
    moved = pixels_to_zone(polygon, transform, "EPSG:32650", 32650, (6.0, -3.0))
    assert np.allclose(moved.bounds, (660_036, 3_540_207, 660_066, 3_540_237))
