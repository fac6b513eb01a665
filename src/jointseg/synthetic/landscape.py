"""What stays the same from year to year on a panel: natural land cover, parcels, feature indices, shadows and crowns."""

from dataclasses import dataclass

import numpy as np
import shapely

from jointseg.synthetic.materials import MATERIALS, VEGETATION_CODE
from jointseg.synthetic.objects import LEVELS, Feature
from jointseg.synthetic.panel_raster import Panel, rasterize_shapes, tile_texture, upsample
from jointseg.synthetic.terrain import SUN_AZIMUTH_DEG, SUN_ELEVATION_DEG, interpolate_reaches
from jointseg.synthetic.valley import Valley

NO_VEGETATION = 255
PARCEL_SLOTS = 4096  # parcels with the same slot share crop, vigour and soil
# Land cover classes for the reference products, in the codes of SinoLC-1.
ROAD_CLASS, TREE_CLASS, GRASS_CLASS, CROP_CLASS, BUILDING_CLASS, BARE_CLASS, WATER_CLASS = 1, 2, 4, 5, 6, 7, 9


@dataclass
class StaticLayers:
    """Layers of a panel that do not change from year to year, all [rows, columns] at 1 m."""

    feature_levels: list[np.ndarray]  # per drawing level, 1 + index of the feature (0: none)
    background: np.ndarray  # reflectance of natural surfaces without leaves, [4, rows, columns]
    vigour: np.ndarray  # weight of the seasonal leaves
    parcel: np.ndarray  # slot of the parcel, whose crop changes from year to year; -1 outside parcels
    vegetation: np.ndarray  # code of the natural vegetation outside parcels, NO_VEGETATION for none
    shadows: np.ndarray  # 1 + index of the feature that casts a shadow, the oldest on top
    crown: np.ndarray  # brightness of a tree crown above a feature, 0 for none
    hillshade: np.ndarray  # illumination relative to flat terrain
    texture: np.ndarray  # zero-mean noise
    land_cover: np.ndarray  # natural land cover class


def cast_shadow(feature: Feature) -> shapely.Geometry:
    """Return the footprint of a feature together with its shadow."""
    length = feature.height_m / np.tan(np.radians(SUN_ELEVATION_DEG))
    away = np.radians(SUN_AZIMUTH_DEG + 180)
    step = np.array([np.sin(away), np.cos(away)]) * length
    moved = shapely.transform(feature.shape, lambda xy: xy + step)
    return shapely.union(feature.shape, moved).convex_hull


def render_static(valley: Valley, panel: Panel, textures: dict[str, np.ndarray]) -> StaticLayers:
    """Render the natural landscape of a panel with `panel_raster.make_textures`, and rasterize its features' indices."""
    features = valley.features
    number = 1 + np.arange(len(features))
    shapes = np.array([feature.shape for feature in features])
    near = np.flatnonzero(shapely.intersects(shapes, panel.grown(120).box))
    feature_levels = []
    for level in range(LEVELS):
        selected = [k for k in near if features[k].level == level]
        feature_levels.append(rasterize_shapes(shapes[selected], number[selected], panel))
    tall = sorted((k for k in near if features[k].height_m > 0), key=lambda k: -features[k].year_built)
    shadows = rasterize_shapes([cast_shadow(features[k]) for k in tall], number[tall], panel)

    centres, radii = valley.trees
    inside = (
        np.abs(centres - [(panel.x0 + panel.x1) / 2, (panel.y0 + panel.y1) / 2]) < np.array(panel.shape[::-1]) / 2 + 8
    ).all(axis=1)
    discs = shapely.buffer(shapely.points(centres[inside]), radii[inside], quad_segs=2)
    crown = rasterize_shapes(list(discs), 1 + np.flatnonzero(inside) % 61, panel).astype(np.float32)
    crown *= (0.7 + 0.6 / 61 * crown) / np.maximum(crown, 1)
    return _natural(valley, panel, textures, feature_levels, shadows, crown)


