"""One pixel of the map traced back to everything that made it: windows, networks, composite, scenes, chips, jobs."""

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio
import shapely

from jointseg.area import grid
from jointseg.audit.explain.chips import Dataset, Reach
from jointseg.audit.explain.jobs import Disagreement, Job
from jointseg.audit.explain.map import TileMap, load
from jointseg.audit.explain.networks import Checkpoint
from jointseg.audit.explain.pixel import (
    VALUES,
    CompositePixel,
    ContributingWindow,
    Pixel,
    composite_pixel,
    nodata_reason,
    windows,
)
from jointseg.audit.lineage import Lineage
from jointseg.dataset.contract import UNLABELLED
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.sentinel2.scene_windows import RES_M

SHOWN_TILES = 12


@dataclass(frozen=True)
class Explanation:
    """Everything about one pixel.

    Attributes:
        threshold: of the network's score, from which on a pixel is impervious.
        reaches: Jilin-1 scenes and labels of the pixel's reaches.
        trained_in: reaches that the networks were trained in.
        jobs: the job of the map, then every job behind it, nearest first.
        disagreements: where manifests and files are not as they were.
        notes: what could not be told, and why.
    """

    results: str
    pixel: Pixel
    map: str
    threshold: float
    windows: list[ContributingWindow]
    composite: CompositePixel
    checkpoints: list[Checkpoint]
    datasets: list[Dataset]
    reaches: list[Reach]
    trained_in: list[str]
    jobs: list[Job]
    disagreements: list[Disagreement]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Explainer:
    """Explains pixels of one results folder; what they share is read once.

    Attributes:
        lineage: its manifests.
        tile_km: side of its tiles.
        tiles: properties of the tiles by id: tile, epsg, reaches, cities.
    """

    def __init__(self, results: Path) -> None:
        """Raises DataError when the folder has no manifests, or no grid."""
        self.lineage = Lineage(results)
        self._grid = self.lineage.job("grid")
        self.tile_km = int(self._grid.record["params"]["tile_km"])
        self.tiles = self._tiles()
        self._maps: dict[tuple[int, str], TileMap] = {}

    def at(self, lon: float, lat: float, year: int) -> Explanation:
        """The pixel that holds a place. DataError when no tile does, or its tile is not mapped in the year."""
        if not (-180 <= lon <= 180 and -90 < lat < 90):
            raise DataError(f"longitude {lon}, latitude {lat} is not a place on Earth; give degrees, as 118.7 and 32.0")
        epsg = grid.utm_epsg(lon, lat)
        x, y = grid.transformer("EPSG:4326", f"EPSG:{epsg}").transform(lon, lat)
        for name, told in self.tiles.items():
            if told["epsg"] == epsg:
                west, south, east, north = grid.parse_tile(name, self.tile_km).bounds
                if west <= x < east and south < y <= north:
                    return self.pixel(name, math.floor(north - y), math.floor(x - west), year)
        raise DataError(
            f"longitude {lon:g}, latitude {lat:g} lies in no tile of {self.lineage.results}; {self._there()}"
        )

    def pixel(self, tile: str, row: int, col: int, year: int) -> Explanation:
        """A pixel of the tile's 1 m grid. DataError when it has no such tile, pixel or map."""
        if tile not in self.tiles:
            raise DataError(f"{self.lineage.results} has no tile {tile}; {self._there()}")
        side = self.tile_km * 1000
        if not (0 <= row < side and 0 <= col < side):
            raise DataError(f"row {row}, col {col} is not in tile {tile}; both go from 0 to {side - 1}")
        known = self.map_of(tile, year)
        west, _, _, north = known.place.bounds
        x, y = west + col + 0.5, north - row - 0.5
        lon, lat = grid.transformer(known.place.crs, "EPSG:4326").transform(x, y)
        composite, doubts, notes = composite_pixel(known, row // RES_M, col // RES_M)
        pixel = self._pixel(known, (row, col), (x, y), (lon, lat), composite)
        indexes = [index for index in known.networks.indexes.values() if index.path.is_file()]
        near = [index.reach(name, lon, lat) for index in indexes for name in pixel.reaches or pixel.tile_reaches]
        return Explanation(
            results=self.lineage.results.as_posix(),
            pixel=pixel,
            map=known.isa_path.as_posix(),
            threshold=known.isa.record["facts"]["threshold"],
            windows=windows(known, x, y),
            composite=composite,
            checkpoints=known.networks.checkpoints,
            datasets=[index.around(lon, lat) for index in indexes],
            reaches=[each for each in near if each is not None],
            trained_in=sorted({name for index in indexes for name in index.reaches}),
            jobs=known.jobs,
            disagreements=sorted({*known.disagreements, *doubts}),
            notes=notes,
        )

    def map_of(self, tile: str, year: int) -> TileMap:
        """The map of a tile and year with all that is behind it. DataError when there is none."""
        if (year, tile) not in self._maps:
            self._maps[year, tile] = load(self.lineage, grid.parse_tile(tile, self.tile_km), year)
        return self._maps[year, tile]

    def _pixel(
        self,
        known: TileMap,
        place: tuple[int, int],
        centre: tuple[float, float],
        lonlat: tuple[float, float],
        composite: CompositePixel,
    ) -> Pixel:
        tile, told = known.place, self.tiles[known.place.id]
        corner = (centre[0] - 0.5, centre[1] - 0.5, centre[0] + 0.5, centre[1] + 0.5)
        isa = int(raster_io.read(known.isa_path, corner)[0][0, 0, 0])
        return Pixel(
            year=int(known.isa.record["wildcards"]["year"]),
            tile=tile.id,
            epsg=tile.epsg,
            zone=f"{tile.zone:02d}{'N' if tile.north else 'S'}",
            x=centre[0],
            y=centre[1],
            lon=round(lonlat[0], 8),
            lat=round(lonlat[1], 8),
            row=place[0],
            col=place[1],
            row_10m=place[0] // RES_M,
            col_10m=place[1] // RES_M,
            isa=isa,
            value=VALUES.get(isa, f"no class of this map ({isa})"),
            nodata_reason=nodata_reason(tile, corner, composite) if isa == UNLABELLED else None,
            reaches=[
                name for name, shape in self._outlines["reaches"].items() if shapely.intersects_xy(shape, *lonlat)
            ],
            cities=[name for name, shape in self._outlines["cities"].items() if shapely.intersects_xy(shape, *lonlat)],
            tile_reaches=told["reaches"],
            tile_cities=told["cities"],
        )

    @cached_property
    def _outlines(self) -> dict[str, dict[str, shapely.Geometry]]:
        """Outlines by name, degrees, of the layers reaches and cities."""
        path = next(parent.path for parent in self.lineage.parents(self._grid) if parent.artefact.name == "study_area")
        try:
            layers = {layer: gpd.read_file(path, layer=layer) for layer in ("reaches", "cities")}
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
            raise DataError(f"{path}, the study area, cannot be read ({error}); restore it") from error
        return {layer: dict(zip(frame["name"], frame.geometry)) for layer, frame in layers.items()}

    def _tiles(self) -> dict[str, dict[str, Any]]:
        path = self.lineage.path(self._grid, self._grid.outputs[0].path)
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))["features"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}, the list of tiles, cannot be read ({error}); restore it") from error
        return {each["properties"]["tile"]: each["properties"] for each in listed}

    def _there(self) -> str:
        """Which tiles there are, and what they span, for errors."""
        names = list(self.tiles)
        more = f" and {len(names) - SHOWN_TILES} more" if len(names) > SHOWN_TILES else ""
        boxes = []
        for name in names:
            place = grid.parse_tile(name, self.tile_km)
            boxes.append(grid.transformer(place.crs, "EPSG:4326").transform_bounds(*place.bounds))
        west, south, east, north = zip(*boxes)
        return (
            f"its tiles are {', '.join(names[:SHOWN_TILES])}{more}, from {min(west):.4f} to {max(east):.4f} degrees "
            f"east and {min(south):.4f} to {max(north):.4f} north"
        )
