"""The hardened part of mapped areas: without the vegetation and water inside, and near what the ground serves."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import shapely

from jointseg.dataset.osm import Feature
from jointseg.dataset.osm_rules import SOFT, SOFT_CONTAINERS
from jointseg.dataset.polygons import valid


def clip_to_hardened(
    features: Sequence[Feature], footprints: Sequence[shapely.Geometry], yard_m: float
) -> list[Feature]:
    """Impervious features with valid polygons; soft ground is gone.

    Soft ground takes its part from areas larger than itself (a lawn from a yard, but not a park from the square
    inside it), never from roads and buildings. Of an outline of ground use remains what is nearer than `yard_m` to a
    building, a road or another mapped hard surface.

    Args:
        features: of one zone, soft ground among them.
        footprints: of buildings, from another source.
    """
    polygons = valid([feature.polygon for feature in features])
    areas = shapely.area(polygons)
    soft = [at for at, feature in enumerate(features) if feature.kind == SOFT]
    soft_tree = shapely.STRtree(polygons[soft])
    near = [polygons[at] for at, feature in enumerate(features) if feature.kind != SOFT and not feature.ground]
    hard = np.array([*near, *footprints], dtype=object)
    hard_tree = shapely.STRtree(hard)
    out = []
    for feature, whole, area in zip(features, polygons, areas):
        if feature.kind == SOFT:
            continue
        polygon = whole
        if feature.kind in SOFT_CONTAINERS:
            inside = soft_tree.query(whole, predicate="intersects")
            smaller = [soft[at] for at in inside if areas[soft[at]] < area]
            polygon = shapely.difference(whole, shapely.union_all(polygons[smaller]))
        if feature.ground:
            around = hard[hard_tree.query(polygon, predicate="dwithin", distance=yard_m)]
            polygon = shapely.intersection(polygon, shapely.union_all(shapely.buffer(around, yard_m, quad_segs=4)))
        if not shapely.is_empty(polygon):
            out.append(replace(feature, polygon=polygon))
    return out