def _natural(
    valley: Valley,
    panel: Panel,
    textures: dict[str, np.ndarray],
    feature_levels: list[np.ndarray],
    shadows: np.ndarray,
    crown: np.ndarray,
) -> StaticLayers:
    """Add water, forest, scrub, sand, bare patches and parcels."""
    terrain, frame = valley.terrain, valley.frame
    patches, slope, mottle, off_river, hillshade = (
        upsample(terrain.fields[name], panel) for name in ("patches", "slope", "mottle", "off_river", "shade")
    )
    grain, crowns, clumps = (tile_texture(textures[name], panel) for name in ("grain", "crowns", "clumps"))
    x = panel.x0 + np.arange(panel.shape[1])
    # Woods cover slopes everywhere, form scattered groves on the plain, and are rare in the delta.
    rough = 4.2 * slope + 0.55 * patches + 0.18 * clumps
    wooded = rough > interpolate_reaches(frame, x, 0.75, 1.05, 1.30)[None].astype(np.float32)
    scrub = ~wooded & (rough > interpolate_reaches(frame, x, 0.55, 0.86, 1.12)[None].astype(np.float32))
    bank = (off_river > -2) & (off_river < 16 + 14 * mottle)

    parcel, vigour, soil, edge = _parcels(valley, panel, textures)
    vegetation = np.full(panel.shape, NO_VEGETATION, dtype=np.uint8)
    land_cover = np.full(panel.shape, CROP_CLASS, dtype=np.uint8)
    soil_red = interpolate_reaches(frame, x, 1.10, 1.0, 0.94)[None].astype(np.float32)
    bands = [MATERIALS["brown_soil"][band] * (soil_red if band == 0 else 1) for band in range(4)]
    brightness = soil * (1 + 0.09 * grain + 0.04 * clumps)
    background = np.stack([band * brightness for band in bands])

    def fill(mask: np.ndarray, material: str, vegetation_type: str, texture: np.ndarray, cover_class: int) -> None:
        weight = (1 + MATERIALS[material][5] * texture)[mask]
        for band in range(4):
            background[band][mask] = MATERIALS[material][band] * weight
        vegetation[mask] = VEGETATION_CODE[vegetation_type] if vegetation_type else NO_VEGETATION
        parcel[mask], land_cover[mask] = -1, cover_class

    fill(edge, "lawn", "grass", grain, GRASS_CLASS)
    vigour[edge] = 0.75
    fill(scrub, "lawn", "grass", clumps, GRASS_CLASS)
    vigour[scrub] = (0.8 + 0.22 * crowns + 0.1 * clumps)[scrub].clip(0.1, 1.3)
    fill(wooded, "understorey", "evergreen", grain, TREE_CLASS)
    vigour[wooded] = (0.92 + 0.30 * crowns + 0.10 * grain)[wooded].clip(0.15, 1.6)
    fill((patches + 0.5 * mottle < -2.1) & ~wooded, "pale_soil", "", grain, BARE_CLASS)
    fill(bank, "sand", "", grain, BARE_CLASS)
    fill(rasterize_shapes([terrain.river], [1], panel) > 0, "river", "", clumps, WATER_CLASS)
    lakes = rasterize_shapes(terrain.lakes, [1] * len(terrain.lakes), panel) > 0
    fill(lakes, "lake", "", clumps, WATER_CLASS)
    vigour[(vegetation == NO_VEGETATION) & (parcel < 0)] = 0
    return StaticLayers(
        feature_levels,
        background,
        vigour.astype(np.float32),
        parcel,
        vegetation,
        shadows,
        crown,
        hillshade,
        (0.8 * grain + 0.35 * clumps).astype(np.float32),
        land_cover,
    )


def _parcels(
    valley: Valley, panel: Panel, textures: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return slot (int16), vigour, soil brightness and bank mask of strip-shaped parcels, all [rows, columns]."""
    frame, regions = valley.frame, valley.terrain.regions
    rng = frame.rng(60)
    angle = rng.uniform(-0.5, 0.5, len(regions)) + (rng.random(len(regions)) < 0.3) * np.pi / 2
    middle = np.array([region.centroid.x for region in regions])
    size = interpolate_reaches(frame, middle, 0.6, 1.25, 0.95)
    strip_m, length_m = size * rng.uniform(18, 36, len(regions)), size * rng.uniform(70, 140, len(regions))
    region = rasterize_shapes(regions, np.arange(len(regions)) + 1, panel).clip(1) - 1
    x = (panel.x0 + 0.5 + np.arange(panel.shape[1], dtype=np.float32))[None]
    y = (panel.y1 - 0.5 - np.arange(panel.shape[0], dtype=np.float32))[:, None]
    cos, sin, strip, length = (
        values.astype(np.float32)[region] for values in (np.cos(angle), np.sin(angle), strip_m, length_m)
    )
    across = (y * cos - x * sin) / strip
    lengthwise = (x * cos + y * sin) / length
    across += 0.12 * upsample(valley.terrain.fields["mottle"], panel)
    row = np.floor(across).astype(np.int32)
    lengthwise += ((row * 7919) % 97).astype(np.float32) / 97
    col = np.floor(lengthwise).astype(np.int32)
    slot = ((region * 7411 + row * 2377 + col * 5119) & (PARCEL_SLOTS - 1)).astype(np.int16)
    bank = ((across - row) * strip < 1.3) | ((lengthwise - col) * length < 1.3)
    vigour = rng.uniform(0.65, 1.12, PARCEL_SLOTS).astype(np.float32)[slot]
    orchard = (rng.random(PARCEL_SLOTS) < 0.07)[slot]
    tree_rows = 0.55 + 0.5 * np.cos(across * strip * np.float32(2 * np.pi / 5))
    grain, clumps = (tile_texture(textures[name], panel, 11) for name in ("grain", "clumps"))
    vigour = np.where(orchard, tree_rows, vigour * (1 + 0.10 * grain + 0.08 * clumps))
    soil = rng.uniform(0.80, 1.22, PARCEL_SLOTS).astype(np.float32)[slot]
    return slot, vigour, soil, bank
