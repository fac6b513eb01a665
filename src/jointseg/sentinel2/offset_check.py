"""Detect a radiometric offset in the metadata that the pixels of the scene contradict."""

from collections.abc import Sequence

import numpy as np

from jointseg.runtime.errors import DataError
from jointseg.sentinel2.scene import OFFSET_DN, Scene

# Baseline 04.00 and later add 1000 to the DN, a reflectance of 0.1. Noise does not reach -0.02; dark water in L2A
# comes close, but not in 5 % of the pixels.
ADDED, TOO_DARK, MAX_TOO_DARK_FRACTION = 0.1, -0.02, 0.05
# Dense green vegetation, by band differences, which do not depend on the offset: near infrared minus red (bright soil,
# snow and cloud stay below 0.15), or green minus the brighter of blue and red. Chlorophyll absorption keeps its red
# below 0.1, even under haze that passes a cloud mask.
NIR_MINUS_RED, GREEN_MINUS_OTHERS = 0.2, 0.015
# The cirrus band is dark except for high clouds, whose tops vary by more than this.
CIRRUS_SPREAD = 0.01
MIN_PIXELS, NEARLY_ALL = 1000, 0.9


def check_offset(dn: np.ndarray, bands: Sequence[str], clear: np.ndarray, scene: Scene) -> None:
    """Apply `check_reflectance` to the clear pixels, bool [rows, columns], of DN, uint16 [bands, rows, columns]."""
    pixels = dn[:, clear & (dn > 0).all(axis=0)]
    check_reflectance((pixels.astype(np.float32) + scene.offset_dn) * np.float32(scene.scale), bands, scene)


def check_reflectance(reflectance: np.ndarray, bands: Sequence[str], scene: Scene) -> None:
    """Raise DataError if the offset was subtracted before, or is still in the DN although the metadata state 0.

    A second subtraction makes more than 5 % of the pixels of a band negative. An offset that is still in the DN is
    detected only where desert, snow, cloud and water cause no false alarm: in the cirrus band B10, if 90 % of the
    pixels are just above 0.1, or in dense green vegetation, if 90 % of it has more red reflectance than vegetation can
    have. Without either, or with fewer than 1000 pixels, the check passes. The reflectance, float32 [bands, pixels], is
    valid in all bands.
    """
    if reflectance.shape[1] < MIN_PIXELS:
        return
    if scene.offset_dn < 0:
        for band, fraction in zip(bands, (reflectance < TOO_DARK).mean(axis=1)):
            if fraction > MAX_TOO_DARK_FRACTION:
                raise DataError(
                    f"scene {scene.id} has an offset of {scene.offset_dn} in its metadata, but it would make {fraction:.0%} "
                    f"of the pixels negative in {band}: the offset was already subtracted; set it to 0 in the catalogue"
                )
    elif scene.offset_dn == 0 and _has_offset(dict(zip(bands, reflectance))):
        raise DataError(
            f"scene {scene.id} has no offset in its metadata, but its darkest pixels are {-OFFSET_DN} DN too bright: the "
            f"offset was not subtracted; set it to {OFFSET_DN} in the catalogue"
        )


def _has_offset(reflectance: dict[str, np.ndarray]) -> bool:
    """Return whether the reflectance (float32 [pixels] by band) still contains the offset of 0.1."""
    if "B10" in reflectance:
        above = reflectance["B10"] - ADDED
        return float(((above >= 0) & (above < CIRRUS_SPREAD)).mean()) > NEARLY_ALL
    if "B04" not in reflectance:
        return False
    red = reflectance["B04"]
    if "B08" in reflectance:
        vegetation = reflectance["B08"] - red > NIR_MINUS_RED
    elif {"B02", "B03"} <= reflectance.keys():
        vegetation = reflectance["B03"] - np.maximum(reflectance["B02"], red) > GREEN_MINUS_OTHERS
    else:
        return False
    return vegetation.sum() >= MIN_PIXELS and float((red[vegetation] >= ADDED).mean()) > NEARLY_ALL
