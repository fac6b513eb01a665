"""Terrain of the valley: coordinate frame, river, lakes, relief and low-frequency noise."""

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.ndimage import gaussian_filter

EPSG = 32650
ORIGIN_M = (660_000, 3_540_000)  # south-west corner of the valley
REACHES = ("upstream", "midstream", "downstream")
MARGIN_M = 208  # rendered around the valley and each panel, so that blur, shifts and overlaps reach no edge
MACRO_M = 8  # cell size of the terrain fields
# Both satellites acquire in the late morning.
SUN_AZIMUTH_DEG, SUN_ELEVATION_DEG = 150.0, 54.0


@dataclass(frozen=True)
class Frame:
    """Local coordinates in metres: x eastwards from 0 to three reaches, y northwards from 0 to one reach."""

    reach_m: int
    seed: int

    @property
    def width_m(self) -> int:
        return len(REACHES) * self.reach_m

    @property
    def scale(self) -> float:
        """Size of the largest landforms relative to those of a 4 km reach."""
        return self.reach_m / 4000

    def rng(self, *key: int) -> np.random.Generator:
        """Return the generator of one random stream; streams with different keys are independent."""
        return np.random.default_rng((self.seed, *key))


@dataclass(frozen=True)
class Terrain:
    """Terrain fields on a lattice of MACRO_M whose first row is the southernmost, and water bodies."""

    frame: Frame
    # Name -> float32 [rows, columns] at x = -MARGIN_M + MACRO_M * column, y likewise: relief (m), slope, shade
    # (hillshade), off_river (m from the bank, negative in the water), patches and mottle (noise)
    fields: dict[str, np.ndarray]
    river: shapely.Geometry  # water surface, local metres
    lakes: list[shapely.Geometry]  # water surfaces, local metres
    regions: list[shapely.Geometry]  # polygons whose parcels share direction and size

    def sample(self, name: str, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """Return the nearest value of a field at local coordinates."""
        field = self.fields[name]
        col = np.clip(np.rint((np.asarray(x) + MARGIN_M) / MACRO_M).astype(int), 0, field.shape[1] - 1)
        row = np.clip(np.rint((np.asarray(y) + MARGIN_M) / MACRO_M).astype(int), 0, field.shape[0] - 1)
        return field[row, col]


def interpolate_reaches(
    frame: Frame, x: np.ndarray, upstream: float, midstream: float, downstream: float
) -> np.ndarray:
    """Interpolate a quantity linearly at x between its values at the centres of the reaches."""
    centres = (np.arange(3) + 0.5) * frame.reach_m
    return np.interp(x, centres, (upstream, midstream, downstream))


def river_y(frame: Frame, x: np.ndarray) -> np.ndarray:
    side = frame.reach_m
    phase = frame.rng(1).uniform(0, 2 * np.pi, 3)
    bends = 0.075 * np.sin(2 * np.pi * x / (1.35 * side) + phase[0]) + 0.030 * np.sin(
        2 * np.pi * x / (0.47 * side) + phase[1]
    )
    return side * (0.40 + bends + 0.008 * np.sin(2 * np.pi * x / (0.17 * side) + phase[2]))


def river_half_width(frame: Frame, x: np.ndarray) -> np.ndarray:
    size = max(frame.scale, 0.4)
    return size * interpolate_reaches(frame, x, 26, 70, 125) * (1 + 0.15 * np.sin(x / (61 * size)))


def make_terrain(frame: Frame) -> Terrain:
    """Generate relief, water and noise fields."""
    side = frame.reach_m
    rows = (side + 2 * MARGIN_M) // MACRO_M + 1
    cols = (frame.width_m + 2 * MARGIN_M) // MACRO_M + 1
    x = np.arange(cols) * MACRO_M - MARGIN_M
    y = np.arange(rows) * MACRO_M - MARGIN_M
    off_river = np.abs(y[:, None] - river_y(frame, x)[None]) - river_half_width(frame, x)[None]

    noise = {sigma: _noise(frame.rng(2, sigma), (rows, cols), sigma) for sigma in (16, 48, 120, 300)}
    height = interpolate_reaches(frame, x, 230, 22, 3)[None] * max(frame.scale, 0.5)
    rise = np.clip(off_river / (0.45 * side), 0, 1.2)
    ridges = 1 - np.abs(noise[300])
    relief = height * rise * (0.5 + 0.45 * ridges + 0.18 * noise[120] + 0.06 * noise[48])
    fields = {
        "relief": relief,
        "slope": np.hypot(*np.gradient(relief, MACRO_M)),
        "shade": _hillshade(relief),
        "off_river": off_river,
        "patches": 0.75 * noise[120] + 0.5 * noise[48] + 0.25 * noise[16],
        "mottle": _noise(frame.rng(4), (rows, cols), 32),
    }
    fields = {name: field.astype(np.float32) for name, field in fields.items()}
    river = _river(frame)
    return Terrain(frame, fields, river, _lakes(frame, river), _regions(frame))


def _noise(rng: np.random.Generator, shape: tuple[int, int], sigma_m: float) -> np.ndarray:
    field = gaussian_filter(rng.standard_normal(shape), sigma_m / MACRO_M, mode="wrap")
    return (field - field.mean()) / field.std()


def _hillshade(relief: np.ndarray) -> np.ndarray:
    """Return Lambertian illumination relative to flat terrain, 0.35 to 1.4."""
    north, east = np.gradient(relief, MACRO_M)
    azimuth, elevation = np.radians(SUN_AZIMUTH_DEG), np.radians(SUN_ELEVATION_DEG)
    sun = (np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation))
    lit = (-east * sun[0] - north * sun[1] + sun[2]) / np.sqrt(1 + east**2 + north**2)
    return np.clip(lit / sun[2], 0.35, 1.4)


