"""Joint registration and quality control of all chips of one high-resolution scene."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import maximum_filter, uniform_filter

from jointseg.dataset import radiometric_match, registration
from jointseg.dataset.radiometric_match import RadiometricMatch
from jointseg.dataset.registration import RegistrationShift

# A chip registers reliably from this correlation on and up to this standard deviation along an axis; a scene's shift
# needs this many reliable chips.
MIN_PEAK_CORRELATION, MAX_SHIFT_SD_M, MIN_POOLED_CHIPS = 0.3, 0.5, 3
# A reliable chip whose shift differs by more than this from its scene's shift is in a locally distorted part of the
# scene and keeps its own shift.
LOCAL_DISTORTION_M = 3.0
# Reflectance: a composite whose largest standard deviation of a band is below this is featureless.
FEATURELESS_SD = 0.01
# A pixel is cloud or haze if it is brighter than the composite by this reflectance in all bands, after the scene's
# radiometric match; chips with more than this fraction are rejected.
HAZE_REFLECTANCE, HAZE_FRACTION = 0.06, 0.1
# Water over land is smooth where the composite is not: squares of this many 10 m pixels in which the composite's
# standard deviation is above TEXTURE_SD (reflectance) and the scene's is below this fraction of it. Chips with more
# than FLOOD_FRACTION of their area in such squares are rejected.
FLOOD_PX, TEXTURE_SD, SMOOTH_FRACTION, FLOOD_FRACTION = (3, 5), 0.01, 0.2, 0.08


@dataclass
class ChipScenePair:
    """The images of one sample and one scene, as inputs of the registration."""

    sample_id: str
    lr: np.ndarray  # float32 [3, h, w], reflectance of the composite
    valid: np.ndarray  # bool [h, w], valid pixels of `lr`
    smooth: np.ndarray  # float32 [3, ...], blurred 1 m digital numbers of the scene with a margin
    margin_m: int


@dataclass
class SceneRecord:
    """The reliably registered chips of a scene so far; more chips of the scene may follow."""

    shifts: list[tuple[float, float]] = field(default_factory=list)
    # (scene, composite) at their valid pixels, [3, n] each
    pixels: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


@dataclass(frozen=True)
class RegistrationResult:
    """`status` is "ok" or the reason of the rejection; `image` is the registered scene at 10 m."""

    status: str
    shift: RegistrationShift
    correlation: float
    image: np.ndarray


def featureless(lr: np.ndarray, valid: np.ndarray) -> bool:
    """Return whether a composite [bands, h, w] has too little contrast for registration."""
    return float(lr[:, valid].std(axis=1).max()) < FEATURELESS_SD


def register_chips(
    pairs: Sequence[ChipScenePair], max_shift_m: float, min_correlation: float, record: SceneRecord | None = None
) -> list[RegistrationResult]:
    """Register the chips of one scene and accept or reject each.

    The scene's shift is the median over its reliable chips if there are at least MIN_POOLED_CHIPS. Its standard
    deviation is the spread of their shifts, which includes misregistration between the dates of the composite. Each
    chip must also register by itself, and its own shift must be consistent with the shift that it gets. Chips with a
    larger shift than `max_shift_m` or a lower structural agreement than `min_correlation` are rejected. `record`
    contains earlier chips of the scene and is updated.
    """
    record = SceneRecord() if record is None else record
    radius_m = search_radius_m(max_shift_m)
    own = [_register_chip(pair, radius_m) for pair in pairs]
    reliable = [shift.sd_m <= MAX_SHIFT_SD_M and peak >= MIN_PEAK_CORRELATION for shift, peak in own]
    record.shifts += [
        shift.shift_m for (shift, _), good in zip(own, reliable) if good and math.hypot(*shift.shift_m) <= max_shift_m
    ]
    common = pooled_shift(record.shifts)
    shifts = [_chip_shift(pair, shift, good, common, radius_m) for pair, (shift, _), good in zip(pairs, own, reliable)]
    images = [
        registration.sample_at_10m(pair.smooth, pair.valid.shape, pair.margin_m, _clip(shift.shift_m, radius_m))
        for pair, shift in zip(pairs, shifts)
    ]
    pixels = [(image[:, pair.valid], pair.lr[:, pair.valid]) for image, pair in zip(images, pairs)]
    record.pixels += [chip_pixels for chip_pixels, good in zip(pixels, reliable) if good]
    match = fit_scene(record.pixels or pixels)
    return [
        _result(pair, image, shift, match, max_shift_m, min_correlation)
        for pair, image, shift in zip(pairs, images, shifts)
    ]


def _register_chip(pair: ChipScenePair, radius_m: int) -> tuple[RegistrationShift, float]:
    """Return a chip's own shift, and the correlation at the peak of its correlation surface."""
    surface = registration.correlation_surface(pair.lr, pair.valid, pair.smooth, pair.margin_m, radius_m)
    coarse, peak = registration.find_peak(surface)
    return registration.refine_shift(pair.lr, pair.valid, pair.smooth, pair.margin_m, coarse, radius_m), peak


