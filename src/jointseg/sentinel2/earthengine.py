"""Scenes of Google Earth Engine, read scene by scene so that compositing stays the same code for every source."""

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from affine import Affine
from rasterio.io import MemoryFile

from jointseg.area.grid import Tile, transformer
from jointseg.runtime.errors import DataError
from jointseg.sentinel2.earthengine_client import client, request
from jointseg.sentinel2.retry import RequestError
from jointseg.sentinel2.scene import SCALE, Asset, Scene, lonlat_box, utc_text
from jointseg.sentinel2.scene_windows import (
    NO_SHIFT,
    RES_M,
    Bounds,
    Shift,
    bounds_shape,
    read_nearest,
    read_reflectance,
)

log = logging.getLogger(__name__)

# The harmonized collections have removed the offset of baseline 04.00 already.
COLLECTIONS = {"L1C": "COPERNICUS/S2_HARMONIZED", "L2A": "COPERNICUS/S2_SR_HARMONIZED"}
# L1C has no scene classification, and its QA60 is empty from 2022-01-25 to 2024-02-28.
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
# computePixels answers at most 48 MB, uncompressed, on at most 32,768 pixels a side; some room is left.
MAX_BYTES, MAX_SIDE_PX = 40 << 20, 32_768
# Around what is warped or shifted: the kernel reaches three pixels beyond the one that a centre falls into.
HALO_PX = 4

# Earth Engine writes B4 where the products write B04.
BAND_NAMES = {f"B{number:02d}": f"B{number}" for number in range(1, 13)} | {"B8A": "B8A"}
MASKS = ("SCL", "CS")
PROPERTIES = (
    "SPACECRAFT_NAME",
    "MGRS_TILE",
    "SENSING_ORBIT_NUMBER",
    "PROCESSING_BASELINE",
    "CLOUDY_PIXEL_PERCENTAGE",
    "MEAN_SOLAR_AZIMUTH_ANGLE",
    "MEAN_SOLAR_ZENITH_ANGLE",
)


def search(source: dict, tile: Tile, year: int, level: str) -> Iterator[Scene]:
    """The scenes of one year over a tile; the caller picks by season and cloud.

    L1C scenes without a Cloud Score+ are left out: their clouds are not known.

    Raises:
        DataError: Earth Engine refuses, or does not answer after retries of 429 and 5xx.
    """
    name = (source.get("collections") or COLLECTIONS)[level]
    found = [json.loads(text) for text in _listed(source, name, tile, year, _row, "row")]
    if level == "L1C":
        scored = set(_listed(source, CLOUD_SCORE, tile, year, None, "system:index"))
        unscored = [told["system:index"] for told in found if told["system:index"] not in scored]
        if unscored:
            log.warning("%s has no Cloud Score+ and is left out: their clouds are not known", ", ".join(unscored))
        found = [told for told in found if told["system:index"] in scored]
    outline = lonlat_box(tile.bounds, tile.crs)
    for told in found:
        yield _scene(told, name, level, outline)


def _listed(source: dict, name: str, tile: Tile, year: int, change: Any, key: str) -> list[str]:
    """A property of the images of a year over a tile, each changed first where that is asked for."""
    ee = client(source)
    region = ee.Geometry.Rectangle(list(lonlat_box(tile.bounds, tile.crs).bounds), "EPSG:4326", False)
    found = ee.ImageCollection(name).filterBounds(region).filterDate(f"{year}-01-01", f"{year + 1}-01-01")
    wanted = (found.map(change) if change else found).aggregate_array(key)

    def once() -> list[str]:
        try:
            answer = wanted.getInfo()
        except TypeError as error:  # the client looks into an answer that it could not parse
            raise RequestError("an answer that is no JSON") from error
        if not isinstance(answer, list):
            raise RequestError(f"an answer that is no list: {answer!r:.80}")
        return answer

    return request(once, f"the scenes of {name} in {year} over {tile.id}", source["project"])


