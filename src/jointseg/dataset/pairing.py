"""Pairs every sample with the best high-resolution scene that registers on the composite."""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from jointseg.dataset import registration, scene_registration_qc
from jointseg.dataset.chip_composites import Composites
from jointseg.dataset.contract import HR_BANDS, REFLECTANCE_PER_DN
from jointseg.dataset.registration import RegistrationShift
from jointseg.dataset.scene_registration_qc import ChipScenePair, SceneRecord
from jointseg.dataset.scene_windows import SceneReader, WindowRequest, resample_to_1m
from jointseg.dataset.scenes import Scene, candidate_scenes, load, mid_season_day
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import Bar, bar

log = logging.getLogger(__name__)

# Largest share of a chip that may be unknown in the composite, and in the scene.
UNKNOWN_LR, UNKNOWN_HR = 0.5, 0.02
NOWHERE = RegistrationShift((math.nan, math.nan), math.nan)


@dataclass(frozen=True)
class Sample:
    """A row of the samples."""

    id: str
    stratum: str
    epsg: int
    bounds: raster_io.Bounds


@dataclass(frozen=True)
class Pair:
    """What is recorded of a sample; `status` is "ok" or why it was rejected."""

    status: str
    scene: Scene | None = None
    place: RegistrationShift = NOWHERE
    quality: float = math.nan


def pairing(
    *,
    samples: Path,
    composites: Sequence[Path],
    jilin1: Path,
    deliveries: Path,
    pairs: Path,
    reach: str,
    chip_m: int,
    year: int,
    season: tuple[str, str],
    max_shift_m: float,
    min_correlation: float,
    max_cloud_percent: float,
) -> dict[str, Any]:
    """Finds for every sample of a reach the scene, its shift and how well it agrees with the composite.

    Scenes that hold the whole chip are tried from the best on (`scenes.candidates`) until one is accepted.
    shift_x_m and shift_y_m are to be added to a scene's coordinates, shift_sd_m is their standard deviation along an
    axis, gain_B04 and so on bring its digital numbers to the composite. A sample that no scene passes for stays in
    the table with the reason of its first scene as `status`, and `rejected` lists each scene that was tried in vain
    with its reason. For each such sample the next reserve of its stratum is tried, in the order of rank; reserves
    that were not needed are not in the table.

    Args:
        samples: with `stratum`, `rank` and `reserve`.
        deliveries: index of the scenes in the folder jilin1.
        chip_m: side of a chip.
        year, season: of the composites.
        max_shift_m: a registration that finds more is not believed.
        min_correlation: smallest agreement (0..1, `radiometry.agreement`) of the registered, radiometrically fitted
            scene with the composite.
        max_cloud_percent: scenes cloudier by their metadata are not tried.

    Raises DataError when the reach has no samples, or not one pair is accepted.
    """
    table = gpd.read_parquet(samples)
    table = table[table["reach"] == reach]
    if table.empty:
        raise DataError(f"{samples} has no samples of reach {reach!r}")
    work = _Work(
        jilin1,
        load(deliveries),
        Composites(composites),
        year,
        mid_season_day(season),
        max_shift_m,
        min_correlation,
        max_cloud_percent,
    )
    main, reserves = _queues(table, chip_m)
    wanted = Counter(sample.stratum for sample in main)
    with bar(f"pairing {reach}", len(main), "chip") as shown:
        tried, batch = [], main
        have: Counter[str] = Counter()
        while batch:
            work.run(batch, shown)
            tried += batch
            have = Counter(sample.stratum for sample in tried if sample.id in work.accepted)
            batch = [
                reserves[stratum].pop(0)
                for stratum in sorted(wanted)
                for _ in range(min(wanted[stratum] - have[stratum], len(reserves[stratum])))
            ]
    statuses = dict(sorted(Counter(work.pair(sample).status for sample in tried).items()))
    log.info("%s: %s", reach, statuses)
    if not work.accepted:
        raise DataError(f"no sample of reach {reach} could be paired: {statuses}; see the deliveries in {jilin1}")
    with atomic_write(pairs) as part:
        _frame(sorted(tried, key=lambda sample: sample.id), work, year).to_parquet(part)
    first = {sample.id for sample in main}
    replaced = Counter(s.stratum for s in tried if s.id in work.accepted and s.id not in first)
    return {
        "statuses": statuses,
        "scenes": sorted({pair.scene.id for pair in work.accepted.values() if pair.scene}),
        "replaced": dict(sorted(replaced.items())),
        "lacking": {
            stratum: wanted[stratum] - have[stratum] for stratum in sorted(wanted) if wanted[stratum] > have[stratum]
        },
    }


