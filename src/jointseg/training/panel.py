"""Training panel: learning curves above images of fixed validation chips."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jointseg.runtime.files import atomic_write
from jointseg.training.history import History

FONT: Any = {"font.size": 8}


def to_display(reflectance: np.ndarray, brightest: float = 0.3) -> np.ndarray:
    """Convert reflectance [3, h, w] to a display image [h, w, 3] in 0..1.

    The stretch is a square root up to reflectance `brightest`; NaN becomes black.
    """
    stretched = np.sqrt(np.clip(np.nan_to_num(reflectance) / brightest, 0, 1))
    return np.moveaxis(stretched, 0, -1)


def draw_panel(
    history: History, curves: Sequence[Sequence[str]], images: Sequence[Sequence[np.ndarray]], titles: Sequence[str]
) -> Figure:
    """Draw learning curves above rows of images.

    Each group of names in `curves` shares one axis. images[row][column] is [h, w, 3] in 0..1, or [h, w] in 0..1, which
    is drawn in grey.
    """
    columns = max(len(titles), len(curves), 1)
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(2.6 * columns, 2.4 + 2.6 * len(images)), dpi=90, layout="constrained")
        heights = [2.4, 2.6 * len(images)] if images else [1.0]
        top, *below = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat
        for axis, group in zip(top.subplots(1, len(curves), squeeze=False).flat, curves):
            for name in group:
                axis.plot(*history.series(name), label=name, linewidth=1, marker=".", markersize=3)
            axis.set_xlabel("step")
            axis.legend(frameon=False)
        if below:
            axes = below[0].subplots(len(images), len(titles), squeeze=False)
            for axis, title in zip(axes[0], titles):
                axis.set_title(title)
            for axis, image in zip(axes.flat, (image for row in images for image in row)):
                limits: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1} if image.ndim == 2 else {}
                axis.imshow(image, interpolation="nearest", **limits)
                axis.set_axis_off()
    return figure


def write_panel(path: Path, figure: Figure) -> None:
    """Write the panel as PNG; the same content gives the same bytes."""
    with matplotlib.rc_context(FONT), atomic_write(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