def _row(image: Any) -> Any:
    """An image's properties and CRS as JSON text: one answer lists a year."""
    import ee

    image = ee.Image(image)
    told = image.toDictionary(list(PROPERTIES)).set("epsg", image.select("B4").projection().crs())
    told = told.set("system:index", image.get("system:index")).set("system:time_start", image.get("system:time_start"))
    return ee.Feature(None, {"row": ee.String.encodeJSON(told)})


def _scene(told: dict, collection: str, level: str, outline: Any) -> Scene:
    index = told["system:index"]
    asset = f"{collection}/{index}"
    mask = "SCL" if level == "L2A" else "CS"
    azimuth, zenith = told.get("MEAN_SOLAR_AZIMUTH_ANGLE"), told.get("MEAN_SOLAR_ZENITH_ANGLE")
    return Scene(
        id=index,
        datetime=utc_text(datetime.fromtimestamp(told["system:time_start"] / 1000, UTC)),
        level=level,
        platform=told["SPACECRAFT_NAME"].lower(),
        mgrs=told["MGRS_TILE"],
        relative_orbit=int(told["SENSING_ORBIT_NUMBER"]),
        baseline=told["PROCESSING_BASELINE"],
        cloud_percent=told["CLOUDY_PIXEL_PERCENTAGE"],
        epsg=int(told["epsg"].removeprefix("EPSG:")),
        offset_dn=0,
        scale=SCALE,
        mask=mask,
        assets={key: Asset(f"{CLOUD_SCORE}/{index}" if key == "CS" else asset) for key in (*BAND_NAMES, mask)},
        sun=None if azimuth is None or zenith is None else (float(azimuth), float(zenith)),
        footprint=outline,  # the server has filtered by the bounds
    )


