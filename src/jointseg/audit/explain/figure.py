"""Figure of one pixel: composite and map with the inference windows, and the scenes by acquisition date."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jointseg.accuracy.figures import INK, isa_image
from jointseg.area import grid
from jointseg.audit.explain.explainer import Explainer, Explanation
from jointseg.audit.explain.map import TileMap
from jointseg.audit.explain.observations import SceneObservation
from jointseg.audit.explain.pixel import Pixel
from jointseg.raster import io as raster_io
from jointseg.raster.mosaic import Mosaic
from jointseg.raster.rendering import percentile_stretch
from jointseg.runtime.files import atomic_write
from jointseg.sentinel2.scene_windows import RES_M

MARGIN_M, THUMBNAIL_M = 60, 320  # margin around the windows, side length of a scene's thumbnail
MIN_PER_ROW, MAX_PER_ROW = 6, 8
CLEAR, NOT_CLEAR, NOT_READ, MARK = "#1b7f5c", "#c4402d", "#94a1ab", "#ffd400"
WINDOW_COLOURS = ("#1f5fbf", "#8a3fa0", "#0a8a8a", "#b36b00")
STYLE: Any = {"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.edgecolor": "#9aa5ad"}
WIDTH_IN = 11.0
Box = tuple[int, int, int, int]


def draw(explainer: Explainer, explanation: Explanation, path: Path) -> None:
    """Write the figure of an explanation as PNG."""
    tile_map = explainer.map_of(explanation.pixel.tile, explanation.pixel.year)
    columns = min(max(len(explanation.composite.observations), MIN_PER_ROW), MAX_PER_ROW)
    rows = -(-len(explanation.composite.observations) // columns)
    with matplotlib.rc_context(STYLE):
        top_in, thumbs_in = 5.9, rows * (WIDTH_IN / columns + 0.62) + 0.45
        figure = Figure(figsize=(WIDTH_IN, top_in + thumbs_in), layout="constrained")
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[top_in, thumbs_in]).ravel()
        _maps(above, explainer, tile_map, explanation)
        _scenes(below, tile_map, explanation, (rows, columns))
        with atomic_write(path) as part:
            figure.savefig(part, format="png", dpi=130, metadata={"Software": None})


def _maps(figure: Any, explainer: Explainer, tile_map: TileMap, explanation: Explanation) -> None:
    """Draw composite and map side by side."""
    pixel = explanation.pixel
    box = _extent(explanation)
    extent = (box[0], box[2], box[1], box[3])
    left, right = figure.subplots(1, 2)
    paths = [path for path in tile_map.composites.values() if path.is_file()]
    composite = Mosaic(paths).read(box, [1, 2, 3])
    left.imshow(percentile_stretch(composite)[0], extent=extent, interpolation="nearest")
    scenes = len(explanation.composite.observations)
    left.set_title(f"composite {pixel.year}, 10 m: {explanation.composite.clear} of {scenes} observations clear")
    right.imshow(isa_image(_isa(explainer, tile_map, pixel.year, box)), extent=extent, interpolation="nearest")
    right.set_title(f"map {pixel.year}, 1 m: {pixel.value}")
    for axes in (left, right):
        _frame(axes, box)
        _chips(axes, explanation, pixel.epsg, box)
    for number, window in enumerate(explanation.windows):
        colour = WINDOW_COLOURS[number % len(WINDOW_COLOURS)]
        west, south, east, north = window.bounds
        # Increasing insets keep coinciding edges visible.
        inset = 4 + 5 * number
        size = (east - west - 2 * inset, north - south - 2 * inset)
        right.add_patch(Rectangle((west + inset, south + inset), *size, fill=False, edgecolor=colour, lw=1.8))
        right.plot([], [], color=colour, lw=1.8, label=f"window {window.row}, {window.col}: weight {window.weight:.3f}")
    _mark(left, *_centre_10m(pixel), box)
    _mark(right, pixel.x, pixel.y, box)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    location = f"{pixel.degrees}, tile {pixel.tile}, row {pixel.row}, col {pixel.col}"
    figure.suptitle(f"{pixel.value}, {pixel.year}: {location}", fontsize=11, fontweight="bold")


def _centre_10m(pixel: Pixel) -> tuple[float, float]:
    """Centre of the 10 m pixel."""
    return pixel.x // RES_M * RES_M + RES_M / 2, pixel.y // RES_M * RES_M + RES_M / 2


def _extent(explanation: Explanation) -> Box:
    """Square on the 10 m lattice that contains all windows of the pixel."""
    west, south, east, north = zip(*(window.bounds for window in explanation.windows))
    half = max(max(east) - min(west), max(north) - min(south)) // 2 + MARGIN_M
    x, y = ((low + high) // 2 // RES_M * RES_M for low, high in ((min(west), max(east)), (min(south), max(north))))
    half = -(-half // RES_M) * RES_M
    return x - half, y - half, x + half, y + half


def _isa(explainer: Explainer, tile_map: TileMap, year: int, box: Box) -> np.ndarray:
    """Maps of the year in a box, uint8 [rows, columns], 255 outside."""
    folder, names = tile_map.isa_path.parent, [tile_map.tile.id, *(tile.id for tile in grid.neighbours(tile_map.tile))]
    paths = [folder / f"{name}.tif" for name in names if name in explainer.tiles]
    return Mosaic([path for path in paths if path.is_file()]).read(box)[0]


def _frame(axes: Axes, box: Box) -> None:
    axes.set(xlim=(box[0], box[2]), ylim=(box[1], box[3]), xticks=[], yticks=[])
    side = box[2] - box[0]
    bar_m = 200 if side >= 600 else 100
    x, y = box[0] + side * 0.04, box[1] + side * 0.04
    for width, colour in ((5.0, "white"), (2.5, "black")):
        axes.plot([x, x + bar_m], [y, y], color=colour, lw=width, solid_capstyle="butt")
    axes.text(x, y + side * 0.015, f"{bar_m} m", bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 1})


def _chips(axes: Axes, explanation: Explanation, epsg: int, box: Box) -> None:
    """Draw the outlines of the chips that contain the pixel, with labels inside the axes."""
    for dataset in explanation.datasets:
        for chip in dataset.covering:
            if chip.epsg == epsg:
                size = (dataset.chip_m, dataset.chip_m)
                axes.add_patch(
                    Rectangle((chip.minx, chip.miny), *size, fill=False, edgecolor="black", lw=1.4, ls=(0, (4, 3)))
                )
                corner = max(chip.minx, box[0]) + 6, max(chip.miny, box[1]) + 8
                axes.text(*corner, f"{chip.split} chip", fontsize=8)


def _mark(axes: Axes, x: float, y: float, box: Box) -> None:
    """Mark the 10 m pixel with a frame and four strokes."""
    west, south = x // RES_M * RES_M, y // RES_M * RES_M
    axes.add_patch(Rectangle((west, south), RES_M, RES_M, fill=False, edgecolor="black", lw=2.4))
    axes.add_patch(Rectangle((west, south), RES_M, RES_M, fill=False, edgecolor=MARK, lw=1.2))
    near, far = (fraction * (box[2] - box[0]) for fraction in (0.02, 0.06))
    for width, colour in ((3.6, "black"), (1.8, MARK)):
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            axes.plot([x + dx * near, x + dx * far], [y + dy * near, y + dy * far], color=colour, lw=width)


def _scenes(figure: Any, tile_map: TileMap, explanation: Explanation, shape: tuple[int, int]) -> None:
    """Draw the scenes by date: green frame if clear at the pixel, hatching over pixels that are not clear."""
    pixel = explanation.pixel
    half = THUMBNAIL_M // 2
    x, y = (int(value // RES_M) * RES_M for value in (pixel.x, pixel.y))
    box = (x - half, y - half, x + half, y + half)
    pixels = tile_map.scenes.read(box)
    limits = percentile_stretch(raster_io.read(tile_map.composite_path, box, [1, 2, 3])[0])[1]
    panels = figure.subplots(*shape, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    # A single incomplete row is centred.
    first = max(0, shape[1] - len(explanation.composite.observations)) // 2
    for number, (axes, observation) in enumerate(zip(panels[first:], explanation.composite.observations)):
        axes.set_axis_on()
        _frame_thumbnail(axes, observation)
        axes.set(aspect="equal", xlim=(box[0], box[2]), ylim=(box[1], box[3]))
        if pixels is not None:
            extent = (box[0], box[2], box[1], box[3])
            axes.imshow(percentile_stretch(pixels.stack[number, :3], limits)[0], extent=extent, interpolation="nearest")
            if not pixels.clear[number].all():
                hatching = {"extent": extent, "origin": "upper", "colors": "none", "hatches": ["////"]}
                with matplotlib.rc_context({"hatch.color": NOT_CLEAR, "hatch.linewidth": 0.6}):
                    axes.contourf(~pixels.clear[number], levels=[0.5, 1.5], **hatching)
        _mark(axes, *_centre_10m(pixel), box)
    title = "scenes by date; hatched: not clear" if pixels is not None else "scenes by date; files cannot be read"
    figure.suptitle(title, fontsize=10)


def _frame_thumbnail(axes: Axes, observation: SceneObservation) -> None:
    colour, status = {
        True: (CLEAR, "clear"),
        False: (NOT_CLEAR, "not clear"),
        None: (NOT_READ, "not read"),
    }[observation.clear]
    for spine in axes.spines.values():
        spine.set_edgecolor(colour)
        spine.set_linewidth(4 if observation.selected else 2.5)
    axes.set(xticks=[], yticks=[])
    status += ", selected" if observation.selected else ""
    date = observation.datetime[:10] if observation.datetime else "date unknown"
    axes.set_title(f"{date}\n{status}", fontsize=8, color=colour, fontweight="bold")
    if observation.clear is False:
        axes.set_xlabel(textwrap.fill(observation.detail, 24), fontsize=7, color=colour)
