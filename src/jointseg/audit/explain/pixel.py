"""One pixel of a map: the inference windows that contain it, and the composite pixel with its observations."""

import math
from dataclasses import dataclass
from pathlib import Path

from affine import Affine

from jointseg.area import grid
from jointseg.area.grid import Tile
from jointseg.audit.explain.jobs import Disagreement
from jointseg.audit.explain.map import TileMap
from jointseg.audit.explain.observations import SceneObservation
from jointseg.dataset.contract import UNLABELLED
from jointseg.inference import lattice
from jointseg.raster import io as raster_io
from jointseg.sentinel2.scene_windows import RES_M

VALUES = {0: "not impervious", 1: "impervious", UNLABELLED: "nodata"}


@dataclass(frozen=True)
class Pixel:
    """A pixel of the 1 m map."""

    year: int
    tile: str
    epsg: int
    zone: str  # UTM zone and hemisphere, such as "50N"
    # x, y: centre in the UTM zone, metres
    x: float
    y: float
    # lon, lat: centre, degrees
    lon: float
    lat: float
    # row, col: position on the tile's 1 m grid, from 0 at the north-western corner
    row: int
    col: int
    # row_10m, col_10m: position of the composite pixel that contains it
    row_10m: int
    col_10m: int
    isa: int  # 0, 1 or 255
    value: str
    nodata_reason: str | None  # why it is nodata, None if it is valid
    # reaches, cities: reaches and cities that contain it
    reaches: list[str]
    cities: list[str]
    # tile_reaches, tile_cities: reaches and cities that its tile intersects
    tile_reaches: list[str]
    tile_cities: list[str]

    @property
    def degrees(self) -> str:
        """Centre as text, such as "118.7022194 E, 31.9963725 N"."""
        sides = ("W" if self.lon < 0 else "E", "S" if self.lat < 0 else "N")
        return f"{abs(self.lon):.7f} {sides[0]}, {abs(self.lat):.7f} {sides[1]}"


@dataclass(frozen=True)
class ContributingWindow:
    """A window of the inference lattice that contains the pixel."""

    # row, col: number of strides north and east of the origin of the zone
    row: int
    col: int
    bounds: tuple[int, int, int, int]  # (min x, min y, max x, max y), metres
    weight: float  # its weight in the pixel's score; the weights of all windows add up to 1
    tiles: list[str]  # tiles whose composites the window reads


@dataclass(frozen=True)
class Reference:
    """The reference composite of the normalisation and its values at the pixel."""

    path: str
    sha256: str
    producer: str | None
    values: dict[str, int]


@dataclass(frozen=True)
class CompositePixel:
    """The 10 m composite pixel that was the input of the networks."""

    job: str
    path: str
    sha256: str
    method: str
    min_clear_observations: int
    scl_mask_classes: list[int]
    mask_dilation_m: float
    values: dict[str, int]  # reflectance x 10000 by band, 0 for nodata
    clear: int  # number of clear observations in the composite, 0 for nodata
    selected: str | None  # id of the scene that the medoid selected
    reproduced: bool | None  # whether the scenes give the same values; None if they cannot be read
    read_error: str | None
    reference: Reference | None  # None without normalisation
    observations: list[SceneObservation]