def search_radius_m(max_shift_m: float) -> int:
    """Return the largest shift tried along an axis, m: one step more than the maximum, in whole steps."""
    return (math.ceil(max_shift_m / registration.STEP_M) + 1) * registration.STEP_M


def pooled_shift(shifts: Sequence[tuple[float, float]]) -> RegistrationShift | None:
    """Return the median of a scene's shifts; None if there are too few, or if half of them are far from it."""
    if len(shifts) < MIN_POOLED_CHIPS:
        return None
    x, y = np.median(shifts, axis=0)
    deviation = np.abs(np.array(shifts) - (x, y))
    sd = 1.4826 * np.median(deviation, axis=0)
    if np.median(np.hypot(*deviation.T)) > LOCAL_DISTORTION_M:
        return None
    return RegistrationShift((float(x), float(y)), math.sqrt(float((sd**2).mean())))


def fit_scene(pixels: Sequence[tuple[np.ndarray, np.ndarray]]) -> RadiometricMatch:
    """Return the radiometric match of a scene over the pixels [3, n] of all of its chips, (scene, composite) each."""
    scene, composite = (np.concatenate(arrays, axis=1) for arrays in zip(*pixels))
    return radiometric_match.fit_match(scene, composite, np.ones(scene.shape[1], dtype=bool))


def _chip_shift(
    pair: ChipScenePair, own: RegistrationShift, reliable: bool, common: RegistrationShift | None, radius_m: int
) -> RegistrationShift:
    """Return the shift to apply to a chip; its standard deviation is NaN if it is doubtful."""
    if common is None:
        return own if reliable else RegistrationShift(own.shift_m, math.nan)
    if not reliable:
        own = registration.refine_shift(pair.lr, pair.valid, pair.smooth, pair.margin_m, common.shift_m, radius_m)
    distance = math.dist(own.shift_m, common.shift_m)
    if distance <= LOCAL_DISTORTION_M and own.sd_m <= MAX_SHIFT_SD_M:
        return common
    if reliable:
        return own
    return RegistrationShift(common.shift_m, math.nan)


def _clip(shift_m: tuple[float, float], radius_m: int) -> tuple[float, float]:
    x, y = np.clip(shift_m, -radius_m, radius_m)
    return float(x), float(y)


def _result(
    pair: ChipScenePair,
    image: np.ndarray,
    shift: RegistrationShift,
    match: RadiometricMatch,
    max_shift_m: float,
    min_correlation: float,
) -> RegistrationResult:
    fitted = radiometric_match.apply_match(match, image)
    correlation = float(np.clip(radiometric_match.structural_agreement(fitted, pair.lr, pair.valid), 0, 1))
    bright_fraction = ((fitted - pair.lr).min(axis=0) > HAZE_REFLECTANCE)[pair.valid].mean()
    if bright_fraction > HAZE_FRACTION:
        status = "cloud or haze"
    elif flooded_fraction(fitted, pair.lr, pair.valid) > FLOOD_FRACTION:
        status = "flooded"
    elif math.isnan(shift.sd_m):
        status = "no registration"
    elif math.hypot(*shift.shift_m) > max_shift_m:
        status = "shift too large"
    elif correlation < min_correlation or (match.gain <= 0).any():
        status = "low correlation"
    else:
        status = "ok"
    return RegistrationResult(status, shift, correlation, image)


def flooded_fraction(image: np.ndarray, lr: np.ndarray, valid: np.ndarray) -> float:
    """Return the fraction of the chip in valid squares in which the composite has texture and the scene has none.

    Both images are reflectance [bands, h, w] at 10 m; `valid` is bool [h, w].
    """
    covered = np.zeros(valid.shape, dtype=bool)
    for size in FLOOD_PX:
        all_valid = uniform_filter(valid.astype(np.float64), size, mode="constant") > 1 - 1e-6
        scene, composite = (_texture(np.where(valid, values, 0), size) for values in (image, lr))
        covered |= maximum_filter(all_valid & (composite > TEXTURE_SD) & (scene < SMOOTH_FRACTION * composite), size)
    return float(covered.mean())


def _texture(values: np.ndarray, size: int) -> np.ndarray:
    """Return the standard deviation in the square around each pixel [h, w], root mean square over bands."""
    squares = (1, size, size)
    values = values.astype(np.float64)
    variance = uniform_filter(values**2, squares, mode="nearest") - uniform_filter(values, squares, mode="nearest") ** 2
    return np.sqrt(np.maximum(variance, 0).mean(axis=0))
