"""Step `pairing`: the best high-resolution scene that registers to the composite, for every sample."""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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

# Largest nodata fraction of a chip in the composite, and in the scene.
MAX_LR_NODATA, MAX_HR_NODATA = 0.5, 0.02
NO_SHIFT = RegistrationShift((math.nan, math.nan), math.nan)


@dataclass(frozen=True)
class Sample:
    id: str
    stratum: str
    epsg: int
    bounds: raster_io.Bounds


@dataclass(frozen=True)
class Pair:
    """The outcome of a sample with a scene; `status` is "ok" or the reason of the rejection."""

    status: str
    scene: Scene | None = None
    shift: RegistrationShift = NO_SHIFT
    correlation: float = math.nan


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
    """Find a scene for every sample of a reach, with its shift and its agreement with the composite.

    Scenes that cover the chip are tried best first (`scenes.candidate_scenes`) until one is accepted. Columns of the
    table: shift_x_m and shift_y_m are added to a scene's coordinates, shift_sd_m is their standard deviation along an
    axis, gain_B04 and so on scale its digital numbers to the composite's reflectance. A sample without an accepted
    scene stays in the table with the rejection of its first scene as `status`; `rejected` lists every rejected scene
    with its reason. For each such sample, the next replacement sample of its stratum is tried, in the order of rank;
    unused replacement samples are not in the table. Raises DataError if the reach has no samples, or if no pair is
    accepted.

    Args:
        samples: with `stratum`, `rank` and `replacement`.
        deliveries: index of the scenes in the folder jilin1.
        year, season: of the composites.
        max_shift_m: chips with a larger shift are rejected.
        min_correlation: minimum agreement (0..1, `radiometric_match.structural_agreement`) of the registered and
            radiometrically matched scene with the composite.
        max_cloud_percent: scenes with more cloud in their metadata are not tried.
    """
    table = gpd.read_parquet(samples)
    table = table[table["reach"] == reach]
    if table.empty:
        raise DataError(f"{samples} has no samples of reach {reach!r}; rerun step `samples`")
    pairer = _Pairer(
        jilin1,
        load(deliveries),
        Composites(composites),
        year,
        mid_season_day(season),
        max_shift_m,
        min_correlation,
        max_cloud_percent,
    )
    main, replacements = _queues(table, chip_m)
    wanted = Counter(sample.stratum for sample in main)
    tried: list[Sample] = []
    accepted: Counter[str] = Counter()
    with bar(f"pairing {reach}", len(main), "chip") as progress:
        batch = main
        while batch:
            pairer.run(batch, progress)
            tried += batch
            accepted = Counter(sample.stratum for sample in tried if sample.id in pairer.accepted)
            batch = [
                replacements[stratum].pop(0)
                for stratum in sorted(wanted)
                for _ in range(min(wanted[stratum] - accepted[stratum], len(replacements[stratum])))
            ]
    statuses = dict(sorted(Counter(pairer.pair(sample).status for sample in tried).items()))
    log.info("%s: %s", reach, statuses)
    if not pairer.accepted:
        raise DataError(f"no sample of reach {reach} could be paired: {statuses}; check the deliveries in {jilin1}")
    with atomic_write(pairs) as part:
        _table(sorted(tried, key=lambda sample: sample.id), pairer, year).to_parquet(part)
    main_ids = {sample.id for sample in main}
    replaced = Counter(s.stratum for s in tried if s.id in pairer.accepted and s.id not in main_ids)
    return {
        "statuses": statuses,
        "scenes": sorted({pair.scene.id for pair in pairer.accepted.values() if pair.scene}),
        "replaced": dict(sorted(replaced.items())),
        "missing": {name: count - accepted[name] for name, count in sorted(wanted.items()) if count > accepted[name]},
    }


def _queues(table: pd.DataFrame, chip_m: int) -> tuple[list[Sample], dict[str, list[Sample]]]:
    """Return the main samples, and the replacement samples of each stratum in the order of their rank."""
    main: list[Sample] = []
    replacements: dict[str, list[Sample]] = defaultdict(list)
    for row in table.sort_values(["stratum", "rank", "sample_id"]).itertuples():
        bounds = (row.minx, row.miny, row.minx + chip_m, row.miny + chip_m)
        sample = Sample(row.sample_id, row.stratum, int(row.epsg), bounds)
        (replacements[row.stratum] if row.replacement else main).append(sample)
    return main, replacements


