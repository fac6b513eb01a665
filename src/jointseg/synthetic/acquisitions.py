"""Acquisitions of the valley by both satellites: dates, product names, registration shifts, cloudiness."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from jointseg.synthetic.panel_raster import Panel
from jointseg.synthetic.terrain import REACHES, Frame

MGRS_TILE = "50SPA"
JILIN_MARGIN_M = 192  # overlap of a scene beyond its panel
# First day of use and number of the processing baselines of Sentinel-2.
BASELINES = (
    ("2017-01-01", "02.04"),
    ("2017-05-23", "02.05"),
    ("2017-10-23", "02.06"),
    ("2018-11-06", "02.07"),
    ("2019-07-08", "02.08"),
    ("2019-11-27", "02.13"),
    ("2020-02-04", "02.14"),
    ("2021-03-30", "03.00"),
    ("2021-06-30", "03.01"),
    ("2022-01-25", "04.00"),
    ("2022-12-06", "05.09"),
)


@dataclass(frozen=True)
class Sentinel2Acquisition:
    time_utc: datetime
    level: str  # L1C or L2A
    platform: str  # S2A or S2B
    orbit: int  # relative orbit
    baseline: str  # processing baseline, such as "05.09"
    offset_dn: int  # radiometric offset of the stored values
    cloud_fraction: float  # target of the simulation
    shift_m: tuple[float, float]  # (x, y) from the coordinates of the image to the true location
    partial: bool  # whether the swath edge cuts the valley

    @property
    def day_of_year(self) -> int:
        return self.time_utc.timetuple().tm_yday

    @property
    def id(self) -> str:
        processed = self.time_utc + timedelta(hours=4, minutes=11)
        number = self.baseline.replace(".", "")
        return (
            f"{self.platform}_MSI{self.level}_{self.time_utc:%Y%m%dT%H%M%S}_N{number}_R{self.orbit:03d}"
            f"_T{MGRS_TILE}_{processed:%Y%m%dT%H%M%S}"
        )


@dataclass(frozen=True)
class Jilin1Scene:
    """One Jilin-1 scene of a panel; `window` is its extent according to its own georeference, local metres."""

    panel: int
    window: Panel
    time_beijing: datetime
    satellite: str
    number: int
    shift_m: tuple[float, float]
    cloud_percent: int
    level: str

    @property
    def id(self) -> str:
        kind = "L3C_PSH" if self.level == "L3C" else "L1"
        return (
            f"{self.satellite}_PMS_{self.time_beijing:%Y%m%d%H%M%S}_2000{84559 + 311 * self.number:05d}"
            f"_{101 + self.number % 3}_{self.number:04d}_001_{kind}"
        )


def reach_halves(frame: Frame) -> list[Panel]:
    """Return the panels, each rendered in one piece: both halves of each reach, from west to east."""
    half = frame.reach_m // 2
    return [Panel(k * half, 0, (k + 1) * half, frame.reach_m) for k in range(2 * len(REACHES))]


def sentinel2_acquisitions(frame: Frame, year: int, dates: int, shift_m: float = 3.0) -> list[Sentinel2Acquisition]:
    """Draw `dates` acquisitions from April to October and one nearly overcast, shifted by at most `shift_m`."""
    rng = frame.rng(70, year)
    days = np.linspace(96, 298, dates + 1) + rng.uniform(-9, 9, dates + 1)
    overcast = int(rng.integers(1, dates))
    acquisitions = []
    for k, day in enumerate(days):
        level = "L1C" if year < 2018 else "L2A"
        orbit, clock = (32, (2, 55, 51)) if k % 3 else (132, (2, 45, 49))
        time = datetime(year, 1, 1, *clock, tzinfo=UTC) + timedelta(days=int(day) - 1)
        baseline = max(entry for entry in BASELINES if entry[0] <= f"{time:%Y-%m-%d}")[1]
        if year == 2021 and k == dates:
            baseline = "05.00"  # a reprocessed product: an old date with the new offset
        platform = "S2B" if k % 2 and time >= datetime(2017, 7, 1, tzinfo=UTC) else "S2A"
        clouds = 0.88 if k == overcast else float(rng.choice([0.0, 0.12, 0.24, 0.36]))
        angle, far = rng.uniform(0, 2 * np.pi), shift_m * rng.uniform(0.1, 1.0)
        shift = (float(far * np.cos(angle)), float(far * np.sin(angle)))
        offset = 1000 if level == "L2A" and float(baseline) >= 4 else 0
        partial = orbit == 132 and k == 3
        acquisitions.append(
            Sentinel2Acquisition(time, level, platform, orbit, baseline, offset, clouds, shift, partial)
        )
    return acquisitions


def jilin1_scenes(frame: Frame, year: int) -> list[Jilin1Scene]:
    """Draw one scene per panel, a second one of one panel per reach, a cloudy one, and one of level 1."""
    rng = frame.rng(71)
    halves = reach_halves(frame)
    first = datetime(year, 5, 3)
    scenes: list[Jilin1Scene] = []

    def add(panel: int, window: Panel, cloud: int, level: str = "L3C") -> None:
        time = first + timedelta(
            days=int(rng.integers(0, 150)), hours=10, minutes=int(rng.integers(0, 59)), seconds=int(rng.integers(0, 59))
        )
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 6.0)
        shift = (float(far * np.cos(angle)), float(far * np.sin(angle)))
        satellite = str(rng.choice(["JL1GF03B02", "JL1GF03B05", "JL1GF03D15", "JL1GF02A"]))
        scenes.append(Jilin1Scene(panel, window, time, satellite, len(scenes) + 3, shift, cloud, level))

    for k, panel in enumerate(halves):
        add(k, panel.grown(JILIN_MARGIN_M), int(rng.integers(0, 6)))
    for reach in range(len(REACHES)):
        panel = halves[2 * reach + 1]
        add(2 * reach + 1, _part(panel, 0.15, 0.75), int(rng.integers(0, 9)))
    add(2, _part(halves[2], 0.2, 0.9), 68)
    add(0, _part(halves[0], 0.3, 0.5), 2, "L1")
    return scenes


def _part(panel: Panel, low: float, high: float) -> Panel:
    """Return the part of a panel between two fractions of its height, aligned to multiples of 12 m."""
    height = panel.y1 - panel.y0
    y0, y1 = (panel.y0 + round(height * fraction / 12) * 12 for fraction in (low, high))
    return Panel(panel.x0, y0, panel.x1, y1)
