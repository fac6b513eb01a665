"""The scenes of an archive as images of Earth Engine's harmonized collections.

The archive is a folder of STAC items and their rasters, tiny or of a synthetic scene. As in Earth Engine, offsets are
subtracted and nodata is masked.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from jointseg.sentinel2.items import scene_from_item
from jointseg.sentinel2.scene import Scene

LEVELS = {"COPERNICUS/S2_HARMONIZED": "L1C", "COPERNICUS/S2_SR_HARMONIZED": "L2A"}
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
# Cloud Score+ of pixels that the product's mask classifies as opaque cloud, cirrus, neither.
SCORES = (0.05, 0.3, 0.97)


class GraphError(Exception):
    """An error that Earth Engine reports with HTTP status 400."""


@dataclass(frozen=True)
class Grid:
    """A grid of pixels of size (dx, dy) from the corner (x, y)."""

    crs: str
    x: float
    y: float
    dx: float
    dy: float
    rows: int
    cols: int


@dataclass(frozen=True)
class Band:
    """A band; `pixels` returns (values float64, valid bool) on a grid."""

    name: str
    kind: str
    pixels: Callable[[Grid], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Image:
    bands: list[Band]
    properties: dict[str, Any]
    crs: str | None = None
    footprint: Any = None

    def map_bands(self, change: Callable[[Band], Band]) -> "Image":
        return replace(self, bands=[change(band) for band in self.bands])


class Archive:
    """The scenes of a folder as images of Earth Engine's collections."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.items: dict[tuple[str, str], tuple[dict, Scene]] = {}
        for path in sorted(root.rglob("*.json")):
            content = json.loads(path.read_text())
            if content.get("type") == "Feature":
                scene = scene_from_item(content, path.parent.relative_to(root).as_posix())
                self.items[scene.level, scene.id] = (content, scene)

    def collection(self, name: str) -> list[Image]:
        if name == CLOUD_SCORE:
            return [
                self.image(f"{name}/{index}")
                for level, index in self.items
                if level == "L1C" and self._has_score(index)
            ]
        if name not in LEVELS:
            raise GraphError(_not_found("ImageCollection", name))
        return [self.image(f"{name}/{index}") for level, index in self.items if level == LEVELS[name]]

    def image(self, name: str) -> Image:
        collection, _, index = name.rpartition("/")
        entry = self.items.get(("L1C" if collection == CLOUD_SCORE else LEVELS.get(collection, ""), index))
        if entry is None or (collection == CLOUD_SCORE and not self._has_score(index)):
            raise GraphError(_not_found("Image", name))
        content, scene = entry
        if collection == CLOUD_SCORE:
            bands = [Band("cs_cdf", "float64", lambda grid: self._score(scene, grid))]
        else:
            bands = [self._band(scene, key) for key in scene.assets if key.startswith("B") or key == "SCL"]
        return Image(bands, _properties(content, scene), f"EPSG:{scene.epsg}", scene.footprint)

    def _band(self, scene: Scene, key: str) -> Band:
        def pixels(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
            dn = self._sample(scene, self.root / scene.assets[key].href, grid)[0]
            return np.maximum(dn + (0 if key == "SCL" else scene.offset_dn), 0.0), dn > 0

        name = f"{key[0]}{int(key[1:])}" if key[1:].isdigit() else key
        return Band(name, "uint8" if key == "SCL" else "uint16", pixels)

    def _has_score(self, index: str) -> bool:
        _, scene = self.items["L1C", index]
        return "CLASSI" in scene.assets or self._score_file(scene).exists()

    def _score_file(self, scene: Scene) -> Path:
        return (self.root / scene.assets["B04"].href).with_name("CS.tif")

    def _score(self, scene: Scene, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Return Cloud Score+ from a file of percent plus 1 (0: nodata), or from the product's mask."""
        if self._score_file(scene).exists():
            percent = self._sample(scene, self._score_file(scene), grid)[0]
            return (percent - 1) / 100, percent > 0
        opaque, cirrus = self._sample(scene, self.root / scene.assets["CLASSI"].href, grid)[:2] > 0
        return np.select([opaque, cirrus], SCORES[:2], SCORES[2]), np.ones(opaque.shape, bool)

    def _sample(self, scene: Scene, path: Path, grid: Grid) -> np.ndarray:
        """Return the nearest pixels on the grid, float64 [bands, rows, columns]; 0 outside."""
        if grid.crs != f"EPSG:{scene.epsg}":
            raise GraphError(
                f"the grid is in {grid.crs}, the scene in EPSG:{scene.epsg}: reprojection is not supported"
            )
        with rasterio.open(path) as source:
            array, t = source.read().astype(float), source.transform
        col = np.floor((grid.x + grid.dx * (np.arange(grid.cols) + 0.5) - t.c) / t.a).astype(int)
        row = np.floor((grid.y + grid.dy * (np.arange(grid.rows) + 0.5) - t.f) / t.e).astype(int)
        out = np.zeros((len(array), grid.rows, grid.cols))
        cols, rows = (col >= 0) & (col < array.shape[2]), (row >= 0) & (row < array.shape[1])
        out[:, np.ix_(rows, cols)[0], np.ix_(rows, cols)[1]] = array[:, row[rows][:, None], col[cols][None, :]]
        return out


def _not_found(kind: str, name: str) -> str:
    return f"{kind}.load: {kind} asset '{name}' not found (does not exist or caller does not have access)."


def _properties(content: dict, scene: Scene) -> dict[str, Any]:
    properties = {
        "system:index": scene.id,
        "system:time_start": int(datetime.fromisoformat(content["properties"]["datetime"]).timestamp() * 1000),
        "SPACECRAFT_NAME": (scene.platform or "").title(),
        "MGRS_TILE": scene.mgrs or scene.id[-5:],
        "SENSING_ORBIT_NUMBER": scene.relative_orbit or 132,
        "PROCESSING_BASELINE": scene.baseline,
        "CLOUDY_PIXEL_PERCENTAGE": scene.cloud_percent,
    }
    if scene.sun:
        properties |= {"MEAN_SOLAR_AZIMUTH_ANGLE": scene.sun[0], "MEAN_SOLAR_ZENITH_ANGLE": scene.sun[1]}
    return properties
