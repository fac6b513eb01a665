"""The figure of step `quality`: clear looks in numbers and on the map, drift by band; the same bytes for the same input."""

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

INK, LINE, UNKNOWN, BAR = "#22303c", "#2f7f86", "#c4cace", "#c4402d"
# Cells of the map in all, and the most of one tile: a cell is drawn as a pixel or less.
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
    """Clear looks of a tile, drawn small.

    Attributes:
        epsg: UTM zone.
        bounds: (min x, min y, max x, max y), metres.
        looks: float64 [cells, cells], mean of the known pixels from the north-west; NaN where most are unknown.
    """

    epsg: int
    bounds: tuple[float, ...]
    looks: np.ndarray


def preview_cells(tiles: int) -> int:
    """Side in cells of a tile's view on a map of so many tiles."""
    return min(max(int(math.sqrt(MAP_CELLS / tiles)), 4), TILE_CELLS)


def draw(
    path: Path,
    year: str,
    looks: np.ndarray,
    views: list[TilePreview],
    drifts: dict[str, tuple[float | None, float | None]],
) -> None:
    """Draws the quality of a year's composites as a PNG.

    Args:
        path: PNG to make.
        year: for the heading.
        looks: int64 [n], pixels by clear looks; place 0 is unknown.
        views: of the year's tiles.
        drifts: by band, drift and spread in reflectance; None where there is no base year to compare with.
    """
    told = {band: pair for band, pair in drifts.items() if pair[0] is not None}
    ratios = [1.0, 1.6, 0.9]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.4 * sum(ratios), 3.4), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=ratios)
        _distribution(left, looks)
        _map(middle, views)
        if told:
            _drift(right, told)
        else:
            right.set_axis_off()
            right.text(0.5, 0.5, "not compared\nwith another year", ha="center", transform=right.transAxes)
        figure.suptitle(f"Composites of {year}", x=0.01, ha="left", fontsize=10.5, fontweight="bold")
        # No Software entry: it names the library's version and would change the bytes for nothing.
        figure.savefig(path, format="png", dpi=150, metadata={"Software": None})


def _distribution(axes: Axes, looks: np.ndarray) -> None:
    """Share of the ground that has at least so many clear looks."""
    most = max(int(np.flatnonzero(looks).max(initial=0)), 1)
    share = 100 * looks[: most + 1][::-1].cumsum()[::-1] / looks.sum()
    axes.step(np.arange(1, most + 1), share[1:], where="mid", color=LINE, lw=1.8)
    axes.plot(np.arange(1, most + 1), share[1:], color=LINE, marker="o", ms=3, lw=0)
    axes.set_xlim(0, most + 1)
    axes.set_ylim(0, 103)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True)
    axes.set_xlabel("clear looks, at least")
    axes.set_ylabel("share of the ground, %")
    axes.set_title(f"{100 - share[1]:.2f} % unknown", loc="left", fontsize=9)


def _map(axes: Axes, views: list[TilePreview]) -> None:
    """Clear looks of every tile, in longitude and latitude, so that zones fit together."""
    values = np.concatenate([view.looks[np.isfinite(view.looks)] for view in views])
    top = max(float(np.percentile(values, 99)), 2.0) if values.size else 2.0
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=UNKNOWN)
    mesh = None
    for view in views:
        x = np.linspace(view.bounds[0], view.bounds[2], view.looks.shape[1] + 1)
        y = np.linspace(view.bounds[3], view.bounds[1], view.looks.shape[0] + 1)
        east, north = np.meshgrid(x, y)
        lon, lat = transformer(f"EPSG:{view.epsg}", "EPSG:4326").transform(east, north)
        mesh = axes.pcolormesh(lon, lat, np.ma.masked_invalid(view.looks), cmap=colours, vmin=0, vmax=top)
    middle = np.mean([transformer(f"EPSG:{v.epsg}", "EPSG:4326").transform(v.bounds[0], v.bounds[1])[1] for v in views])
    axes.set_aspect(1 / math.cos(math.radians(float(middle))))
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(nbins=4)
    axes.set_xlabel("longitude, °E")
    axes.set_ylabel("latitude, °N")
    axes.set_title("mean clear looks (grey: mostly unknown)", loc="left", fontsize=9)
    assert mesh is not None
    axes.figure.colorbar(mesh, ax=axes, shrink=0.85, extend="max")


def _drift(axes: Axes, told: dict[str, Any]) -> None:
    """Drift of each band against the base year on stable ground, with its spread."""
    drift, spread = (100 * np.array(values, dtype=float) for values in zip(*told.values()))
    axes.axhline(0, color=INK, lw=0.8)
    axes.errorbar(range(len(told)), drift, spread, fmt="o", color=BAR, ecolor=BAR, elinewidth=1.2, capsize=3, ms=5)
    axes.set_xticks(range(len(told)), list(told))
    axes.set_xlim(-0.6, len(told) - 0.4)
    axes.grid(visible=True, axis="y")
    axes.set_ylabel("reflectance, %")
    axes.set_title("drift on stable ground", loc="left", fontsize=9)
