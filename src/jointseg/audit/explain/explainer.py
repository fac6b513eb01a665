"""Provenance of one map pixel: inference windows, networks, composite, scenes, training chips and jobs."""

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

MAX_TILES = 12


@dataclass(frozen=True)
class Explanation:
    """Provenance of one pixel."""

    results: str
    pixel: Pixel
    map: str
    threshold: float  # score of the network from which a pixel is impervious
    windows: list[ContributingWindow]
    composite: CompositePixel
    checkpoints: list[Checkpoint]
    datasets: list[Dataset]
    reaches: list[Reach]  # Jilin-1 scenes and labels of the reaches of the pixel
    trained_in: list[str]  # reaches of the training data of the networks
    jobs: list[Job]  # the job of the map and all jobs that it depends on, nearest first
    disagreements: list[Disagreement]  # files that differ from their manifest
    notes: list[str]  # missing information, with the reason

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Explainer:
    """Explains pixels of one results folder; shared data is read once."""

    def __init__(self, results: Path) -> None:
        """Raises DataError if the folder has no manifests or no grid."""
        self.lineage = Lineage(results)
        self._grid = self.lineage.job("grid")
        self.tile_km = int(self._grid.record["params"]["tile_km"])
        self.tiles = self._read_tiles()  # properties by tile id: tile, epsg, reaches, cities
        self._maps: dict[tuple[int, str], TileMap] = {}

    def at(self, lon: float, lat: float, year: int) -> Explanation:
        """Explain the pixel at a location in degrees. Raises DataError if no tile contains it or the tile has no map of the year."""
        if not (-180 <= lon <= 180 and -90 < lat < 90):
            raise DataError(f"longitude {lon}, latitude {lat} is invalid; expected degrees, such as 118.7 and 32.0")
        epsg = grid.utm_epsg(lon, lat)
        x, y = grid.transformer("EPSG:4326", f"EPSG:{epsg}").transform(lon, lat)
        for name, properties in self.tiles.items():
            if properties["epsg"] == epsg:
                west, south, east, north = grid.parse_tile(name, self.tile_km).bounds
                if west <= x < east and south < y <= north:
                    return self.pixel(name, math.floor(north - y), math.floor(x - west), year)
        raise DataError(
            f"longitude {lon:g}, latitude {lat:g} is in no tile of {self.lineage.results}; {self._available_tiles()}"
        )

    def pixel(self, tile: str, row: int, col: int, year: int) -> Explanation:
        """Explain a pixel of the tile's 1 m grid. Raises DataError if the tile, pixel or map does not exist."""
        if tile not in self.tiles:
            raise DataError(f"{self.lineage.results} has no tile {tile}; {self._available_tiles()}")
        side = self.tile_km * 1000
        if not (0 <= row < side and 0 <= col < side):
            raise DataError(f"row {row}, col {col} is not in tile {tile}; expected 0 to {side - 1} for both")
        tile_map = self.map_of(tile, year)
        west, _, _, north = tile_map.tile.bounds
        x, y = west + col + 0.5, north - row - 0.5
        lon, lat = grid.transformer(tile_map.tile.crs, "EPSG:4326").transform(x, y)
        composite, disagreements, notes = composite_pixel(tile_map, row // RES_M, col // RES_M)
        pixel = self._pixel(tile_map, (row, col), (x, y), (lon, lat), composite)
        indexes = [index for index in tile_map.networks.indexes.values() if index.path.is_file()]
        reaches = [index.reach(name, lon, lat) for index in indexes for name in pixel.reaches or pixel.tile_reaches]
        return Explanation(
            results=self.lineage.results.as_posix(),
            pixel=pixel,
            map=tile_map.isa_path.as_posix(),
            threshold=tile_map.isa.record["facts"]["threshold"],
            windows=windows(tile_map, x, y),
            composite=composite,
            checkpoints=tile_map.networks.checkpoints,
            datasets=[index.around(lon, lat) for index in indexes],
            reaches=[reach for reach in reaches if reach is not None],
            trained_in=sorted({name for index in indexes for name in index.reaches}),
            jobs=tile_map.jobs,
            disagreements=sorted({*tile_map.disagreements, *disagreements}),
            notes=notes,
        )

    def map_of(self, tile: str, year: int) -> TileMap:
        """Return a map with its provenance. Raises DataError if it does not exist."""
        if (year, tile) not in self._maps:
            self._maps[year, tile] = load(self.lineage, grid.parse_tile(tile, self.tile_km), year)
        return self._maps[year, tile]

    def _pixel(
        self,
        tile_map: TileMap,
        position: tuple[int, int],
        centre: tuple[float, float],
        lonlat: tuple[float, float],
        composite: CompositePixel,
    ) -> Pixel:
        tile, properties = tile_map.tile, self.tiles[tile_map.tile.id]
        corner = (centre[0] - 0.5, centre[1] - 0.5, centre[0] + 0.5, centre[1] + 0.5)
        isa = int(raster_io.read(tile_map.isa_path, corner)[0][0, 0, 0])
        reaches, cities = (
            [name for name, outline in self._outlines[layer].items() if shapely.intersects_xy(outline, *lonlat)]
            for layer in ("reaches", "cities")
        )
        return Pixel(
            year=int(tile_map.isa.record["wildcards"]["year"]),
            tile=tile.id,
            epsg=tile.epsg,
            zone=f"{tile.zone:02d}{'N' if tile.north else 'S'}",
            x=centre[0],
            y=centre[1],
            lon=round(lonlat[0], 8),
            lat=round(lonlat[1], 8),
            row=position[0],
            col=position[1],
            row_10m=position[0] // RES_M,
            col_10m=position[1] // RES_M,
            isa=isa,
            value=VALUES.get(isa, f"invalid code {isa}"),
            nodata_reason=nodata_reason(tile, corner, composite) if isa == UNLABELLED else None,
            reaches=reaches,
            cities=cities,
            tile_reaches=properties["reaches"],
            tile_cities=properties["cities"],
        )

    @cached_property
    def _outlines(self) -> dict[str, dict[str, shapely.Geometry]]:
        """Outlines in degrees by name, for the layers `reaches` and `cities`."""
        path = next(parent.path for parent in self.lineage.parents(self._grid) if parent.artefact.name == "study_area")
        try:
            layers = {layer: gpd.read_file(path, layer=layer) for layer in ("reaches", "cities")}
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
            raise DataError(f"cannot read the study area {path} ({error}); restore it") from error
        return {layer: dict(zip(frame["name"], frame.geometry)) for layer, frame in layers.items()}

    def _read_tiles(self) -> dict[str, dict[str, Any]]:
        path = self.lineage.path(self._grid, self._grid.outputs[0].path)
        try:
            features = json.loads(path.read_text(encoding="utf-8"))["features"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"cannot read the tile list {path} ({error}); restore it") from error
        return {feature["properties"]["tile"]: feature["properties"] for feature in features}

    def _available_tiles(self) -> str:
        """Names and extent of the tiles, for error messages."""
        names = list(self.tiles)
        more = f" and {len(names) - MAX_TILES} more" if len(names) > MAX_TILES else ""
        boxes = []
        for name in names:
            tile = grid.parse_tile(name, self.tile_km)
            boxes.append(grid.transformer(tile.crs, "EPSG:4326").transform_bounds(*tile.bounds))
        west, south, east, north = zip(*boxes)
        return (
            f"available tiles: {', '.join(names[:MAX_TILES])}{more}, from {min(west):.4f} to {max(east):.4f} degrees "
            f"east and {min(south):.4f} to {max(north):.4f} degrees north"
        )
