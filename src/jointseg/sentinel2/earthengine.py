"""Search and read scenes of Google Earth Engine; compositing is local, the same code as for every source."""

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
from jointseg.sentinel2.earthengine_client import client, request_with_retries
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

# In the harmonized collections the offset of baseline 04.00 is already subtracted.
COLLECTIONS = {"L1C": "COPERNICUS/S2_HARMONIZED", "L2A": "COPERNICUS/S2_SR_HARMONIZED"}
# L1C has no scene classification, and its QA60 is empty from 2022-01-25 to 2024-02-28.
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
# computePixels returns at most 48 MB, uncompressed, and 32,768 pixels a side; MAX_BYTES leaves a margin.
MAX_BYTES, MAX_SIDE_PX = 40 << 20, 32_768
PIXEL_BYTES = 2
# Halo for resampling: the kernel extends three pixels beyond the one that contains a centre.
HALO_PX = 4

# Band names of Earth Engine: B4 is B04 of the products.
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
    """Yield the scenes of one year over a tile, for any season and cloud cover.

    L1C scenes without Cloud Score+, their only cloud mask, are omitted with a warning. Raises DataError if Earth Engine
    rejects the request, TransientError if no retry succeeds.
    """
    collection = (source.get("collections") or COLLECTIONS)[level]
    images = [json.loads(text) for text in _list_property(source, collection, tile, year, _properties_json, "row")]
    if level == "L1C":
        scored = set(_list_property(source, CLOUD_SCORE, tile, year, None, "system:index"))
        unscored = [image["system:index"] for image in images if image["system:index"] not in scored]
        if unscored:
            log.warning("omitting %s: without Cloud Score+ there is no cloud mask", ", ".join(unscored))
        images = [image for image in images if image["system:index"] in scored]
    outline = lonlat_box(tile.bounds, tile.crs)
    for image in images:
        yield _scene(image, collection, level, outline)


def _list_property(source: dict, collection: str, tile: Tile, year: int, function: Any, key: str) -> list[str]:
    """Return a property of the images of a year over a tile, after applying a server-side function to each."""
    ee = client(source)
    region = ee.Geometry.Rectangle(list(lonlat_box(tile.bounds, tile.crs).bounds), "EPSG:4326", False)
    images = ee.ImageCollection(collection).filterBounds(region).filterDate(f"{year}-01-01", f"{year + 1}-01-01")
    values = (images.map(function) if function else images).aggregate_array(key)

    def request() -> list[str]:
        try:
            response = values.getInfo()
        except TypeError as error:  # the client reads fields of a response that it could not parse
            raise RequestError("the response is not JSON") from error
        if not isinstance(response, list):
            raise RequestError(f"the response is not a list: {response!r:.80}")
        return response

    return request_with_retries(request, f"the scenes of {collection} in {year} over {tile.id}", source["project"])


def _properties_json(image: Any) -> Any:
    """Server-side: the properties and CRS of an image as JSON text, so that one response lists a year."""
    import ee

    image = ee.Image(image)
    properties = image.toDictionary(list(PROPERTIES)).set("epsg", image.select("B4").projection().crs())
    for name in ("system:index", "system:time_start"):
        properties = properties.set(name, image.get(name))
    return ee.Feature(None, {"row": ee.String.encodeJSON(properties)})


def _scene(image: dict, collection: str, level: str, outline: Any) -> Scene:
    index = image["system:index"]
    asset = f"{collection}/{index}"
    mask = "SCL" if level == "L2A" else "CS"
    azimuth, zenith = image.get("MEAN_SOLAR_AZIMUTH_ANGLE"), image.get("MEAN_SOLAR_ZENITH_ANGLE")
    return Scene(
        id=index,
        datetime=utc_text(datetime.fromtimestamp(image["system:time_start"] / 1000, UTC)),
        level=level,
        platform=image["SPACECRAFT_NAME"].lower(),
        mgrs=image["MGRS_TILE"],
        relative_orbit=int(image["SENSING_ORBIT_NUMBER"]),
        baseline=image["PROCESSING_BASELINE"],
        cloud_percent=image["CLOUDY_PIXEL_PERCENTAGE"],
        epsg=int(image["epsg"].removeprefix("EPSG:")),
        offset_dn=0,
        scale=SCALE,
        mask=mask,
        assets={key: Asset(f"{CLOUD_SCORE}/{index}" if key == "CS" else asset) for key in (*BAND_NAMES, mask)},
        sun=None if azimuth is None or zenith is None else (float(azimuth), float(zenith)),
        footprint=outline,  # the server has filtered by the bounds
    )


