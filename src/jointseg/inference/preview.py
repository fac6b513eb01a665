"""Step `preview`: a square of a tile as a super-resolved COG, and a figure of composite, image and ISA map."""

from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from matplotlib.figure import Figure

from jointseg.area import grid
from jointseg.inference import lattice
from jointseg.inference.blending import Bounds, blend
from jointseg.inference.composite_reader import CompositeReader
from jointseg.inference.lattice import LR_M
from jointseg.inference.predict import window_results
from jointseg.inference.predictor import REFLECTANCE_PER_DN, Precision, Predictor
from jointseg.inference.products import NODATA
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime import progress
from jointseg.runtime.files import atomic_write

# ISA fraction of the selected square, at which both urban and rural land is visible.
TARGET_ISA_FRACTION = 0.4
STRIP_M = 1000
# Brightens the dark half of the stretch, with water and forest.
GAMMA = 0.7
COLOURS = {0: (0, 0, 0, 0), 1: (0.9, 0.1, 0.1, 0.45), NODATA: (0.5, 0.5, 0.5, 1)}


def preview(
    *,
    composite: Path,
    superres: Path,
    isa: Path,
    rgb: Path,
    figure: Path,
    merged: Path | None = None,
    year: str,
    tile: str,
    tile_km: int,
    size_m: int,
    window_m: int,
    stride_m: int,
    batch: int,
    threads: int,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Super-resolve the square of a tile with an ISA fraction closest to 40 %, and draw it next to composite and map.

    Args:
        composite, isa: 10 m composite and 1 m map of the tile.
        superres: checkpoint of the generator.
        rgb: output COG, uint16 red, green, blue, reflectance x 10000 at 1 m, 0 = nodata.
        figure: output PNG, three panels.
        merged: merged dates of the tile, for a generator that needs them.
        size_m: side of the square, at most the tile's; rounded down to 10 m.
    """
    extent = grid.parse_tile(tile, tile_km)
    predictor = Predictor.load("superres", None, superres, precision)
    source = CompositeReader([composite], predictor.bands, [] if merged is None else [merged])
    bounds, fraction = select_square(isa, extent.bounds, min(size_m, tile_km * 1000) // LR_M * LR_M)
    side = bounds[2] - bounds[0]
    image = np.zeros((3, side, side), dtype=np.uint16)
    with predictor.workers(threads) as pool, progress.bar(f"preview {year} {tile}", side**2 / 1e6, "km2") as bar:
        windows = lattice.rows(bounds, window_m, stride_m)
        results = window_results(source, windows, predictor.reflectance, pool, batch)
        for (west, south, east, north), values in blend(results, bounds, window_m, stride_m, 3, predictor.device):
            dn = np.clip(np.rint(values.cpu().numpy() / REFLECTANCE_PER_DN), 1, 65535)
            image[:, bounds[3] - north : bounds[3] - south, west - bounds[0] : east - bounds[0]] = dn.astype(np.uint16)
            bar.advance(dn[0].size / 1e6)
    dn10, valid = source.read(bounds)
    image[:, ~valid.repeat(LR_M, axis=0).repeat(LR_M, axis=1)] = 0
    transform = Affine(1, 0, bounds[0], 0, -1, bounds[3])
    names = predictor.bands[:3]
    cog.write(rgb, image, crs=extent.crs, transform=transform, nodata=0, descriptions=names, overviews="average")
    labels, _, _ = raster_io.read(isa, bounds)
    with atomic_write(figure) as part:
        panels(dn10[:3], image, labels[0], f"{tile}, {year}").savefig(
            part, format="png", dpi=130, metadata={"Software": None}
        )
    return {"bounds_m": list(bounds), "isa_fraction": fraction, "device": predictor.device.type}


def select_square(isa: Path, bounds: Bounds, side_m: int) -> tuple[Bounds, float | None]:
    """Select the square of `side_m` on the 10 m grid with the most valid pixels and an ISA fraction closest to 40 %.

    Return its bounds and its ISA fraction, None if it has no valid pixel.
    """
    minx, miny, maxx, maxy = bounds
    cells = []
    for top in range(maxy, miny, -STRIP_M):
        strip = raster_io.read(isa, (minx, max(miny, top - STRIP_M), maxx, top))[0][0]
        blocks = strip.reshape(strip.shape[0] // LR_M, LR_M, strip.shape[1] // LR_M, LR_M)
        cells.append(np.stack([(blocks == 1).sum((1, 3)), (blocks != NODATA).sum((1, 3))]))
    sums = np.pad(np.concatenate(cells, axis=1), ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    n = side_m // LR_M
    isa_px, valid_px = sums[:, n:, n:] - sums[:, :-n, n:] - sums[:, n:, :-n] + sums[:, :-n, :-n]
    fraction = isa_px / np.maximum(valid_px, 1)
    cost = np.abs(fraction - TARGET_ISA_FRACTION) + (1 - valid_px / side_m**2)
    row, col = np.unravel_index(int(np.argmin(cost)), cost.shape)
    west, north = minx + int(col) * LR_M, maxy - int(row) * LR_M
    return (west, north - side_m, west + side_m, north), float(fraction[row, col]) if valid_px[row, col] else None


def panels(composite: np.ndarray, image: np.ndarray, isa: np.ndarray, title: str) -> Figure:
    """Return a figure of the composite (bilinear), the 1 m image and the ISA map over it, with the same stretch.

    `composite` is uint16 [3, h, w] at 10 m, `image` uint16 [3, 10 h, 10 w], 0 = nodata; `isa` is uint8 of 0, 1, 255.
    """
    low, high = percentile_limits(composite)
    overlay = np.zeros((*isa.shape, 4))
    for code, colour in COLOURS.items():
        overlay[isa == code] = colour
    drawn = Figure(figsize=(13.5, 4.9), layout="constrained")
    axes = drawn.subplots(1, 3)
    size = isa.shape[0]
    extent = (0, size, 0, size)
    axes[0].imshow(to_display(composite, low, high), extent=extent, interpolation="bilinear")
    axes[0].set_title(f"{title}: composite, 10 m")
    for axis, name in ((axes[1], "super-resolved, 1 m"), (axes[2], "impervious surface, 1 m")):
        axis.imshow(to_display(image, low, high), extent=extent, interpolation="antialiased")
        axis.set_title(name)
    axes[2].imshow(overlay, extent=extent, interpolation="nearest")
    bar_m = 200 if size >= 600 else 50
    axes[0].plot([size * 0.04, size * 0.04 + bar_m], [size * 0.04] * 2, color="white", linewidth=4)
    axes[0].text(size * 0.04, size * 0.06, f"{bar_m} m", color="white")
    for axis in axes:
        axis.set_axis_off()
    return drawn


def percentile_limits(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 1st and 99th percentile of each band over its valid pixels: two float64 [3, 1, 1]."""
    valid = image[:, (image > 0).all(axis=0)]
    if not valid.size:
        return np.zeros((3, 1, 1)), np.ones((3, 1, 1))
    low, high = np.percentile(valid, [1, 99], axis=1)
    return low[:, None, None], np.maximum(high, low + 1)[:, None, None]


def to_display(image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return float32 [h, w, 3] between 0 and 1, nodata grey."""
    scaled = np.clip((image - low) / (high - low), 0, 1).astype(np.float32) ** GAMMA
    scaled[:, (image == 0).all(axis=0)] = 0.5
    return scaled.transpose(1, 2, 0)
