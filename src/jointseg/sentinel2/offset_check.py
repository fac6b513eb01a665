"""Whether the pixels of a scene contradict the radiometric offset that it is said to have."""

from collections.abc import Sequence

import numpy as np

from jointseg.runtime.errors import DataError
from jointseg.sentinel2.scene import OFFSET_DN, Scene

# From baseline 04.00 on 1000 is added to the DN, and where the offset says so has to be taken off again, once: 0.1 in
# reflectance. Below -0.02 is no noise; dark water comes close to it in L2A, but not in one of 20 pixels.
ADDED, TOO_DARK, TOO_DARK_SHARE = 0.1, -0.02, 0.05
# Dense green vegetation, told by differences of bands, which an offset does not touch: the near infrared is brighter
# than red by this (bright soil, snow and cloud stay below 0.15), or green than both blue and red by that. Its
# chlorophyll leaves less than 0.1 of red, through any haze that a cloud mask lets pass.
NIR_OVER_RED, GREEN_OVER_OTHERS = 0.2, 0.015
# The cirrus band is black but for high cloud, whose tops differ more than this.
CIRRUS_SPREAD = 0.01
SAMPLE, NEARLY_ALL = 1000, 0.9


def check_offset(dn: np.ndarray, bands: Sequence[str], clear: np.ndarray, scene: Scene) -> None:
    """`check_reflectance` of what was seen clear.

    Args:
        dn: uint16 [bands, rows, columns] as stored; 0 unknown.
        bands: names of the bands.
        clear: bool [rows, columns].
        scene: whose offset and scale are checked.

    Raises:
        DataError: the pixels contradict the offset.
    """
    seen = dn[:, clear & (dn > 0).all(axis=0)]
    check_reflectance((seen.astype(np.float32) + scene.offset_dn) * np.float32(scene.scale), bands, scene)


def check_reflectance(reflectance: np.ndarray, bands: Sequence[str], scene: Scene) -> None:
    """Stops a scene whose offset was taken off before, or was not although the catalogue says so.

    An offset that is told but was taken off already would be so twice: more than 5 % of the pixels of a band then
    reflect less than nothing. One that is told as 0 but is still in the DN is found in two places alone, so that
    desert, snow, cloud and water raise no alarm: in the cirrus band B10, where nine of ten pixels would lie just above
    0.1, or in dense green vegetation, where nine of ten would be brighter in red than vegetation can be. Where
    neither is in sight, or less than 1000 pixels, nothing is said.

    Args:
        reflectance: float32 [bands, pixels] by the scene's offset and scale, all known.
        bands: names of the bands.
        scene: whose offset is checked.

    Raises:
        DataError: the pixels contradict the offset.
    """
    if reflectance.shape[1] < SAMPLE:
        return
    if scene.offset_dn < 0:
        for band, share in zip(bands, (reflectance < TOO_DARK).mean(axis=1)):
            if share > TOO_DARK_SHARE:
                raise DataError(
                    f"scene {scene.id} is said to have an offset of {scene.offset_dn}, but {share:.0%} of its pixels "
                    f"would reflect less than nothing in {band}: the offset was taken off already; correct it to 0 in "
                    "the catalogue"
                )
    elif scene.offset_dn == 0 and _still_added(dict(zip(bands, reflectance))):
        raise DataError(
            f"scene {scene.id} is said to have no offset, but its darkest ground is too bright by {-OFFSET_DN} DN: the "
            f"offset was not taken off; correct it to {OFFSET_DN} in the catalogue"
        )


def _still_added(reflectance: dict[str, np.ndarray]) -> bool:
    """Whether 0.1 is in the reflectance (float32 [pixels] by band) that should not be."""
    if "B10" in reflectance:
        above = reflectance["B10"] - ADDED
        return float(((above >= 0) & (above < CIRRUS_SPREAD)).mean()) > NEARLY_ALL
    if "B04" not in reflectance:
        return False
    red = reflectance["B04"]
    if "B08" in reflectance:
        vegetation = reflectance["B08"] - red > NIR_OVER_RED
    elif {"B02", "B03"} <= reflectance.keys():
        vegetation = reflectance["B03"] - np.maximum(reflectance["B02"], red) > GREEN_OVER_OTHERS
    else:
        return False
    return vegetation.sum() >= SAMPLE and float((red[vegetation] >= ADDED).mean()) > NEARLY_ALL
