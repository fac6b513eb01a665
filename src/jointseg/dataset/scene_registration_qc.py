"""Registers the chips of one scene together, and tells which of them can be believed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import maximum_filter, uniform_filter

from jointseg.dataset import radiometric_match, registration
from jointseg.dataset.radiometric_match import RadiometricMatch
from jointseg.dataset.registration import RegistrationShift

# A chip's own shift counts for its scene's from this correlation on and up to this standard deviation along an
# axis, and a scene needs that many such chips.
MIN_PEAK_CORRELATION, MAX_SHIFT_SD_M, MIN_POOLED_CHIPS = 0.3, 0.5, 3
# A chip that disagrees with its scene by more than this, and surely so, lies on ground where the scene is distorted:
# its own shift counts.
LOCAL_DISTORTION_M = 3.0
# Reflectance: contrast (standard deviation in the band that has most) below which a composite is featureless.
FEATURELESS = 0.01
# Brighter by this reflectance in all bands, after the scene's radiometric fit, is cloud or haze; rejected from
# that share of the chip on.
HAZE_REFLECTANCE, HAZE_FRACTION = 0.06, 0.1
# Water over land is smooth where the composite is not: squares of so many 10 m pixels in which the composite varies by
# more than this reflectance and the scene by less than this share of it; rejected from where they cover that share of
# the chip on.
FLOOD_PX, TEXTURE, SMOOTH, FLOOD_FRACTION = (3, 5), 0.01, 0.2, 0.08


@dataclass
class ChipScenePair:
    """One sample with one scene: what registration needs."""

    sample_id: str
    lr: np.ndarray  # float32 [3, h, w], reflectance
    known: np.ndarray  # bool [h, w]
    smooth: np.ndarray  # float32 [3, ...], blurred 1 m digital numbers with a margin
    margin_m: int


@dataclass
class SceneRecord:
    """What the surely registered chips of a scene have told so far: more of its chips may be tried later.

    Attributes:
        shifts: their own shifts.
        pixels: (the scene, the composite) at their known pixels, [3, n] each.
    """

    shifts: list[tuple[float, float]] = field(default_factory=list)
    pixels: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


@dataclass(frozen=True)
class RegistrationResult:
    """`status` is "ok" or why the chip is rejected; `image` is the scene at 10 m, registered."""

    status: str
    place: RegistrationShift
    quality: float
    image: np.ndarray


def featureless(lr: np.ndarray, known: np.ndarray) -> bool:
    """Whether a composite [bands, h, w] has too little contrast to be registered on."""
    return float(lr[:, known].std(axis=1).max()) < FEATURELESS


def register_chips(
    attempts: Sequence[ChipScenePair], max_shift_m: float, min_correlation: float, learnt: SceneRecord | None = None
) -> list[RegistrationResult]:
    """Registers the chips of one scene and accepts or rejects each.

    The scene's shift is the median over the chips that are surely registered, if there are POOL_CHIPS of them; its
    standard deviation is their spread about it, to which a composite adds whose dates do not lie exactly on each
    other. Each chip's own shift must be found too, and not contradict what the chip is given.

    Args:
        learnt: of earlier chips of the same scene; these are added to it.
    """
    learnt = SceneRecord() if learnt is None else learnt
    reach_m = search_radius_m(max_shift_m)
    own = [_own(one, reach_m) for one in attempts]
    good = [place.sd_m <= MAX_SHIFT_SD_M and value >= MIN_PEAK_CORRELATION for place, value in own]
    learnt.shifts += [
        place.shift_m for (place, _), sure in zip(own, good) if sure and math.hypot(*place.shift_m) <= max_shift_m
    ]
    common = pooled_shift(learnt.shifts)
    places = [_place(one, place, sure, common, reach_m) for one, (place, _), sure in zip(attempts, own, good)]
    images = [
        registration.sample_at_10m(one.smooth, one.known.shape, one.margin_m, _inside(place.shift_m, reach_m))
        for one, place in zip(attempts, places)
    ]
    pixels = [(image[:, one.known], one.lr[:, one.known]) for image, one in zip(images, attempts)]
    learnt.pixels += [some for some, sure in zip(pixels, good) if sure]
    match = fit_scene(learnt.pixels or pixels)
    return [
        _verdict(one, image, place, match, max_shift_m, min_correlation)
        for one, image, place in zip(attempts, images, places)
    ]


def _own(one: ChipScenePair, reach_m: int) -> tuple[RegistrationShift, float]:
    """A chip's own shift, and the correlation that it was first found by."""
    surface = registration.correlation_surface(one.lr, one.known, one.smooth, one.margin_m, reach_m)
    coarse, value = registration.find_peak(surface)
    return registration.refine_shift(one.lr, one.known, one.smooth, one.margin_m, coarse, reach_m), value