def composite_pixel(tile_map: TileMap, row: int, col: int) -> tuple[CompositePixel, list[Disagreement], list[str]]:
    """Return a pixel of the composite, disagreements about it, and notes on missing information."""
    west, _, _, north = tile_map.tile.bounds
    bounds = (west + col * RES_M, north - (row + 1) * RES_M, west + (col + 1) * RES_M, north - row * RES_M)
    params, scenes, composite = tile_map.scenes.params, tile_map.scenes, tile_map.composite
    stored = _values(tile_map.composite_path, bounds)
    selected = stored.get("scene")
    pixels = scenes.read(bounds)
    reproduced, disagreements, notes = None, [], []
    if pixels is not None:
        values = scenes.composite(pixels)[:, 0, 0].tolist()
        reproduced = values == list(stored.values())
        if not reproduced:
            detail = f"its scenes give {values} at this pixel, the composite has {list(stored.values())}"
            disagreements.append(Disagreement(composite.name, tile_map.composite_path.as_posix(), detail))
    elif scenes.damaged:
        disagreements.append(Disagreement(composite.name, "Sentinel-2 scenes", scenes.read_error or ""))
    else:
        notes.append(f"the scenes cannot be read, so their observations are missing: {scenes.read_error}")
    if any(artefact.name == "merged" for artefact in tile_map.isa.inputs):
        notes.append("the network also used the best dates merged to 5 m, which are not explained per pixel")
    pixel = CompositePixel(
        job=composite.name,
        path=tile_map.composite_path.as_posix(),
        sha256=composite.outputs[0].sha256,
        **{name: params[name] for name in ("method", "min_clear_observations", "scl_mask_classes", "mask_dilation_m")},
        values={name: stored[name] for name in params["bands"]},
        clear=stored["clear"],
        selected=scenes.scenes[selected - 1].id if selected else None,
        reproduced=reproduced,
        read_error=scenes.read_error,
        reference=_reference(tile_map, bounds),
        observations=scenes.observations(pixels, selected),
    )
    return pixel, disagreements, notes


def windows(tile_map: TileMap, x: float, y: float) -> list[ContributingWindow]:
    """Return the windows that contain a pixel, given by its centre, with their blending weights."""
    params = tile_map.isa.record["params"]
    weights = lattice.blend_weights(params["window_m"], params["stride_m"])
    west, south = math.floor(x), math.floor(y)
    found = []
    for window in lattice.windows((west, south, west + 1, south + 1), params["window_m"], params["stride_m"]):
        minx, miny, maxx, maxy = window.bounds
        tiles = []
        for name in tile_map.composites:
            left, bottom, right, top = grid.parse_tile(name, tile_map.tile.size_km).bounds
            if left < maxx and minx < right and bottom < maxy and miny < top:
                tiles.append(name)
        weight = weights[maxy - 1 - south] * weights[west - minx]
        found.append(ContributingWindow(window.row, window.col, window.bounds, float(weight), sorted(tiles)))
    return found


def nodata_reason(tile: Tile, corner: tuple[float, float, float, float], composite: CompositePixel) -> str:
    """Return why a pixel with bounds `corner` is nodata."""
    if not grid.own_zone_mask(tile.epsg, Affine(1, 0, corner[0], 0, -1, corner[3]), (1, 1))[0, 0]:
        return f"it is outside UTM zone {tile.zone:02d}; a tile of the neighbouring zone maps it"
    if composite.clear:
        return "reason not recorded in the manifests"
    count, minimum = len(composite.observations), composite.min_clear_observations
    if minimum <= 1:
        return f"none of the {count} observations is clear"
    return f"fewer than {minimum} of the {count} observations are clear"


def _values(path: Path, bounds: tuple[float, float, float, float]) -> dict[str, int]:
    """Values of all bands of a composite, including `clear` and `scene`, at one 10 m pixel."""
    with raster_io.open_raster(path) as source:
        names = [name or "" for name in source.descriptions]
    return {name: int(value) for name, value in zip(names, raster_io.read(path, bounds)[0][:, 0, 0])}


def _reference(tile_map: TileMap, bounds: tuple[float, float, float, float]) -> Reference | None:
    if (parent := tile_map.reference) is None:
        return None
    values = _values(parent.path, bounds) if parent.path.is_file() else {}
    bands = {name: value for name, value in values.items() if name in tile_map.scenes.params["bands"]}
    producer = parent.producer.name if parent.producer else None
    return Reference(parent.path.as_posix(), parent.artefact.sha256, producer, bands)
