"""Figures of the ablation: accuracy by reach, and image and map of example chips for each variant."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jointseg.ablation.variants import BASELINE, UPPER_BOUND, VARIANTS
from jointseg.accuracy.figures import INK, PALETTE, STYLE, agreement_image
from jointseg.dataset.contract import REFLECTANCE_PER_DN
from jointseg.raster import io as raster_io
from jointseg.training.panel import to_display


def plot_by_reach(table: pd.DataFrame) -> Figure:
    """Plot F1 with its interval, one row per variant and one panel per reach; lines mark baseline and upper bound."""
    table = table[(table["zone"] == "all") & (table["reference"] == table["reference"].iloc[-1])]
    reaches, variants = list(table["reach"].unique()), list(table["variant"].unique())
    y = np.arange(len(variants))[::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.2 + 2.4 * len(reaches), 0.8 + 0.34 * len(variants)), dpi=110, layout="constrained")
        axes = figure.subplots(1, len(reaches), sharey=True, squeeze=False)[0]
        for axis, reach in zip(axes, reaches):
            rows = table[table["reach"] == reach].set_index("variant").loc[variants]
            value, lower, upper = (100 * rows[f"value{end}"].to_numpy() for end in ("", "_lower", "_upper"))
            axis.errorbar(value, y, xerr=[value - lower, upper - value], fmt="o", color=PALETTE[2], markersize=4)
            for variant in (BASELINE, UPPER_BOUND):
                if variant in variants:
                    axis.axvline(100 * rows.loc[variant, "value"], color=INK, linewidth=0.8, linestyle=":")
            axis.set_title(reach)
            axis.set_xlabel("F1, %")
        axes[0].set_yticks(y, [VARIANTS[variant].title for variant in variants])
    return figure


def plot_panels(examples: dict[str, Path], chips: pd.DataFrame, root: Path) -> Figure:
    """Plot two rows per chip: images, and agreement of map and label (dark: both, orange: commission, blue: omission).

    `examples` has the folder of each variant, see `scoring.score`; `chips` the rows of the index of the chips in them.
    """
    columns = ["Sentinel-2 | label", *[VARIANTS[variant].title for variant in examples]]
    with matplotlib.rc_context(STYLE):
        side = 1.9
        figure = Figure(figsize=(side * len(columns), 2 * side * len(chips)), dpi=90, layout="constrained")
        axes = figure.subplots(2 * len(chips), len(columns), squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, title in zip(axes[0], columns):
            axis.set_title(_wrap(title), fontsize=8)
        for (top, bottom), chip in zip(zip(axes[::2], axes[1::2]), chips.itertuples()):
            label = raster_io.read(root / chip.label)[0][0]
            composite = raster_io.read(root / chip.lr)[0][:3]
            top[0].imshow(_display(composite), interpolation="nearest")
            bottom[0].imshow(agreement_image(label, label), interpolation="nearest")
            for column, folder in enumerate(examples.values(), 1):
                image, isa = (folder / f"{chip.sample_id}_{kind}.tif" for kind in ("image", "isa"))
                if image.exists():
                    top[column].imshow(_display(raster_io.read(image)[0]), interpolation="nearest")
                bottom[column].imshow(agreement_image(raster_io.read(isa)[0][0], label), interpolation="nearest")
    return figure


def _display(dn: np.ndarray) -> np.ndarray:
    return to_display(np.where(dn == 0, np.nan, dn * np.float32(REFLECTANCE_PER_DN)))


def _wrap(title: str) -> str:
    return title.replace(", ", ",\n").replace(" (", "\n(").replace(": ", ":\n")
