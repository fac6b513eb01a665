"""The hardened part of mapped areas: without vegetation and water, and close to buildings and roads."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import shapely

from jointseg.dataset.osm import Feature
from jointseg.dataset.osm_rules import SOFT, SOFT_CONTAINERS
from jointseg.dataset.polygons import make_valid


def clip_to_hardened(
    features: Sequence[Feature], footprints: Sequence[shapely.Geometry], yard_m: float
) -> list[Feature]:
    """Return the impervious features of a zone, with valid polygons; soft features are removed.

    A soft feature (vegetation or water) is subtracted from areas larger than itself (a lawn from a yard, but not a park
    from a square inside it), never from roads and buildings. Land-use outlines are clipped to the distance `yard_m`
    from mapped buildings, roads and other hard surfaces, and from the footprints of buildings from another source.
    """
    polygons = make_valid([feature.polygon for feature in features])
    areas = shapely.area(polygons)
    soft = [i for i, feature in enumerate(features) if feature.kind == SOFT]
    soft_tree = shapely.STRtree(polygons[soft])
    mapped = [polygons[i] for i, feature in enumerate(features) if feature.kind != SOFT and not feature.is_land_use]
    hard = np.array([*mapped, *footprints], dtype=object)
    hard_tree = shapely.STRtree(hard)
    out = []
    for feature, outline, area in zip(features, polygons, areas):
        if feature.kind == SOFT:
            continue
        polygon = outline
        if feature.kind in SOFT_CONTAINERS:
            intersecting = soft_tree.query(outline, predicate="intersects")
            smaller = [soft[i] for i in intersecting if areas[soft[i]] < area]
            polygon = shapely.difference(outline, shapely.union_all(polygons[smaller]))
        if feature.is_land_use:
            near = hard[hard_tree.query(polygon, predicate="dwithin", distance=yard_m)]
            polygon = shapely.intersection(polygon, shapely.union_all(shapely.buffer(near, yard_m, quad_segs=4)))
        if not shapely.is_empty(polygon):
            out.append(replace(feature, polygon=polygon))
    return out
