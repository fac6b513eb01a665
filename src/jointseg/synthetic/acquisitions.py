"""Which scenes the two satellites take of the valley: dates, names, shifts, cloudiness."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from jointseg.synthetic.render import Panel
from jointseg.synthetic.terrain import REACHES, Frame

MGRS_TILE = "50SPA"
JILIN_MARGIN_M = 192  # how far a scene reaches beyond its panel
# (first day of use, processing baseline) of the products that users downloaded at the time.
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
class Look:
    """One Sentinel-2 acquisition.

    Attributes:
        when: UTC.
        level: L1C or L2A.
        platform: S2A or S2B.
        orbit: relative orbit.
        baseline: processing baseline, such as "05.09".
        offset_dn: that the stored numbers carry.
        cloud_share: wanted.
        shift_m: (x, y) to add to the picture's coordinates to land on the ground it shows.
        partial: whether the swath's edge cuts the valley.
    """

    when: datetime
    level: str
    platform: str
    orbit: int
    baseline: str
    offset_dn: int
    cloud_share: float
    shift_m: tuple[float, float]
    partial: bool

    @property
    def day_of_year(self) -> int:
        return self.when.timetuple().tm_yday

    @property
    def id(self) -> str:
        made = self.when + timedelta(hours=4, minutes=11)
        number = self.baseline.replace(".", "")
        return (
            f"{self.platform}_MSI{self.level}_{self.when:%Y%m%dT%H%M%S}_N{number}_R{self.orbit:03d}"
            f"_T{MGRS_TILE}_{made:%Y%m%dT%H%M%S}"
        )


@dataclass(frozen=True)
class HighScene:
    """One Jilin-1 scene of a panel; `window` is what its coordinates claim to cover, local metres."""

    panel: int
    window: Panel
    when_beijing: datetime
    satellite: str
    number: int
    shift_m: tuple[float, float]
    cloud_percent: int
    level: str

    @property
    def id(self) -> str:
        kind = "L3C_PSH" if self.level == "L3C" else "L1"
        return (
            f"{self.satellite}_PMS_{self.when_beijing:%Y%m%d%H%M%S}_2000{84559 + 311 * self.number:05d}"
            f"_{101 + self.number % 3}_{self.number:04d}_001_{kind}"
        )


def panels(frame: Frame) -> list[Panel]:
    """The pieces that are drawn at once: the two halves of every reach, from west to east."""
    half = frame.reach_m // 2
    return [Panel(k * half, 0, (k + 1) * half, frame.reach_m) for k in range(2 * len(REACHES))]


def looks(frame: Frame, year: int, dates: int, shift_m: float = 3.0) -> list[Look]:
    """`dates` acquisitions from April to October, and one that is nearly overcast; off by at most `shift_m`."""
    rng = frame.rng(70, year)
    days = np.linspace(96, 298, dates + 1) + rng.uniform(-9, 9, dates + 1)
    overcast = int(rng.integers(1, dates))
    made = []
    for k, day in enumerate(days):
        level = "L1C" if year < 2018 else "L2A"
        orbit, clock = (32, (2, 55, 51)) if k % 3 else (132, (2, 45, 49))
        when = datetime(year, 1, 1, *clock, tzinfo=UTC) + timedelta(days=int(day) - 1)
        baseline = max(entry for entry in BASELINES if entry[0] <= f"{when:%Y-%m-%d}")[1]
        if year == 2021 and k == dates:
            baseline = "05.00"  # a product of the reprocessed collection: an old date with the new offset
        platform = "S2B" if k % 2 and when >= datetime(2017, 7, 1, tzinfo=UTC) else "S2A"
        share = 0.88 if k == overcast else float(rng.choice([0.0, 0.12, 0.24, 0.36]))
        angle, far = rng.uniform(0, 2 * np.pi), shift_m * rng.uniform(0.1, 1.0)
        shift = (float(far * np.cos(angle)), float(far * np.sin(angle)))
        offset = 1000 if level == "L2A" and float(baseline) >= 4 else 0
        made.append(Look(when, level, platform, orbit, baseline, offset, share, shift, orbit == 132 and k == 3))
    return made


def high_scenes(frame: Frame, year: int) -> list[HighScene]:
    """One scene of every panel, a second look at one half of each reach, a cloudy one, and one of level 1."""
    rng = frame.rng(71)
    whole = panels(frame)
    first = datetime(year, 5, 3)
    scenes: list[HighScene] = []

    def add(panel: int, window: Panel, cloud: int, level: str = "L3C") -> None:
        when = first + timedelta(
            days=int(rng.integers(0, 150)), hours=10, minutes=int(rng.integers(0, 59)), seconds=int(rng.integers(0, 59))
        )
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 6.0)
        shift = (float(far * np.cos(angle)), float(far * np.sin(angle)))
        satellite = str(rng.choice(["JL1GF03B02", "JL1GF03B05", "JL1GF03D15", "JL1GF02A"]))
        scenes.append(HighScene(panel, window, when, satellite, len(scenes) + 3, shift, cloud, level))

    for k, panel in enumerate(whole):
        add(k, panel.grown(JILIN_MARGIN_M), int(rng.integers(0, 6)))
    for reach in range(len(REACHES)):
        panel = whole[2 * reach + 1]
        add(2 * reach + 1, _part(panel, 0.15, 0.75), int(rng.integers(0, 9)))
    add(2, _part(whole[2], 0.2, 0.9), 68)
    add(0, _part(whole[0], 0.3, 0.5), 2, "L1")
    return scenes


def _part(panel: Panel, low: float, high: float) -> Panel:
    """A horizontal slice of a panel on whole multiples of 12 m."""
    height = panel.y1 - panel.y0
    y0, y1 = (panel.y0 + round(height * share / 12) * 12 for share in (low, high))
    return Panel(panel.x0, y0, panel.x1, y1)