def _queues(table: pd.DataFrame, chip_m: int) -> tuple[list[Sample], dict[str, list[Sample]]]:
    """The main samples, and the reserves of each stratum in the order of their rank."""
    main: list[Sample] = []
    reserves: dict[str, list[Sample]] = defaultdict(list)
    for row in table.sort_values(["stratum", "rank", "sample_id"]).itertuples():
        bounds = (row.minx, row.miny, row.minx + chip_m, row.miny + chip_m)
        sample = Sample(row.sample_id, row.stratum, int(row.epsg), bounds)
        (reserves[row.stratum] if row.replacement else main).append(sample)
    return main, reserves


class _Work:
    """The samples tried so far, and what their scenes have told."""

    def __init__(
        self,
        folder: Path,
        scenes: list[Scene],
        mosaics: Composites,
        year: int,
        middle: int,
        max_shift_m: float,
        min_correlation: float,
        max_cloud_percent: float,
    ) -> None:
        self._folder, self._scenes, self._mosaics = folder, scenes, mosaics
        self._year, self._middle = year, middle
        self._max_shift_m, self._min_quality, self._max_cloud = max_shift_m, min_correlation, max_cloud_percent
        self._learnt: dict[str, SceneRecord] = defaultdict(SceneRecord)
        self._pixels: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        self.accepted: dict[str, Pair] = {}
        self.refused: dict[str, list[Pair]] = defaultdict(list)

    def pair(self, sample: Sample) -> Pair:
        return self.accepted.get(sample.id) or self.refused[sample.id][0]

    def gains(self) -> dict[str, np.ndarray]:
        """Reflectance per digital number of each scene, over all chips that it was accepted for."""
        return {scene_id: scene_registration_qc.fit_scene(pixels).gain for scene_id, pixels in self._pixels.items()}

    def run(self, samples: Iterable[Sample], shown: Bar) -> None:
        """Tries every sample with its scenes, best first, the chips of one scene together."""
        waiting: dict[str, tuple[Sample, list[Scene]]] = {}
        too_cloudy: dict[str, list[Pair]] = {}
        for sample in samples:
            holding = candidate_scenes(self._scenes, sample.epsg, sample.bounds, self._year, self._middle)
            # Cloud that the metadata do not tell is no reason to leave a scene out: it shows in the image.
            cloudy = [scene for scene in holding if scene.cloud_percent > self._max_cloud]
            too_cloudy[sample.id] = [Pair("scene too cloudy", scene) for scene in cloudy]
            if clear := [scene for scene in holding if scene not in cloudy]:
                waiting[sample.id] = (sample, clear)
            else:
                shown.advance()
                if not holding:
                    self.refused[sample.id].append(Pair("no scene holds the chip"))
        while waiting:
            by_scene: dict[str, list[Sample]] = defaultdict(list)
            first = {left[0].id: left[0] for _, left in waiting.values()}
            for sample, left in waiting.values():
                by_scene[left[0].id].append(sample)
            for scene_id in sorted(by_scene):
                self._try(first[scene_id], by_scene[scene_id])
                ended = [s.id for s in by_scene[scene_id] if s.id in self.accepted or len(waiting[s.id][1]) == 1]
                shown.advance(len(ended))
            waiting = {
                key: (sample, left[1:])
                for key, (sample, left) in waiting.items()
                if key not in self.accepted and len(left) > 1
            }
        for sample_id, pairs in too_cloudy.items():
            self.refused[sample_id] += pairs

    def _try(self, scene: Scene, samples: list[Sample]) -> None:
        attempts = []
        for sample, found in self._load(scene, samples):
            if isinstance(found, str):
                self.refused[sample.id].append(Pair(found, scene))
            else:
                attempts.append(found)
        attempts.sort(key=lambda attempt: attempt.sample_id)
        learnt = self._learnt[scene.id]
        verdicts = (
            scene_registration_qc.register_chips(attempts, self._max_shift_m, self._min_quality, learnt)
            if attempts
            else []
        )
        for one, verdict in zip(attempts, verdicts):
            pair = Pair(verdict.status, scene, verdict.place, verdict.quality)
            if verdict.status == "ok":
                self.accepted[one.sample_id] = pair
                self._pixels[scene.id].append((verdict.image[:, one.known], one.lr[:, one.known]))
            else:
                self.refused[one.sample_id].append(pair)

    def _load(self, scene: Scene, samples: list[Sample]) -> Iterator[tuple[Sample, ChipScenePair | str]]:
        """Each sample with both of its images, or with why they cannot be registered; the scene is read once."""
        margin_m = (
            scene_registration_qc.search_radius_m(self._max_shift_m) + registration.RATIO + registration.PSF_MARGIN_M
        )
        inner = slice(margin_m, -margin_m)
        composites: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        wanted: list[tuple[Sample, WindowRequest]] = []
        for sample in samples:
            dn, known = self._mosaics.read(sample.epsg, sample.bounds, HR_BANDS)
            lr = dn.astype(np.float32) * np.float32(REFLECTANCE_PER_DN)
            if known.mean() < 1 - UNKNOWN_LR:
                yield sample, "composite unknown"
            elif scene_registration_qc.featureless(lr, known):
                yield sample, "featureless"
            else:
                west, south, east, north = sample.bounds
                around = (west - margin_m, south - margin_m, east + margin_m, north + margin_m)
                composites[sample.id] = lr, known
                wanted.append((sample, WindowRequest(sample.epsg, around)))
        for number, raw in SceneReader(self._folder, scene).windows([one for _, one in wanted]):
            sample, one = wanted[number]
            values, seen = resample_to_1m(raw, one)
            if seen[inner, inner].mean() < 1 - UNKNOWN_HR:
                yield sample, "scene has no data"
            else:
                yield (
                    sample,
                    ChipScenePair(sample.id, *composites[sample.id], registration.blur(values, seen), margin_m),
                )