class EarthEngineReader:
    """Reads windows of scenes by computePixels: their own pixels, brought onto the tile's lattice on this side.

    Attributes:
        graphs: by scene id, sha256 of the expressions that are submitted for it, as canonical JSON.
        warped: by scene id, from where it has to be warped.
        workers: threads that it may be asked by.
    """

    workers = 8

    def __init__(self, source: dict, epsg: int) -> None:
        self.epsg = epsg
        self.graphs: dict[str, str] = {}
        self.warped: dict[str, str] = {}
        self._project = source.get("project", "")
        self._ee = client(source)

    def check(self, scene: Scene, keys: Sequence[str]) -> None:
        """DataError when the list's scene lacks a band; notes what will be submitted for it."""
        for key in keys:
            if key not in scene.assets:
                raise DataError(f"scene {scene.id} of the list has no {key}; delete the list so that it is made again")
        bands = [key for key in keys if key not in MASKS]
        groups = [group for group in (bands, *([key] for key in keys if key in MASKS)) if group]
        graphs = [self._ee.serializer.encode(self._image(scene, group)) for group in groups]
        self.graphs[scene.id] = hashlib.sha256(json.dumps(graphs, sort_keys=True).encode()).hexdigest()
        if scene.epsg != self.epsg:
            self.warped[scene.id] = f"EPSG:{scene.epsg}, {RES_M} m"

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray:
        """uint16 [keys, rows, columns] of bounds on the 10 m lattice; 0 outside the scene.

        Args:
            scene: of the list.
            keys: bands, or one mask: "SCL", or "CS" (Cloud Score+ in percent plus 1).
            bounds: multiples of 10 m.
            shift_m: added to the scene's coordinates: (x, y) gets what the scene has at (x, y) - shift.

        Raises:
            DataError: Earth Engine refuses, or gives no whole answer after the tries.
        """
        if scene.epsg == self.epsg and shift_m == NO_SHIFT:
            return self._native(scene, keys, bounds)
        around = self._around(scene, bounds, shift_m)
        native = self._native(scene, keys, around)
        profile = {"count": len(keys), "height": native.shape[1], "width": native.shape[2], "dtype": "uint16"}
        lattice = Affine(RES_M, 0, around[0], 0, -RES_M, around[3])
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", crs=f"EPSG:{scene.epsg}", transform=lattice, **profile) as to:
                to.write(native)
            with memory.open() as own:
                return np.concatenate(
                    [
                        read_nearest(own, [band], self.epsg, bounds, shift_m)
                        if key in MASKS
                        else read_reflectance(own, [band], self.epsg, bounds, shift_m)
                        for band, key in enumerate(keys, start=1)
                    ]
                )

    def close(self, scene: Scene) -> None:
        """Nothing of a scene is held."""

    def _around(self, scene: Scene, bounds: Bounds, shift_m: Shift) -> Bounds:
        """What the scene is asked for, in its own CRS, so that bounds can be resampled from it."""
        x, y = shift_m
        moved = (bounds[0] - x, bounds[1] - y, bounds[2] - x, bounds[3] - y)
        if scene.epsg != self.epsg:
            moved = transformer(f"EPSG:{self.epsg}", f"EPSG:{scene.epsg}").transform_bounds(*moved)
        low, high = np.floor(np.array(moved) / RES_M), np.ceil(np.array(moved) / RES_M)
        west, south, east, north = (int(edge) * RES_M for edge in (*low[:2] - HALO_PX, *high[2:] + HALO_PX))
        return west, south, east, north

    def _native(self, scene: Scene, keys: Sequence[str], bounds: Bounds) -> np.ndarray:
        """uint16 [keys, rows, columns] of the scene's own lattice, by as many requests as their limits ask for."""
        rows, cols = bounds_shape(bounds)
        image = self._image(scene, keys)
        out = np.zeros((len(keys), rows, cols), dtype=np.uint16)
        width = min(cols, MAX_SIDE_PX)
        height = max(1, min(rows, MAX_SIDE_PX, MAX_BYTES // (width * len(keys) * 2)))
        for top in range(0, rows, height):
            for left in range(0, cols, width):
                part = out[:, top : top + height, left : left + width]
                corner = bounds[0] + left * RES_M, bounds[3] - top * RES_M
                part[:] = self._window(scene, image, keys, corner, part.shape[1:])
        return out

    def _image(self, scene: Scene, keys: Sequence[str]) -> Any:
        """The expression of a scene's bands, uint16, 0 where there are no data."""
        image = self._ee.Image(scene.assets[keys[0]].href)
        if list(keys) == ["CS"]:  # 0..1 becomes 1..101 percent, so that 0 is left to no data
            image = image.select(["cs_cdf"]).multiply(100).add(1).round()
        elif list(keys) == ["SCL"]:
            image = image.select(["SCL"])
        else:  # what is black once the offset is gone was seen nevertheless
            image = image.select([BAND_NAMES[key] for key in keys]).max(1)
        return image.rename(list(keys)).unmask(0, False).toUint16()

    def _window(
        self, scene: Scene, image: Any, keys: Sequence[str], corner: tuple[float, float], shape: tuple[int, ...]
    ) -> np.ndarray:
        sent = {
            "expression": image,
            "fileFormat": "NPY",
            "bandIds": list(keys),
            "grid": {
                "dimensions": {"width": shape[1], "height": shape[0]},
                "affineTransform": {
                    "scaleX": RES_M,
                    "shearX": 0,
                    "translateX": corner[0],
                    "shearY": 0,
                    "scaleY": -RES_M,
                    "translateY": corner[1],
                },
                "crsCode": f"EPSG:{scene.epsg}",
            },
        }
        expected = np.dtype([(key, "<u2") for key in keys])

        def once() -> np.ndarray:
            # The client changes the request that it is given: each try gets its own.
            answer = self._ee.data.computePixels(dict(sent))
            try:
                array = np.load(io.BytesIO(answer))
            except (ValueError, EOFError, OSError) as error:
                raise RequestError(f"{len(answer)} bytes that are no whole array: {error}") from error
            if array.shape != tuple(shape) or array.dtype != expected:
                raise RequestError(
                    f"{array.shape} pixels of {array.dtype}, {tuple(shape)} of {expected} were asked for"
                )
            return array

        array = request(once, f"{', '.join(keys)} of scene {scene.id}", self._project)
        return np.stack([array[key] for key in keys])
