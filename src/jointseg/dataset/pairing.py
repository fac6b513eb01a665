"""Pairs every sample with the best Jilin-1 scene that registers on the composite."""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from jointseg import raster
from jointseg.dataset import registration
from jointseg.dataset.composites import Composites
from jointseg.dataset.jilin1 import Scene, candidates, index, read
from jointseg.errors import DataError
from jointseg.progress import bar

log = logging.getLogger(__name__)

# In the order of the scenes' red, green and blue.
BANDS = ("B04", "B03", "B02")
# A chip's own peak counts for its scene's shift from this correlation on, and a scene needs that many such chips.
PEAK, POOL_CHIPS = 0.3, 3
# A chip that disagrees with its scene by more than this, and correlates that much better where it says, lies on
# ground where the scene is distorted: its own shift counts.
LOCAL_M, LOCAL_GAIN = 3.0, 0.1
# Brighter by this reflectance in all bands, after the scene's radiometric fit, is cloud or haze; rejected from
# that share of the chip on.
HAZE, HAZE_SHARE = 0.06, 0.1
# Largest share of a chip that may be unknown in the composite, and in the scene.
UNKNOWN_LR, UNKNOWN_HR = 0.5, 0.02


@dataclass
class Attempt:
    """One sample with one scene: what registration needs, and what it found."""

    sample_id: str
    lr: np.ndarray  # float32 [3, h, w], reflectance
    known: np.ndarray  # bool [h, w]
    smooth: np.ndarray  # float32, blurred 1 m digital numbers with a margin
    correlation: np.ndarray  # surface over shifts


@dataclass(frozen=True)
class Pair:
    """What is recorded of a sample; `status` is "ok" or why it was rejected."""

    sample_id: str
    status: str
    scene: Scene | None = None
    shift_m: tuple[float, float] = (math.nan, math.nan)
    quality: float = math.nan


def pairing(
    *,
    samples: Path,
    composites: Sequence[Path],
    jilin1: Path,
    pairs: Path,
    reach: str,
    chip_m: int,
    year: int,
    max_shift_m: float,
    min_quality: float,
    max_cloud_percent: float,
) -> dict[str, Any]:
    """Finds for every sample of a reach the scene, its shift and how well it agrees with the composite.

    Scenes that hold the whole chip are tried from the least cloudy on (then from the nearest to mid-season of
    `year`) until one is accepted. A scene is registered by the median over its chips' own shifts; shift_x_m and
    shift_y_m are to be added to its coordinates. A sample that no scene passes for is kept in the table with the
    reason of its first scene as `status`.

    Args:
        chip_m: side of a chip.
        year: of the composites.
        max_shift_m: a registration that finds more is not believed.
        min_quality: smallest agreement (0..1, `registration.agreement`) of the registered, radiometrically fitted
            scene with the composite.
        max_cloud_percent: scenes cloudier by their metadata are not tried.

    Raises DataError when the reach has no samples, or not one pair is accepted.
    """
    table = gpd.read_parquet(samples)
    table = table[table["reach"] == reach].sort_values("sample_id")
    if table.empty:
        raise DataError(f"{samples} has no samples of reach {reach!r}")
    scenes, skipped = index(jilin1)
    mosaics = Composites(composites)
    waiting: dict[str, list[Scene]] = {}
    refused: dict[str, Pair] = {}
    bounds = {row.sample_id: (row.minx, row.miny, row.minx + chip_m, row.miny + chip_m) for row in table.itertuples()}
    epsg = dict(zip(table["sample_id"], table["epsg"].astype(int)))
    for sample_id, square in bounds.items():
        holding = candidates(scenes, epsg[sample_id], square, year)
        clear = [scene for scene in holding if (scene.cloud_percent or 0) <= max_cloud_percent]
        if clear:
            waiting[sample_id] = clear
        else:
            refused[sample_id] = Pair(sample_id, "scene too cloudy" if holding else "no scene holds the chip")
    accepted: dict[str, Pair] = {}
    with bar(f"pairing {reach}", len(table), "chip") as shown:
        shown.advance(len(refused))
        while waiting:
            by_scene: dict[str, list[str]] = defaultdict(list)
            for sample_id, left in waiting.items():
                by_scene[left[0].id].append(sample_id)
            for scene_id in sorted(by_scene):
                scene = waiting[by_scene[scene_id][0]][0]
                attempts: list[Attempt] = []
                for sample_id in by_scene[scene_id]:
                    done = _load(jilin1, scene, mosaics, sample_id, epsg[sample_id], bounds[sample_id], max_shift_m)
                    if isinstance(done, Pair):
                        refused.setdefault(sample_id, done)
                    else:
                        attempts.append(done)
                for pair in judge(scene, attempts, max_shift_m, min_quality):
                    if pair.status == "ok":
                        accepted[pair.sample_id] = pair
                    else:
                        refused.setdefault(pair.sample_id, pair)
                ended = [key for key in by_scene[scene_id] if key in accepted or len(waiting[key]) == 1]
                shown.advance(len(ended))
            waiting = {key: left[1:] for key, left in waiting.items() if key not in accepted and len(left) > 1}
    rows = [accepted.get(sample_id) or refused[sample_id] for sample_id in bounds]
    statuses = dict(sorted(Counter(pair.status for pair in rows).items()))
    log.info("%s: %s", reach, statuses)
    if not accepted:
        raise DataError(f"no sample of reach {reach} could be paired: {statuses}; see the deliveries in {jilin1}")
    with raster.atomic(pairs) as part:
        _frame(rows, year).to_parquet(part)
    used = sorted({pair.scene.id for pair in accepted.values() if pair.scene})
    return {"statuses": statuses, "scenes": used, "skipped": skipped}