def search_radius_m(max_shift_m: float) -> int:
    """Largest shift that is tried along an axis, m: a step beyond what is believed, in whole steps."""
    return (math.ceil(max_shift_m / registration.STEP_M) + 1) * registration.STEP_M


def pooled_shift(shifts: Sequence[tuple[float, float]]) -> RegistrationShift | None:
    """The median of a scene's shifts; None when there are too few, or half of them are far from it."""
    if len(shifts) < MIN_POOLED_CHIPS:
        return None
    x, y = np.median(shifts, axis=0)
    away = np.abs(np.array(shifts) - (x, y))
    sd = 1.4826 * np.median(away, axis=0)
    if np.median(np.hypot(*away.T)) > LOCAL_DISTORTION_M:
        return None
    return RegistrationShift((float(x), float(y)), math.sqrt(float((sd**2).mean())))


def fit_scene(pixels: Sequence[tuple[np.ndarray, np.ndarray]]) -> RadiometricMatch:
    """The radiometric match of a scene over the pixels [3, n] of all of its chips, (scene, composite) each."""
    scene, composite = (np.concatenate(some, axis=1) for some in zip(*pixels))
    return radiometric_match.fit_match(scene, composite, np.ones(scene.shape[1], dtype=bool))


def _place(
    one: ChipScenePair, own: RegistrationShift, sure: bool, common: RegistrationShift | None, reach_m: int
) -> RegistrationShift:
    """What a chip is moved by; its standard deviation is nan where it is doubtful."""
    if common is None:
        return own if sure else RegistrationShift(own.shift_m, math.nan)
    if not sure:
        own = registration.refine_shift(one.lr, one.known, one.smooth, one.margin_m, common.shift_m, reach_m)
    apart = math.dist(own.shift_m, common.shift_m)
    if apart <= LOCAL_DISTORTION_M and own.sd_m <= MAX_SHIFT_SD_M:
        return common
    if sure:
        return own
    return RegistrationShift(common.shift_m, math.nan)


def _inside(shift_m: tuple[float, float], reach_m: int) -> tuple[float, float]:
    x, y = np.clip(shift_m, -reach_m, reach_m)
    return float(x), float(y)


def _verdict(
    one: ChipScenePair,
    image: np.ndarray,
    place: RegistrationShift,
    match: RadiometricMatch,
    max_shift_m: float,
    min_correlation: float,
) -> RegistrationResult:
    fitted = radiometric_match.apply_match(match, image)
    quality = float(np.clip(radiometric_match.structural_agreement(fitted, one.lr, one.known), 0, 1))
    brighter = ((fitted - one.lr).min(axis=0) > HAZE_REFLECTANCE)[one.known].mean()
    if brighter > HAZE_FRACTION:
        status = "cloud or haze"
    elif flooded_fraction(fitted, one.lr, one.known) > FLOOD_FRACTION:
        status = "flooded"
    elif math.isnan(place.sd_m):
        status = "no registration"
    elif math.hypot(*place.shift_m) > max_shift_m:
        status = "shift too large"
    elif quality < min_correlation or (match.gain <= 0).any():
        status = "low correlation"
    else:
        status = "ok"
    return RegistrationResult(status, place, quality, image)


def flooded_fraction(image: np.ndarray, lr: np.ndarray, known: np.ndarray) -> float:
    """Share of the chip covered by known squares in which the composite has structure and the scene has none.

    Args:
        image: [bands, h, w], the scene at 10 m in reflectance.
        lr: [bands, h, w], reflectance of the composite.
        known: bool [h, w].
    """
    covered = np.zeros(known.shape, dtype=bool)
    for size in FLOOD_PX:
        whole = uniform_filter(known.astype(np.float64), size, mode="constant") > 1 - 1e-6
        seen, wanted = (_texture(np.where(known, values, 0), size) for values in (image, lr))
        covered |= maximum_filter(whole & (wanted > TEXTURE) & (seen < SMOOTH * wanted), size)
    return float(covered.mean())


def _texture(values: np.ndarray, size: int) -> np.ndarray:
    """Standard deviation in the square around each pixel [h, w], root mean square over bands."""
    squares = (1, size, size)
    values = values.astype(np.float64)
    variance = uniform_filter(values**2, squares, mode="nearest") - uniform_filter(values, squares, mode="nearest") ** 2
    return np.sqrt(np.maximum(variance, 0).mean(axis=0))
