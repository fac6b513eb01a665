"""What one pixel of the map rests on: the windows that hold it, and the composite's pixel with its scenes."""

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

VALUES = {0: "not impervious", 1: "impervious", UNLABELLED: "unknown"}


@dataclass(frozen=True)
class Pixel:
    """A pixel of the 1 m map.

    Attributes:
        year, tile: of the map.
        zone: UTM zone and hemisphere, such as "50N".
        x, y: its centre in the UTM zone, metres.
        lon, lat: its centre, degrees.
        row, col: on the tile's 1 m grid, from the north-western corner, from 0.
        row_10m, col_10m: of the composite's pixel that holds it.
        isa: 0, 1 or 255.
        value: that in words.
        nodata_reason: why it is unknown, None where it is known.
        reaches, cities: that it lies in.
        tile_reaches, tile_cities: that its tile touches.
    """

    year: int
    tile: str
    epsg: int
    zone: str
    x: float
    y: float
    lon: float
    lat: float
    row: int
    col: int
    row_10m: int
    col_10m: int
    isa: int
    value: str
    nodata_reason: str | None
    reaches: list[str]
    cities: list[str]
    tile_reaches: list[str]
    tile_cities: list[str]

    @property
    def degrees(self) -> str:
        """Its centre, such as "118.7022194 E, 31.9963725 N"."""
        sides = ("W" if self.lon < 0 else "E", "S" if self.lat < 0 else "N")
        return f"{abs(self.lon):.7f} {sides[0]}, {abs(self.lat):.7f} {sides[1]}"


@dataclass(frozen=True)
class ContributingWindow:
    """A window of the inference lattice that holds the pixel.

    Attributes:
        row, col: strides north and east of the zone's origin.
        bounds: (min x, min y, max x, max y), metres.
        weight: its share of the pixel's score; the shares of all windows add up to 1.
        tiles: whose composites the window reads.
    """

    row: int
    col: int
    bounds: tuple[int, int, int, int]
    weight: float
    tiles: list[str]


@dataclass(frozen=True)
class Reference:
    """The composite that another year's scenes were brought to, and its values at the pixel."""

    path: str
    sha256: str
    producer: str | None
    values: dict[str, int]


@dataclass(frozen=True)
class CompositePixel:
    """The 10 m pixel that the networks saw.

    Attributes:
        values: reflectance x 10000 by band, 0 where unknown.
        clear: number of clear looks as the composite tells it, 0 where unknown.
        taken: the scene that the medoid took.
        recomputed: whether the scenes, read again, give these very values; None where they cannot be read.
        unread: why not.
        reference: for a normalised year.
        looks: the scenes of the frozen list, by time.
    """

    job: str
    path: str
    sha256: str
    method: str
    min_clear_observations: int
    scl_mask_classes: list[int]
    mask_dilation_m: float
    values: dict[str, int]
    clear: int
    selected: str | None
    reproduced: bool | None
    read_error: str | None
    reference: Reference | None
    observations: list[SceneObservation]


def composite_pixel(known: TileMap, row: int, col: int) -> tuple[CompositePixel, list[Disagreement], list[str]]:
    """The composite's pixel, what does not agree about it, and what could not be told."""
    west, _, _, north = known.place.bounds
    bounds = (west + col * RES_M, north - (row + 1) * RES_M, west + (col + 1) * RES_M, north - row * RES_M)
    params, scenes = known.scenes.params, known.scenes
    stored = _values(known.composite_path, bounds)
    taken = stored.get("scene")
    seen = scenes.see(bounds)
    recomputed, doubts, notes = None, [], []
    if seen is not None:
        again = scenes.combined(seen)[:, 0, 0].tolist()
        recomputed = again == list(stored.values())
        if not recomputed:
            detail = f"its scenes, read again, give {again} at this pixel, not {list(stored.values())}"
            doubts.append(Disagreement(known.composite.name, known.composite_path.as_posix(), detail))
    elif scenes.damaged:
        doubts.append(Disagreement(known.composite.name, "Sentinel-2 scenes", scenes.read_error or ""))
    else:
        notes.append(f"the scenes cannot be read any more, only their number is told: {scenes.read_error}")
    if any(each.name == "merged" for each in known.isa.inputs):
        notes.append("the network saw the best dates merged to 5 m besides, which are not told by pixel")
    made = CompositePixel(
        job=known.composite.name,
        path=known.composite_path.as_posix(),
        sha256=known.composite.outputs[0].sha256,
        method=params["method"],
        min_clear_observations=params["min_clear_observations"],
        scl_mask_classes=params["scl_mask_classes"],
        mask_dilation_m=params["mask_dilation_m"],
        values={name: stored[name] for name in params["bands"]},
        clear=stored["clear"],
        selected=scenes.listed[taken - 1].id if taken else None,
        reproduced=recomputed,
        read_error=scenes.read_error,
        reference=_reference(known, bounds),
        observations=scenes.observations(seen, taken),
    )
    return made, doubts, notes


def windows(known: TileMap, x: float, y: float) -> list[ContributingWindow]:
    """The windows that hold a pixel, given by its centre, with the weights by which they are blended."""
    params = known.isa.record["params"]
    share = lattice.blend_weights(params["window_m"], params["stride_m"])
    west, south = math.floor(x), math.floor(y)
    found = []
    for window in lattice.windows((west, south, west + 1, south + 1), params["window_m"], params["stride_m"]):
        minx, miny, maxx, maxy = window.bounds
        read = []
        for name in known.composites:
            left, bottom, right, top = grid.parse_tile(name, known.place.size_km).bounds
            if left < maxx and minx < right and bottom < maxy and miny < top:
                read.append(name)
        weight = share[maxy - 1 - south] * share[west - minx]
        found.append(ContributingWindow(window.row, window.col, window.bounds, float(weight), sorted(read)))
    return found


def nodata_reason(tile: Tile, corner: tuple[float, float, float, float], composite: CompositePixel) -> str:
    if not grid.own_zone_mask(tile.epsg, Affine(1, 0, corner[0], 0, -1, corner[3]), (1, 1))[0, 0]:
        return f"it belongs to the UTM zone beside {tile.zone:02d}, whose tiles map it"
    if composite.clear:
        return "nothing that the manifests tell"
    return (
        f"none of the {len(composite.observations)} scenes was clear there"
        if composite.min_clear_observations <= 1
        else (
            f"fewer than {composite.min_clear_observations} of the {len(composite.observations)} scenes were clear there"
        )
    )


def _values(path: Path, bounds: tuple[float, float, float, float]) -> dict[str, int]:
    """The values of a composite's bands, `clear` and `scene` among them, at one 10 m pixel."""
    with raster_io.open_raster(path) as source:
        names = [name or "" for name in source.descriptions]
    return {name: int(value) for name, value in zip(names, raster_io.read(path, bounds)[0][:, 0, 0])}


def _reference(known: TileMap, bounds: tuple[float, float, float, float]) -> Reference | None:
    if (parent := known.reference) is None:
        return None
    values = _values(parent.path, bounds) if parent.path.is_file() else {}
    bands = {name: value for name, value in values.items() if name in known.scenes.params["bands"]}
    maker = parent.producer.name if parent.producer else None
    return Reference(parent.path.as_posix(), parent.artefact.sha256, maker, bands)
