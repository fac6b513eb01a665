"""Pictures of the ablation: accuracy by reach, and the same chips as every variant sees and maps them."""

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
    """F1 with its interval, a row an variant and a panel a reach; lines mark baseline and upper bound."""
    table = table[(table["zone"] == "all") & (table["reference"] == table["reference"].iloc[-1])]
    reaches, variants = list(table["reach"].unique()), list(table["variant"].unique())
    places = np.arange(len(variants))[::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.2 + 2.4 * len(reaches), 0.8 + 0.34 * len(variants)), dpi=110, layout="constrained")
        axes = figure.subplots(1, len(reaches), sharey=True, squeeze=False)[0]
        for axis, reach in zip(axes, reaches):
            rows = table[table["reach"] == reach].set_index("variant").loc[variants]
            value, lower, upper = (100 * rows[f"value{end}"].to_numpy() for end in ("", "_lower", "_upper"))
            axis.errorbar(value, places, xerr=[value - lower, upper - value], fmt="o", color=PALETTE[2], markersize=4)
            for variant in (BASELINE, UPPER_BOUND):
                if variant in variants:
                    axis.axvline(100 * rows.loc[variant, "value"], color=INK, linewidth=0.8, linestyle=":")
            axis.set_title(reach)
            axis.set_xlabel("F1, %")
        axes[0].set_yticks(places, [VARIANTS[variant].title for variant in variants])
    return figure


def plot_panels(pictures: dict[str, Path], chips: pd.DataFrame, root: Path) -> Figure:
    """Two rows a chip: images, and where the map agrees with the label (dark found, orange false alarm, blue missed).

    Args:
        pictures: the folder of each variant, see `scoring.score`.
        chips: rows of the index, those that the folders hold.
        root: the folder that the index's paths start from.
    """
    columns = ["Sentinel-2 | label", *[VARIANTS[variant].title for variant in pictures]]
    with matplotlib.rc_context(STYLE):
        side = 1.9
        figure = Figure(figsize=(side * len(columns), 2 * side * len(chips)), dpi=90, layout="constrained")
        axes = figure.subplots(2 * len(chips), len(columns), squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for column, title in enumerate(columns):
            axes[0, column].set_title(_wrapped(title), fontsize=8)
        for row, chip in enumerate(chips.itertuples()):
            label = raster_io.read(root / chip.label)[0][0]
            low = raster_io.read(root / chip.lr)[0][:3]
            axes[2 * row, 0].imshow(_shown(low), interpolation="nearest")
            axes[2 * row + 1, 0].imshow(agreement_image(label, label), interpolation="nearest")
            for column, folder in enumerate(pictures.values(), 1):
                image, isa = (folder / f"{chip.sample_id}_{what}.tif" for what in ("image", "isa"))
                if image.exists():
                    axes[2 * row, column].imshow(_shown(raster_io.read(image)[0]), interpolation="nearest")
                mapped = raster_io.read(isa)[0][0]
                axes[2 * row + 1, column].imshow(agreement_image(mapped, label), interpolation="nearest")
    return figure


def _shown(dn: np.ndarray) -> np.ndarray:
    return to_display(np.where(dn == 0, np.nan, dn * np.float32(REFLECTANCE_PER_DN)))


def _wrapped(title: str) -> str:
    return title.replace(", ", ",\n").replace(" (", "\n(").replace(": ", ":\n")