@dataclass
class _Pairer:
    """The inputs of the pairing, and the accepted and rejected pairs so far."""

    folder: Path
    scenes: list[Scene]
    composites: Composites
    year: int
    mid_season: int
    max_shift_m: float
    min_correlation: float
    max_cloud_percent: float
    accepted: dict[str, Pair] = field(default_factory=dict)
    rejected: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    _records: dict[str, SceneRecord] = field(default_factory=lambda: defaultdict(SceneRecord))
    _pixels: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=lambda: defaultdict(list))

    def pair(self, sample: Sample) -> Pair:
        return self.accepted.get(sample.id) or self.rejected[sample.id][0]

    def gains(self) -> dict[str, np.ndarray]:
        """Return the reflectance per digital number of each scene, over all of its accepted chips."""
        return {scene_id: scene_registration_qc.fit_scene(pixels).gain for scene_id, pixels in self._pixels.items()}

    def run(self, samples: Iterable[Sample], progress: Bar) -> None:
        """Try the scenes of every sample, best first; the chips of one scene are registered together."""
        pending: dict[str, tuple[Sample, list[Scene]]] = {}
        too_cloudy: dict[str, list[Pair]] = {}
        for sample in samples:
            covering = candidate_scenes(self.scenes, sample.epsg, sample.bounds, self.year, self.mid_season)
            # Scenes without a cloud percentage are tried: quality control detects cloud in the image.
            cloudy = [scene for scene in covering if scene.cloud_percent > self.max_cloud_percent]
            too_cloudy[sample.id] = [Pair("scene too cloudy", scene) for scene in cloudy]
            if clear := [scene for scene in covering if scene not in cloudy]:
                pending[sample.id] = (sample, clear)
            else:
                progress.advance()
                if not covering:
                    self.rejected[sample.id].append(Pair("no scene covers the chip"))
        while pending:
            by_scene: dict[str, list[Sample]] = defaultdict(list)
            next_scenes = {scenes[0].id: scenes[0] for _, scenes in pending.values()}
            for sample, scenes in pending.values():
                by_scene[scenes[0].id].append(sample)
            for scene_id in sorted(by_scene):
                self._try(next_scenes[scene_id], by_scene[scene_id])
                done = [s.id for s in by_scene[scene_id] if s.id in self.accepted or len(pending[s.id][1]) == 1]
                progress.advance(len(done))
            pending = {
                sample_id: (sample, scenes[1:])
                for sample_id, (sample, scenes) in pending.items()
                if sample_id not in self.accepted and len(scenes) > 1
            }
        for sample_id, pairs in too_cloudy.items():
            self.rejected[sample_id] += pairs

    def _try(self, scene: Scene, samples: list[Sample]) -> None:
        loaded = []
        for sample, images in self._load(scene, samples):
            if isinstance(images, str):
                self.rejected[sample.id].append(Pair(images, scene))
            else:
                loaded.append(images)
        if not loaded:
            return
        loaded.sort(key=lambda images: images.sample_id)
        results = scene_registration_qc.register_chips(
            loaded, self.max_shift_m, self.min_correlation, self._records[scene.id]
        )
        for images, result in zip(loaded, results):
            pair = Pair(result.status, scene, result.shift, result.correlation)
            if result.status == "ok":
                self.accepted[images.sample_id] = pair
                self._pixels[scene.id].append((result.image[:, images.valid], images.lr[:, images.valid]))
            else:
                self.rejected[images.sample_id].append(pair)

    def _load(self, scene: Scene, samples: list[Sample]) -> Iterator[tuple[Sample, ChipScenePair | str]]:
        """Yield each sample with its two images, or with the reason why they cannot be registered."""
        margin_m = (
            scene_registration_qc.search_radius_m(self.max_shift_m) + registration.RATIO + registration.PSF_MARGIN_M
        )
        inner = slice(margin_m, -margin_m)
        composites: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        requests: list[tuple[Sample, WindowRequest]] = []
        for sample in samples:
            dn, valid = self.composites.read(sample.epsg, sample.bounds, HR_BANDS)
            lr = dn.astype(np.float32) * np.float32(REFLECTANCE_PER_DN)
            if valid.mean() < 1 - MAX_LR_NODATA:
                yield sample, "composite nodata"
            elif scene_registration_qc.featureless(lr, valid):
                yield sample, "featureless"
            else:
                west, south, east, north = sample.bounds
                bounds = (west - margin_m, south - margin_m, east + margin_m, north + margin_m)
                composites[sample.id] = lr, valid
                requests.append((sample, WindowRequest(sample.epsg, bounds)))
        for number, window in SceneReader(self.folder, scene).windows([request for _, request in requests]):
            sample, request = requests[number]
            values, valid = resample_to_1m(window, request)
            if valid[inner, inner].mean() < 1 - MAX_HR_NODATA:
                yield sample, "scene nodata"
            else:
                smooth = registration.blur(values, valid)
                yield sample, ChipScenePair(sample.id, *composites[sample.id], smooth, margin_m)


def _table(samples: Sequence[Sample], pairer: _Pairer, year: int) -> pd.DataFrame:
    pairs = [pairer.pair(sample) for sample in samples]
    scenes = [pair.scene for pair in pairs]
    gains = pairer.gains()
    frame = pd.DataFrame(
        {
            "sample_id": [sample.id for sample in samples],
            "status": [pair.status for pair in pairs],
            "scene_id": [scene.id if scene else None for scene in scenes],
            "path": [scene.path if scene else None for scene in scenes],
            "date": [scene.time.strftime("%Y-%m-%dT%H:%M:%SZ") if scene else None for scene in scenes],
            "s2_year": year,
            "shift_x_m": [round(pair.shift.shift_m[0], 2) for pair in pairs],
            "shift_y_m": [round(pair.shift.shift_m[1], 2) for pair in pairs],
            "shift_sd_m": [round(pair.shift.sd_m, 2) for pair in pairs],
            "registration_correlation": [pair.correlation for pair in pairs],
        }
    )
    for name in ("cloud_percent", "view_angle", "sun_elevation"):
        frame[name] = [float(getattr(scene, name)) if scene else math.nan for scene in scenes]
    for number, band in enumerate(HR_BANDS):
        frame[f"gain_{band}"] = [
            float(f"{gains[pair.scene.id][number]:.6g}") if pair.status == "ok" and pair.scene else math.nan
            for pair in pairs
        ]
    frame["rejected"] = [
        "; ".join(f"{pair.scene.id}: {pair.status}" for pair in pairer.rejected.get(sample.id, []) if pair.scene)
        for sample in samples
    ]
    return frame