def _river(frame: Frame) -> shapely.Geometry:
    x = np.arange(-2 * MARGIN_M, frame.width_m + 2 * MARGIN_M, 12.0)
    rough = frame.rng(5).normal(0, 1.5, (2, x.size))
    middle, half = river_y(frame, x), river_half_width(frame, x)
    north = np.column_stack([x, middle + half + rough[0]])
    south = np.column_stack([x, middle - half + rough[1]])
    return shapely.Polygon(np.vstack([north, south[::-1]]))


def _lakes(frame: Frame, river: shapely.Geometry) -> list[shapely.Geometry]:
    rng = frame.rng(6)
    lakes = []
    for reach, count in enumerate((2, 6, 5)):
        for _ in range(max(1, round(count * frame.scale))):
            x, y = (reach + rng.uniform(0.05, 0.95)) * frame.reach_m, rng.uniform(0.03, 0.97) * frame.reach_m
            radius = max(frame.scale, 0.4) * rng.uniform(35, 150)
            lakes.append(irregular_outline(rng, x, y, radius).difference(river.buffer(25)))
    return [lake for lake in lakes if not lake.is_empty]


def irregular_outline(rng: np.random.Generator, x: float, y: float, radius_m: float) -> shapely.Geometry:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    bumps = sum(rng.normal(0, 0.22 / k) * np.cos(k * angle + rng.uniform(0, 6.28)) for k in (2, 3, 4, 6))
    r = radius_m * np.clip(1 + bumps, 0.4, 1.8)
    return shapely.Polygon(np.column_stack([x + r * np.cos(angle), y + r * np.sin(angle)])).buffer(0)


def _regions(frame: Frame) -> list[shapely.Geometry]:
    rng = frame.rng(7)
    step = 260.0
    gx, gy = np.meshgrid(
        np.arange(-step, frame.width_m + 2 * step, step), np.arange(-step, frame.reach_m + 2 * step, step)
    )
    points = np.column_stack([gx.ravel(), gy.ravel()]) + rng.uniform(-0.42, 0.42, (gx.size, 2)) * step
    cells = shapely.voronoi_polygons(shapely.multipoints(points), ordered=True)
    return list(cells.geoms)
