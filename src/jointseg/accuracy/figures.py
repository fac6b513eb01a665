"""Figures of the report: rasters as images, accuracy bars, growth and learning curves; deterministic bytes."""

import base64
import io
from pathlib import Path
from typing import Any

import geopandas as gpd
import matplotlib
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from jointseg.accuracy.cluster_estimators import NODATA

INK, GRID, ISA = "#22303c", "#e3e7ea", (196, 64, 45)
# Safe for colour vision deficiency (Okabe and Ito 2008, Color Universal Design), lighter colours last.
PALETTE = ("#d55e00", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8796a1", "#3d3d3d")
# Agreement of a map with a reference.
AGREEMENT = {
    "true positive": (34, 48, 60),
    "false positive": (227, 130, 48),
    "false negative": (52, 122, 190),
    "true negative": (244, 243, 239),
    "nodata": (196, 202, 206),
}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#9aa5ad",
    **dict.fromkeys(("axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
}


def isa_image(classes: np.ndarray) -> np.ndarray:
    """Return 0/1/255 [rows, columns] as colours, uint8 [rows, columns, 3]: ISA red, non-ISA white, nodata grey."""
    out = np.empty((*classes.shape, 3), dtype=np.uint8)
    out[:] = AGREEMENT["true negative"]
    out[classes == 1] = ISA
    out[classes == NODATA] = AGREEMENT["nodata"]
    return out


def fraction_image(classes: np.ndarray, finer: int) -> np.ndarray:
    """Return the ISA fraction of blocks of finer x finer pixels of 0/1/255 as colours, uint8 [rows, columns, 3]."""
    rows, cols = (side // finer for side in classes.shape)
    blocks = classes[: rows * finer, : cols * finer].reshape(rows, finer, cols, finer)
    valid = (blocks <= 1).sum(axis=(1, 3))
    fraction = (blocks == 1).sum(axis=(1, 3)) / np.maximum(valid, 1)
    white, red = np.array(AGREEMENT["true negative"]), np.array(ISA)
    image = np.rint(white + fraction[..., None] * (red - white)).astype(np.uint8)
    image[valid == 0] = AGREEMENT["nodata"]
    return image


def agreement_image(mapped: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the agreement of a map and a reference (0/1/255) as AGREEMENT colours, uint8 [rows, columns, 3]."""
    out = np.empty((*mapped.shape, 3), dtype=np.uint8)
    out[:] = AGREEMENT["true negative"]
    out[(mapped == 1) & (reference == 1)] = AGREEMENT["true positive"]
    out[(mapped == 1) & (reference == 0)] = AGREEMENT["false positive"]
    out[(mapped == 0) & (reference == 1)] = AGREEMENT["false negative"]
    out[(mapped == NODATA) | (reference == NODATA)] = AGREEMENT["nodata"]
    return out


def photo_uri(image: np.ndarray, side_px: int | None = None) -> str:
    """Return uint8 [rows, columns, 3] as a JPEG data URI, enlarged by an integer factor up to side_px columns."""
    picture = Image.fromarray(image)
    if side_px is not None and side_px > picture.width:
        factor = side_px // picture.width
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return _uri(picture, "jpeg", quality=86)


def chart_uri(image: np.ndarray) -> str:
    """Return uint8 [rows, columns, 3] of few colours as a PNG data URI."""
    return _uri(Image.fromarray(image).quantize(32, dither=Image.Dither.NONE), "png", optimize=True)


def _uri(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return bytes_uri(buffer.getvalue(), f"image/{kind}")


def bytes_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def file_uri(path: Path) -> str:
    return bytes_uri(path.read_bytes(), "image/png")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Omit the Software entry: it contains the library's version, so the bytes would depend on it.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def accuracy_bars(table: pd.DataFrame, metric: str, title: str, labels: dict[str, str]) -> str:
    """Return bars of a metric by reach, one colour per map (see `labels`), with 95 % intervals, as a PNG data URI."""
    reaches = list(dict.fromkeys(table["reach"]))
    width = 0.84 / len(labels)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.5), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, label) in enumerate(labels.items()):
            rows = table[table["name"] == name].set_index("reach").reindex(reaches)
            value = rows[metric].to_numpy()
            x = np.arange(len(reaches)) + (i - (len(labels) - 1) / 2) * width
            colour = PALETTE[i % len(PALETTE)]
            axes.bar(x, value, 0.92 * width, color=colour, label=label)
            around = [value - rows[f"{metric}_lower"], rows[f"{metric}_upper"] - value]
            axes.errorbar(x, value, np.nan_to_num(np.abs(around)), fmt="none", ecolor=INK, elinewidth=0.9, capsize=2)
        axes.set_xticks(range(len(reaches)), reaches)
        axes.set_ylim(0, 1)
        axes.grid(axis="x", visible=False)
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        figure.legend(loc="outside lower center", ncols=min(len(labels), 3), frameon=False)
        return bytes_uri(_png(figure), "image/png")


def growth_curves(table: pd.DataFrame, curves: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Draw the ISA area by year, one panel per city: map count, estimate with its interval, fitted curve, truth.

    `table` is that of step `growth`; `curves` has year, km2, lower and upper of the fitted curve of each city that has
    one.
    """
    cities = list(dict.fromkeys(table["city"]))
    columns = min(3, len(cities))
    lines = -(-len(cities) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * columns + 0.4, 2.8 * lines + 0.5), layout="constrained")
        for i, city in enumerate(cities):
            axes = figure.add_subplot(lines, columns, i + 1)
            part = table[table["city"] == city]
            _growth_panel(axes, part, curves.get(city))
            kind, confidence = part["growth"].iloc[0], part["growth_confidence"].iloc[0]
            draws = f", {100 * confidence:.0f} % of draws" if np.isfinite(confidence) else ""
            title = f"{city} ({part['reach'].iloc[0]})\n{kind}{draws}"
            axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
            if i % columns == 0:
                axes.set_ylabel("impervious area, km²")
        named: dict[str, Any] = {}
        for axes in figure.axes:
            named |= dict(zip(*reversed(axes.get_legend_handles_labels())))
        figure.legend(named.values(), named, loc="outside lower center", ncols=len(named), frameon=False)
        path.write_bytes(_png(figure))


def _growth_panel(axes: matplotlib.axes.Axes, part: pd.DataFrame, curve: dict[str, np.ndarray] | None) -> None:
    years = part["year"].to_numpy()
    if curve is not None:
        axes.fill_between(curve["year"], curve["lower"], curve["upper"], color=PALETTE[1], alpha=0.14, lw=0)
        axes.plot(curve["year"], curve["km2"], color=PALETTE[1], lw=1.2, label="fitted, 95 % band")
        value = part["estimated_km2"]
        around = np.abs([value - part["estimated_km2_lower"], part["estimated_km2_upper"] - value])
        axes.errorbar(
            years, value, around, fmt="s", color=PALETTE[1], ms=4, elinewidth=1.1, capsize=2.5, label="estimate, 95 %"
        )
    axes.plot(years, part["isa_km2"], color=PALETTE[0], lw=1.4, marker="o", ms=4, label="map count")
    if "truth_km2" in part:
        axes.plot(years, part["truth_km2"], color=INK, lw=1.2, ls="--", marker="D", ms=3.5, label="truth")
    axes.set_xticks(years)
    axes.set_ylim(bottom=0)


def learning_curves(histories: dict[str, pd.DataFrame]) -> str:
    """Return losses and validation score by step, one column of panels per training, as a PNG data URI.

    Losses, at the finest scale trained, are divided by their first value to fit one axis. The score is the gain in PSNR
    over bilinear upsampling at the finest scale validated, or F1 of the segmentation.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(2.0 * len(histories), 4.0) + 0.6, 3.6), layout="constrained")
        axes = figure.subplots(2, len(histories), squeeze=False, sharex="col")
        for (title, table), (above, below) in zip(histories.items(), axes.T):
            scale = "1m" if "psnr_1m" in table else "2.5m"
            losses = ["loss", *(f"{kind}_{scale}" for kind in ("l1", "perceptual", "adversarial"))]
            names = [name for name in losses if name in table]
            for colour, name in zip(PALETTE, names):
                curve = table[["step", name]].dropna()
                label = name.replace("_", " ").replace("2.5m", "2.5 m").replace("1m", "1 m")
                above.plot(curve["step"], curve[name] / curve[name].iloc[0], color=colour, lw=1.3, label=label)
            above.set_title(title, loc="left", fontsize=8, fontweight="bold")
            above.legend(frameon=False, fontsize=6.5)
            score, unit = _score(table)
            below.plot(table["step"], score, color=INK, lw=1.4, marker="o", ms=2.5)
            below.set_title(unit, loc="left", fontsize=8)
            below.set_xlabel("step")
            below.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))
        axes[0, 0].set_ylabel("loss / first loss")
        axes[1, 0].set_ylabel("validation")
        return bytes_uri(_png(figure), "image/png")


def _score(table: pd.DataFrame) -> tuple[pd.Series, str]:
    if "validation_f1" in table:
        return table["validation_f1"], "F1 at 0.5"
    scale = "1m" if "psnr_1m" in table else "2.5m"
    return table[f"psnr_{scale}"] - table[f"bilinear_{scale}"], f"gain over bilinear, dB at {scale.replace('m', ' m')}"


def sample_map(outlines: gpd.GeoSeries, sample: gpd.GeoDataFrame) -> str:
    """Return a map of the sample by split over the reaches (degrees), replacement samples as rings, as a PNG data URI."""
    lon, lat = sample.geometry.x.to_numpy(), sample.geometry.y.to_numpy()
    side = float(np.clip(95 / max(len(sample), 1) ** 0.5, 1.0, 4.2))  # points of 1/72 inch
    with matplotlib.rc_context(STYLE):
        west, south, east, north = outlines.total_bounds
        tall = (north - south) / ((east - west) * np.cos(np.radians(lat.mean())))
        figure = Figure(figsize=(9.2, float(np.clip(8.4 * tall + 1.1, 2.5, 8))), layout="constrained")
        axes = figure.add_subplot()
        outlines.simplify(0.001).plot(ax=axes, facecolor="#f5f6f4", edgecolor="#9aa5ad", linewidth=0.7)
        for name, colour in (("train", PALETTE[6]), ("validation", PALETTE[1]), ("test", PALETTE[0])):
            for replacement in (True, False):
                selected = ((sample["split"] == name) & (sample["replacement"] == replacement)).to_numpy()
                axes.plot(
                    *(lon[selected], lat[selected]),
                    ls="",
                    marker="o",
                    ms=side,
                    mec=colour,
                    mew=0.15 * side if replacement else 0,
                    mfc="none" if replacement else colour,
                    label=None if replacement else f"{name} ({selected.sum()})",
                )
        axes.set_aspect(1 / np.cos(np.radians(lat.mean())))
        axes.set_xlabel("longitude, °E")
        axes.set_ylabel("latitude, °N")
        axes.ticklabel_format(useOffset=False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, markerscale=4.2 / side)
        return bytes_uri(_png(figure), "image/png")
