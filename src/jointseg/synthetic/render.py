"""Render a panel of the valley at 1 m in any year: reflectance, leaves, visible features, land cover."""

from dataclasses import dataclass

import numpy as np

from jointseg.synthetic.landscape import (
    BARE_CLASS,
    BUILDING_CLASS,
    CROP_CLASS,
    GRASS_CLASS,
    NO_VEGETATION,
    PARCEL_SLOTS,
    ROAD_CLASS,
    WATER_CLASS,
    StaticLayers,
)
from jointseg.synthetic.materials import MATERIALS, VEGETATION_CODE, VEGETATION_TYPES
from jointseg.synthetic.objects import ROOF
from jointseg.synthetic.valley import Valley

# Brightness in a cast shadow relative to full sun, by band: skylight is blue.
SHADOW_FACTOR = np.array([0.34, 0.38, 0.46, 0.30], dtype=np.float32)
CROPS = np.array(
    [*(VEGETATION_CODE[name] for name in ("double_crop", "rice", "summer_crop", "evergreen")), NO_VEGETATION],
    dtype=np.uint8,
)
CROP_FRACTIONS = np.array([0.30, 0.30, 0.24, 0.06, 0.10])  # the last is fallow
COVER_OF_KIND = {
    **dict.fromkeys(("building", "roof"), BUILDING_CLASS),
    **dict.fromkeys(("site", "path", "solar"), BARE_CLASS),
    **{"lawn": GRASS_CLASS, "pond": WATER_CLASS, "greenhouse": CROP_CLASS},
}


@dataclass
class YearlyView:
    """One year of a panel at 1 m."""

    static: np.ndarray  # float32 [4, rows, columns], reflectance without leaves
    leaves: np.ndarray  # float32 [rows, columns], weight of the leaves
    vegetation: np.ndarray  # uint8 [rows, columns], vegetation code; NO_VEGETATION for none
    top: np.ndarray  # int32 [rows, columns], 1 + index of the topmost feature, 0 for none


def yearly_crops(rng: np.random.Generator) -> np.ndarray:
    """Draw the crop of each parcel slot in one year: uint8 [4096], NO_VEGETATION for fallow parcels."""
    return rng.choice(CROPS, PARCEL_SLOTS, p=CROP_FRACTIONS / CROP_FRACTIONS.sum())


def top_features(valley: Valley, layers: StaticLayers, year: int) -> np.ndarray:
    """Return 1 + index of the topmost feature that exists in a year, 0 for none: int32 [rows, columns]."""
    exists = _exists(valley, year)
    top = np.zeros_like(layers.feature_levels[0])
    for level in layers.feature_levels:
        np.copyto(top, level, where=exists[level])
    return top


def _exists(valley: Valley, year: int) -> np.ndarray:
    """Return which features exist in a year, bool [1 + features]; index 0 means no feature."""
    return np.array([False] + [feature.year_built <= year for feature in valley.features])


def render_year(valley: Valley, layers: StaticLayers, year: int) -> YearlyView:
    features = valley.features
    top = top_features(valley, layers, year)
    texture_strength = np.array([0] + [MATERIALS[feature.material][5] for feature in features], dtype=np.float32)
    codes = [VEGETATION_CODE[feature.vegetation] if feature.vegetation else NO_VEGETATION for feature in features]
    vegetation_of = np.array([NO_VEGETATION, *codes], dtype=np.uint8)
    built = top > 0
    # Crowns only show above features: elsewhere the natural vegetation hides them.
    crown = np.where(built, layers.crown, 0)
    under_crown = crown > 0
    roofs = np.array([False] + [feature.level >= ROOF for feature in features])
    shaded = _exists(valley, year)[layers.shadows] & ~roofs[top]
    grain = 1 + texture_strength[top] * layers.texture
    static = layers.background.copy()
    for band in range(4):
        values = np.concatenate([[0], valley.spectra[:, band]]).astype(np.float32)[top]
        values *= grain
        np.copyto(static[band], values, where=built)
        np.copyto(static[band], MATERIALS["tree"][band] * crown, where=under_crown)
        static[band] *= layers.hillshade
        np.multiply(static[band], SHADOW_FACTOR[band], out=static[band], where=shaded)
    vegetation = np.where(built, vegetation_of[top], layers.vegetation)
    crops = yearly_crops(valley.frame.rng(61, year))
    field = ~built & (layers.parcel >= 0)
    vegetation[field] = crops[layers.parcel[field]]
    vegetation[under_crown] = VEGETATION_CODE["evergreen"]
    leaves = np.where(built, np.float32(0.9) + np.float32(0.15) * layers.texture, layers.vigour)
    leaves = np.where(under_crown, crown, leaves) * layers.hillshade * np.where(shaded, np.float32(0.36), np.float32(1))
    leaves[vegetation == NO_VEGETATION] = 0
    return YearlyView(static, leaves.astype(np.float32), vegetation, top)


def reflectance_on_date(view: YearlyView, fraction: np.ndarray, band: int, difference: np.ndarray) -> np.ndarray:
    """Return the reflectance of a band (0 red, 1 green, 2 blue, 3 near infrared) on a date: float32 [rows, columns].

    `fraction` is the green fraction of each vegetation type on the date, [types]; `difference` is the reflectance of
    leaves minus that of the soil below, [types, 4].
    """
    gain = np.zeros(256, dtype=np.float32)
    gain[: len(VEGETATION_TYPES)] = fraction * difference[:, band]
    return np.maximum(view.static[band] + view.leaves * gain[view.vegetation], 0.004)


def land_cover(valley: Valley, layers: StaticLayers, top: np.ndarray) -> np.ndarray:
    """Return land cover classes at 1 m in the codes of SinoLC-1: uint8 [rows, columns]."""
    codes = [COVER_OF_KIND.get(feature.kind, ROAD_CLASS) for feature in valley.features]
    return np.where(top > 0, np.array([0, *codes], dtype=np.uint8)[top], layers.land_cover)