def _load(
    folder: Path,
    scene: Scene,
    mosaics: Composites,
    sample_id: str,
    epsg: int,
    square: tuple[float, float, float, float],
    max_shift_m: float,
) -> Attempt | Pair:
    """Reads both images of a sample and correlates them; a Pair when one of them is mostly unknown."""
    dn, known = mosaics.read(epsg, square, BANDS)
    if known.mean() < 1 - UNKNOWN_LR:
        return Pair(sample_id, "composite unknown", scene)
    step_m = registration.STEP_M
    reach_m = (math.ceil(max_shift_m / step_m) + 1) * step_m
    margin_m = reach_m + registration.RATIO + registration.PSF_MARGIN_M
    west, south, east, north = square
    around = (west - margin_m, south - margin_m, east + margin_m, north + margin_m)
    values, seen = read(folder, scene, epsg, around, (0.0, 0.0))
    if seen[margin_m:-margin_m, margin_m:-margin_m].mean() < 1 - UNKNOWN_HR:
        return Pair(sample_id, "scene has no data", scene)
    lr = dn.astype(np.float32) * np.float32(1e-4)
    smooth = registration.blur(values, seen)
    correlation = registration.surface(lr, known, smooth, margin_m, reach_m)
    return Attempt(sample_id, lr, known, smooth, correlation)


def judge(scene: Scene, attempts: list[Attempt], max_shift_m: float, min_quality: float) -> list[Pair]:
    """Registers the chips of one scene together and accepts or rejects each."""
    peaks = [registration.peak(attempt.correlation) for attempt in attempts]
    good = [shift for shift, value in peaks if value >= PEAK and math.hypot(*shift) <= max_shift_m]
    common = _common(good)
    shifts: list[tuple[float, float]] = []
    for attempt, (own, value) in zip(attempts, peaks):
        if common is None:
            shifts.append(own)
            continue
        apart = math.hypot(own[0] - common[0], own[1] - common[1])
        better = value - registration.value_at(attempt.correlation, common)
        shifts.append(own if apart > LOCAL_M and better > LOCAL_GAIN and value >= PEAK else common)
    images = [
        registration.at_10m(
            attempt.smooth, attempt.known.shape, (attempt.smooth.shape[1] - 10 * attempt.known.shape[0]) // 2, shift
        )
        for attempt, shift in zip(attempts, shifts)
    ]
    if not attempts:
        return []
    match = registration.fit(
        np.concatenate([image[:, attempt.known] for image, attempt in zip(images, attempts)], axis=1),
        np.concatenate([attempt.lr[:, attempt.known] for attempt in attempts], axis=1),
        np.ones(sum(int(attempt.known.sum()) for attempt in attempts), dtype=bool),
    )
    out = []
    for attempt, image, shift, (_, value) in zip(attempts, images, shifts, peaks):
        fitted = registration.apply(match, image)
        quality = registration.agreement(fitted, attempt.lr, attempt.known)
        brighter = ((fitted - attempt.lr).min(axis=0) > HAZE)[attempt.known].mean()
        status = "ok"
        if common is None and value < PEAK:
            status = "no registration"
        elif math.hypot(*shift) > max_shift_m:
            status = "shift too large"
        elif brighter > HAZE_SHARE:
            status = "cloud or haze"
        elif quality < min_quality or (match.gain <= 0).any():
            status = "low quality"
        shift_m = (round(float(shift[0]), 2), round(float(shift[1]), 2))
        out.append(Pair(attempt.sample_id, status, scene, shift_m, float(np.clip(quality, 0, 1))))
    return out


def _common(shifts: list[tuple[float, float]]) -> tuple[float, float] | None:
    """The median of a scene's shifts; None when there are too few, or half of them are far from it."""
    if len(shifts) < POOL_CHIPS:
        return None
    x, y = np.median(shifts, axis=0)
    spread = np.median(np.hypot(*(np.array(shifts) - (x, y)).T))
    return (float(x), float(y)) if spread <= LOCAL_M else None


def _frame(rows: list[Pair], year: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": [pair.sample_id for pair in rows],
            "status": [pair.status for pair in rows],
            "scene_id": [pair.scene.id if pair.scene else None for pair in rows],
            "path": [pair.scene.path if pair.scene else None for pair in rows],
            "date": [pair.scene.time.strftime("%Y-%m-%dT%H:%M:%SZ") if pair.scene else None for pair in rows],
            "s2_year": year,
            "shift_x_m": [pair.shift_m[0] for pair in rows],
            "shift_y_m": [pair.shift_m[1] for pair in rows],
            "quality": [pair.quality for pair in rows],
        }
    )
