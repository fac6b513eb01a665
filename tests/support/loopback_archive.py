"""Archives behind the test servers: tiny scenes of one tile, and the products of a synthetic scene."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pyproj import Transformer
from scipy.ndimage import gaussian_filter
from support.tiny_sentinel2 import NORTH, SIDE, WEST, catalogue, item

from jointseg.synthetic import sentinel2_archive
from jointseg.synthetic.acquisitions import Sentinel2Acquisition
from jointseg.synthetic.terrain import Frame

MARGIN_PX = 20  # of the scene of the neighbouring zone, around the tile


def write_tiny_archive(root: Path, *, dark: bool = True, east: bool = False) -> Path:
    """Write three scenes of 2021 with clouds and a nodata corner.

    Args:
        root: folder of the archive.
        dark: include pixels darker than the radiometric offset.
        east: add a fourth scene in the neighbouring UTM zone, on its own lattice.
    """
    rng = np.random.default_rng(0)
    sun = {"view:sun_azimuth": 140.5, "view:sun_elevation": 58.75}
    for number in range(3):
        bands = _bands(rng, SIDE)
        if dark:
            bands["B04"][40:44, 50:60] = 950
        bands["B03"][-12:, : 9 * number] = 0
        classes = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
        classes[10 * number : 10 * number + 3, 5:25] = 9
        name, when = f"S{number}_T50RPV", f"2021-0{number + 5}-01T02:50:00Z"
        item(root, name, bands | {"SCL": (classes, {"res_m": 20})}, when=when, **sun)
    if east:
        to = Transformer.from_crs(32650, 32651, always_xy=True)
        x, y = (round(each / 20) * 20 for each in to.transform(WEST + 10 * SIDE / 2, NORTH - 10 * SIDE / 2))
        side = SIDE + 2 * MARGIN_PX
        grid = {"crs": "EPSG:32651", "west": x - 5 * side, "north": y + 5 * side}
        bands = {key: (band, grid) for key, band in _bands(rng, side).items()}
        classes = rng.choice([4, 5, 9], (side // 2, side // 2), p=[0.6, 0.35, 0.05]).astype(np.uint8)
        item(
            root,
            "east_T51RTQ",
            bands | {"SCL": (classes, grid | {"res_m": 20})},
            when="2021-08-01T02:50:00Z",
            **{"proj:code": "EPSG:32651"},
        )
    return catalogue(root)


def _bands(rng: np.random.Generator, side: int) -> dict[str, np.ndarray]:
    return {key: (1800 + _texture(rng, side, side) * 700).astype(np.uint16) for key in ("B04", "B03", "B02")}


def write_synthetic_archive(root: Path) -> Path:
    """Write the products of a synthetic scene over a textured surface: four of L2A in 2021, three of L1C in 2017."""
    frame = Frame(1000, 11)
    rng = frame.rng(1)
    acquisitions_by_year: dict[int, list[Sentinel2Acquisition]] = {2017: [], 2021: []}
    for year, level, baseline, offset in ((2017, "L1C", "02.05", 0), (2021, "L2A", "05.00", 1000)):
        for number in range(3 if level == "L1C" else 4):
            when = datetime(year, 5 + number, 3 + 5 * number, 2, 50, 59, tzinfo=UTC)
            cloud_fraction = 0.12 * (number % 3)
            acquisitions_by_year[year].append(
                Sentinel2Acquisition(when, level, "S2A", 132, baseline, offset, cloud_fraction, (0.0, 0.0), number == 2)
            )
    rows, cols = frame.reach_m // 10, frame.width_m // 10
    surface_bands = np.stack([0.12 + 0.04 * _texture(rng, rows, cols) for _ in range(4)])
    surface = {
        year: [np.clip(surface_bands * rng.uniform(0.9, 1.1), 0.02, 0.9).astype(np.float32) for _ in acquisitions]
        for year, acquisitions in acquisitions_by_year.items()
    }
    sentinel2_archive.write_archive(root, frame, acquisitions_by_year, surface)
    return root


def _texture(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    """Return fine and coarse noise of mean 0 within -1 and 1."""
    noise = gaussian_filter(rng.normal(size=(rows, cols)), 3) * 8 + 0.3 * rng.normal(size=(rows, cols))
    return np.clip(noise / noise.std(), -2.5, 2.5) * 0.4