def split_window(shape: tuple[int, int], keys: int) -> list[tuple[slice, slice]]:
    """Split a read of `keys` bands into the windows of computePixels requests, by its size limits."""
    rows, cols = shape
    width = min(cols, MAX_SIDE_PX)
    height = max(1, min(rows, MAX_SIDE_PX, MAX_BYTES // (width * keys * PIXEL_BYTES)))
    return [
        (slice(top, min(top + height, rows)), slice(left, min(left + width, cols)))
        for top in range(0, rows, height)
        for left in range(0, cols, width)
    ]


class EarthEngineReader:
    """Reads windows of scenes by computePixels, on their own grid, and resamples them locally onto the tile's lattice.

    `graphs` are checksums of the expressions of each scene as canonical JSON.
    """

    workers = 8

    def __init__(self, source: dict, epsg: int) -> None:
        self.epsg = epsg
        self.graphs: dict[str, str] = {}
        self.warped: dict[str, str] = {}
        self._project = source.get("project", "")
        self._ee = client(source)

    def check(self, scene: Scene, keys: Sequence[str]) -> None:
        """Raise DataError if the scene lacks a band; record its expressions."""
        for key in keys:
            if key not in scene.assets:
                raise DataError(f"scene {scene.id} of the scene list has no {key}; delete the list to rebuild it")
        bands = [key for key in keys if key not in MASKS]
        groups = [group for group in (bands, *([key] for key in keys if key in MASKS)) if group]
        graphs = [self._ee.serializer.encode(self._image(scene, group)) for group in groups]
        self.graphs[scene.id] = hashlib.sha256(json.dumps(graphs, sort_keys=True).encode()).hexdigest()
        if scene.epsg != self.epsg:
            self.warped[scene.id] = f"EPSG:{scene.epsg}, {RES_M} m"

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray:
        """Return uint16 [keys, rows, columns] of bounds on the 10 m lattice, as `FileReader.read`.

        Keys are bands or one mask: "SCL", or "CS" (Cloud Score+ in percent plus 1). Raises DataError if Earth Engine
        rejects the request, TransientError if no retry succeeds.
        """
        if scene.epsg == self.epsg and shift_m == NO_SHIFT:
            return self._read_native(scene, keys, bounds)
        support = self._support(scene, bounds, shift_m)
        native = self._read_native(scene, keys, support)
        profile = {"count": len(keys), "height": native.shape[1], "width": native.shape[2], "dtype": "uint16"}
        lattice = Affine(RES_M, 0, support[0], 0, -RES_M, support[3])
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", crs=f"EPSG:{scene.epsg}", transform=lattice, **profile) as target:
                target.write(native)
            with memory.open() as source:
                layers = []
                for band, key in enumerate(keys, start=1):
                    read = read_nearest if key in MASKS else read_reflectance
                    layers.append(read(source, [band], self.epsg, bounds, shift_m))
                return np.concatenate(layers)

    def close(self, scene: Scene) -> None:
        """Do nothing: the reader holds no resources of a scene."""

    def _support(self, scene: Scene, bounds: Bounds, shift_m: Shift) -> Bounds:
        """Return the bounds, in the scene's CRS, from which `bounds` can be resampled."""
        x, y = shift_m
        moved = (bounds[0] - x, bounds[1] - y, bounds[2] - x, bounds[3] - y)
        if scene.epsg != self.epsg:
            moved = transformer(f"EPSG:{self.epsg}", f"EPSG:{scene.epsg}").transform_bounds(*moved)
        low, high = np.floor(np.array(moved) / RES_M), np.ceil(np.array(moved) / RES_M)
        west, south, east, north = (int(edge) * RES_M for edge in (*low[:2] - HALO_PX, *high[2:] + HALO_PX))
        return west, south, east, north

    def _read_native(self, scene: Scene, keys: Sequence[str], bounds: Bounds) -> np.ndarray:
        """Return uint16 [keys, rows, columns] on the scene's own grid, by as many requests as the limits require."""
        shape = bounds_shape(bounds)
        image = self._image(scene, keys)
        out = np.zeros((len(keys), *shape), dtype=np.uint16)
        for rows, cols in split_window(shape, len(keys)):
            corner = bounds[0] + cols.start * RES_M, bounds[3] - rows.start * RES_M
            size = rows.stop - rows.start, cols.stop - cols.start
            out[:, rows, cols] = self._request(scene, image, keys, corner, size)
        return out

    def _image(self, scene: Scene, keys: Sequence[str]) -> Any:
        """Return the expression of a scene's bands, uint16, 0 where there are no data."""
        image = self._ee.Image(scene.assets[keys[0]].href)
        if list(keys) == ["CS"]:  # 0..1 becomes 1..101 percent; 0 is nodata
            image = image.select(["cs_cdf"]).multiply(100).add(1).round()
        elif list(keys) == ["SCL"]:
            image = image.select(["SCL"])
        else:  # a pixel that is 0 after the offset is valid
            image = image.select([BAND_NAMES[key] for key in keys]).max(1)
        return image.rename(list(keys)).unmask(0, False).toUint16()

    def _request(
        self, scene: Scene, image: Any, keys: Sequence[str], corner: tuple[float, float], shape: tuple[int, int]
    ) -> np.ndarray:
        (height, width), (x, y) = shape, corner
        transform = {"scaleX": RES_M, "shearX": 0, "translateX": x, "shearY": 0, "scaleY": -RES_M, "translateY": y}
        dimensions = {"width": width, "height": height}
        grid = {"dimensions": dimensions, "affineTransform": transform, "crsCode": f"EPSG:{scene.epsg}"}
        parameters = {"expression": image, "fileFormat": "NPY", "bandIds": list(keys), "grid": grid}
        expected = np.dtype([(key, "<u2") for key in keys])

        def request() -> np.ndarray:
            # The client modifies the parameters: each try gets a copy.
            response = self._ee.data.computePixels(dict(parameters))
            try:
                array = np.load(io.BytesIO(response))
            except (ValueError, EOFError, OSError) as error:
                raise RequestError(f"the response of {len(response)} bytes is not a complete array: {error}") from error
            if array.shape != shape or array.dtype != expected:
                raise RequestError(
                    f"the response has {array.shape} pixels of {array.dtype}, expected {shape} of {expected}"
                )
            return array

        array = request_with_retries(request, f"{', '.join(keys)} of scene {scene.id}", self._project)
        return np.stack([array[key] for key in keys])