def _frame(samples: Sequence[Sample], work: _Work, year: int) -> pd.DataFrame:
    pairs = [work.pair(sample) for sample in samples]
    scenes = [pair.scene for pair in pairs]
    gains = work.gains()
    frame = pd.DataFrame(
        {
            "sample_id": [sample.id for sample in samples],
            "status": [pair.status for pair in pairs],
            "scene_id": [scene.id if scene else None for scene in scenes],
            "path": [scene.path if scene else None for scene in scenes],
            "date": [scene.time.strftime("%Y-%m-%dT%H:%M:%SZ") if scene else None for scene in scenes],
            "s2_year": year,
            "shift_x_m": [round(pair.place.shift_m[0], 2) for pair in pairs],
            "shift_y_m": [round(pair.place.shift_m[1], 2) for pair in pairs],
            "shift_sd_m": [round(pair.place.sd_m, 2) for pair in pairs],
            "registration_correlation": [pair.quality for pair in pairs],
        }
    )
    for fact in ("cloud_percent", "view_angle", "sun_elevation"):
        frame[fact] = [float(getattr(scene, fact)) if scene else math.nan for scene in scenes]
    for number, band in enumerate(HR_BANDS):
        frame[f"gain_{band}"] = [
            float(f"{gains[pair.scene.id][number]:.6g}") if pair.status == "ok" and pair.scene else math.nan
            for pair in pairs
        ]
    frame["rejected"] = [
        "; ".join(f"{pair.scene.id}: {pair.status}" for pair in work.refused.get(sample.id, []) if pair.scene)
        for sample in samples
    ]
    return frame
