"""Figure of the step `composite_quality`: clear observations, as a distribution and a map, and drift by band."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jointseg.area.grid import transformer

INK, LINE, NODATA, BAR = "#22303c", "#2f7f86", "#c4cace", "#c4402d"
# Maximum number of cells of the map, and of the side of one tile: a cell is at most about one pixel of the figure.
MAP_CELLS, TILE_CELLS = 250_000, 128
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5ad",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e3e7ea",
}


@dataclass(frozen=True)
class TilePreview:
    """Clear observations of a tile at reduced resolution."""

    epsg: int  # UTM zone
    bounds: tuple[float, ...]  # (min x, min y, max x, max y), metres
    # float64 [cells, cells], mean over valid pixels, from the north-west; NaN where most are nodata
    observations: np.ndarray


def preview_cells(tiles: int) -> int:
    """Return the side, in cells, of a tile's preview on a map of `tiles` tiles."""
    return min(max(int(math.sqrt(MAP_CELLS / tiles)), 4), TILE_CELLS)


def draw(
    path: Path,
    year: str,
    observations: np.ndarray,
    previews: list[TilePreview],
    drifts: dict[str, tuple[float | None, float | None]],
) -> None:
    """Write the quality figure of a year's composites; equal inputs give equal bytes.

    `observations`, int64 [n], are pixels by number of clear observations (0 is nodata); `drifts` are (drift, spread) in
    reflectance by band, None without a base year.
    """
    compared = {band: pair for band, pair in drifts.items() if pair[0] is not None}
    ratios = [1.0, 1.6, 0.9]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.4 * sum(ratios), 3.4), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=ratios)
        _distribution(left, observations)
        _map(middle, previews)
        if compared:
            _drift(right, compared)
        else:
            right.set_axis_off()
            right.text(0.5, 0.5, "no comparison\nwith a base year", ha="center", transform=right.transAxes)
        figure.suptitle(f"Composites of {year}", x=0.01, ha="left", fontsize=10.5, fontweight="bold")
        # Without the Software entry, which contains the version of matplotlib and would change the bytes.
        figure.savefig(path, format="png", dpi=150, metadata={"Software": None})


def _distribution(axes: Axes, observations: np.ndarray) -> None:
    """Plot the fraction of the area by minimum number of clear observations."""
    most = max(int(np.flatnonzero(observations).max(initial=0)), 1)
    percent = 100 * observations[: most + 1][::-1].cumsum()[::-1] / observations.sum()
    axes.step(np.arange(1, most + 1), percent[1:], where="mid", color=LINE, lw=1.8)
    axes.plot(np.arange(1, most + 1), percent[1:], color=LINE, marker="o", ms=3, lw=0)
    axes.set_xlim(0, most + 1)
    axes.set_ylim(0, 103)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True)
    axes.set_xlabel("minimum number of clear observations")
    axes.set_ylabel("fraction of area, %")
    axes.set_title(f"{100 - percent[1]:.2f} % nodata", loc="left", fontsize=9)


def _map(axes: Axes, previews: list[TilePreview]) -> None:
    """Draw the clear observations of every tile, in longitude and latitude as tiles may be in different zones."""
    values = np.concatenate([preview.observations[np.isfinite(preview.observations)] for preview in previews])
    top = max(float(np.percentile(values, 99)), 2.0) if values.size else 2.0
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=NODATA)
    mesh = None
    for preview in previews:
        image, (west, south, east, north) = preview.observations, preview.bounds
        x, y = np.linspace(west, east, image.shape[1] + 1), np.linspace(north, south, image.shape[0] + 1)
        lon, lat = transformer(f"EPSG:{preview.epsg}", "EPSG:4326").transform(*np.meshgrid(x, y))
        mesh = axes.pcolormesh(lon, lat, np.ma.masked_invalid(image), cmap=colours, vmin=0, vmax=top)
    south_west = [(preview.epsg, preview.bounds[0], preview.bounds[1]) for preview in previews]
    latitudes = [transformer(f"EPSG:{epsg}", "EPSG:4326").transform(x, y)[1] for epsg, x, y in south_west]
    axes.set_aspect(1 / math.cos(math.radians(float(np.mean(latitudes)))))
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(nbins=4)
    axes.set_xlabel("longitude, °E")
    axes.set_ylabel("latitude, °N")
    axes.set_title("mean clear observations (grey: mostly nodata)", loc="left", fontsize=9)
    assert mesh is not None
    axes.figure.colorbar(mesh, ax=axes, shrink=0.85, extend="max")


def _drift(axes: Axes, drifts: dict[str, Any]) -> None:
    """Plot the drift of each band against the base year on stable pixels, with its spread."""
    drift, spread = (100 * np.array(values, dtype=float) for values in zip(*drifts.values()))
    axes.axhline(0, color=INK, lw=0.8)
    axes.errorbar(range(len(drifts)), drift, spread, fmt="o", color=BAR, ecolor=BAR, elinewidth=1.2, capsize=3, ms=5)
    axes.set_xticks(range(len(drifts)), list(drifts))
    axes.set_xlim(-0.6, len(drifts) - 0.4)
    axes.grid(visible=True, axis="y")
    axes.set_ylabel("reflectance, %")
    axes.set_title("drift on stable pixels", loc="left", fontsize=9)
