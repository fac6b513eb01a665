"""Map of the tile grid: reaches, tiles, UTM zone edges and cities. Run `python -m jointseg.area.tile_map CONFIG PNG`."""

import io
import itertools
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import geopandas as gpd
import matplotlib
import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from PIL import Image

from jointseg.area.grid import transformer
from jointseg.area.study_area import study_area as write_study_area
from jointseg.area.tiles import grid
from jointseg.config.load import read_config
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

INK, EDGE, CITY = "#22303c", "#7a1f3d", "#c4402d"
REACHES = ("#dcc59a", "#b9d3b4", "#a9c8dc")
_STYLE: Any = {"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.edgecolor": "#9aa5ad"}
_WIDTH_IN, _DPI, _COLOURS = 11.0, 120, 96
_ABOVE: Any = {"textcoords": "offset points", "ha": "center"}
# Details below a third of a pixel of the figure only increase the file size.
_SIMPLIFY_M = 500.0


def draw(study_area: Path, tiles: Path, png: Path) -> None:
    """Write the map of the outputs of the steps `study_area` and `grid` as a PNG; equal inputs give equal bytes.

    Raises DataError if the GeoJSON has no tiles.
    """
    frame = gpd.read_file(tiles)
    if frame.empty:
        raise DataError(f"{tiles} has no tiles; run the step grid on a study area that is not empty")
    reaches, cities = (gpd.read_file(study_area, layer=layer) for layer in ("reaches", "cities"))
    west, south, east, north = frame.total_bounds
    # Equal-area projection about the centre, so that tiles keep their shape and size.
    crs = f"+proj=laea +lat_0={(south + north) / 2:.2f} +lon_0={(west + east) / 2:.2f} +datum=WGS84"
    left, bottom, right, top = frame.to_crs(crs).total_bounds
    margin = 0.04 * (right - left)
    with matplotlib.rc_context(_STYLE):
        height_in = _WIDTH_IN * (top - bottom + 2 * margin) / (right - left + 2 * margin) + 0.6
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(left - margin, right + margin), ylim=(bottom - margin, top + margin))
        axes.set_aspect("equal")
        handles = _draw_reaches(axes, reaches.to_crs(crs))
        _draw_tiles(axes, frame.to_crs(crs))
        _draw_zone_edges(axes, frame, crs)
        _draw_cities(axes, cities.to_crs(crs))
        _draw_scale_bar(axes)
        axes.set(xlabel="", ylabel="", yticks=[])  # geopandas labels the axes
        axes.legend(handles=handles, loc="upper left", frameon=False)
        axes.set_title(_title(frame), fontsize=10)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI)
    with atomic_write(png) as part:
        # A palette reduces the file to a third.
        Image.open(buffer).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(part, "PNG", optimize=True)


def _title(frame: gpd.GeoDataFrame) -> str:
    """Return the title: number and size of the tiles, by zone, and the number that touch a city."""
    zones = Counter(name[:3] for name in sorted(frame["tile"]))
    first = frame.iloc[[0]]
    west, _, east, _ = first.to_crs(int(first["epsg"].iloc[0])).total_bounds
    in_cities = sum(len(names) > 0 for names in frame["cities"])
    by_zone = ", ".join(f"{zone} {count:,}" for zone, count in zones.items())
    size_km = round((east - west) / 1000)
    return f"{len(frame):,} tiles of {size_km} km ({by_zone}), of which {in_cities:,} touch a city"


def _draw_reaches(axes: Axes, reaches: gpd.GeoDataFrame) -> list[Patch]:
    colours = [REACHES[number % len(REACHES)] for number in range(len(reaches))]
    reaches.geometry.simplify(_SIMPLIFY_M).plot(ax=axes, color=colours, edgecolor="white", linewidth=0.8, aspect=None)
    return [Patch(facecolor=colour, label=name) for colour, name in zip(colours, reaches["name"])]


def _draw_tiles(axes: Axes, frame: gpd.GeoDataFrame) -> None:
    """Draw the edges of all tiles; the tiles that touch a city, mapped in every year, are tinted."""
    touching = frame[[len(names) > 0 for names in frame["cities"]]]
    if not touching.empty:
        touching.plot(ax=axes, facecolor=CITY, alpha=0.18, edgecolor="none", aspect=None)
    frame.boundary.plot(ax=axes, color=INK, linewidth=0.25, alpha=0.7, aspect=None)


def _draw_zone_edges(axes: Axes, frame: gpd.GeoDataFrame, crs: str) -> None:
    """Draw the meridians between UTM zones, and the name of each zone in the middle of its visible strip."""
    _, south, _, north = frame.total_bounds
    project = transformer("EPSG:4326", crs)
    lat = np.linspace(south - 3, north + 3, 100)
    zones = sorted({epsg % 100 for epsg in frame["epsg"]})
    meridians = [zone * 6 - 186 for zone in zones[1:]]
    lines = [np.stack(project.transform(np.full(lat.shape, lon), lat), axis=1) for lon in meridians]
    axes.add_collection(LineCollection(lines, colors=EDGE, linewidths=1.1, linestyles="dashed"), autolim=False)
    (left, right), bottom = axes.get_xlim(), axes.get_ylim()[0]
    crossings = [float(np.interp(bottom, line[:, 1], line[:, 0])) for line in lines]
    axes.set_xticks(crossings, [f"{lon:g}°" for lon in meridians], color=EDGE)
    for zone, (low, high) in zip(zones, itertools.pairwise([left, *crossings, right])):
        axes.annotate(f"UTM {zone}", ((low + high) / 2, bottom), (0, 5), **_ABOVE, color=EDGE, weight="bold")


def _draw_cities(axes: Axes, cities: gpd.GeoDataFrame) -> None:
    if cities.empty:
        return
    cities.geometry.simplify(_SIMPLIFY_M).boundary.plot(ax=axes, color=CITY, linewidth=1.0, aspect=None)
    for name, shape in zip(cities["name"], cities.geometry):
        axes.annotate(
            name,
            shapely.get_coordinates(shapely.point_on_surface(shape))[0],
            ha="center",
            va="center",
            weight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _draw_scale_bar(axes: Axes) -> None:
    """Draw a scale bar of 1, 2 or 5 times a power of ten km, at most an eighth of the width."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    longest = (right - left) / 8
    power = 10 ** np.floor(np.log10(longest))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= longest)
    x, y = left + 0.02 * (right - left), bottom + 0.08 * (top - bottom)
    axes.plot([x, x + length], [y, y], color=INK, linewidth=2, solid_capstyle="butt")
    axes.annotate(f"{length / 1000:g} km", (x + length / 2, y), (0, 4), **_ABOVE)


def draw_config(config: Path, png: Path) -> None:
    """Draw the grid of a config, from its outlines and without a run.

    Raises DataError if the config or one of its outlines is not valid.
    """
    settings = read_config(config)
    with tempfile.TemporaryDirectory() as folder:
        outlines, tiles = Path(folder, "study_area.gpkg"), Path(folder, "tiles.geojson")
        write_study_area(study_area=outlines, **settings.study_area.model_dump())
        grid(study_area=outlines, tiles=tiles, tile_km=settings.tile_km)
        draw(outlines, tiles, png)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m jointseg.area.tile_map CONFIG PNG")
    try:
        draw_config(Path(sys.argv[1]), Path(sys.argv[2]))
    except DataError as error:
        sys.exit(str(error))
