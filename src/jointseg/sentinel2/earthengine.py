"""Scenes of Google Earth Engine, read scene by scene so that compositing stays the same code for every source."""

import io
import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from jointseg.errors import DataError
from jointseg.grid import Tile
from jointseg.sentinel2.pixels import RES_M, Bounds
from jointseg.sentinel2.scene import SCALE, Asset, Scene, lonlat_box, utc

log = logging.getLogger(__name__)

URL = "https://earthengine-highvolume.googleapis.com"
# The harmonized collections have removed the offset of baseline 04.00 already.
COLLECTIONS = {"L1C": "COPERNICUS/S2_HARMONIZED", "L2A": "COPERNICUS/S2_SR_HARMONIZED"}
# L1C has no scene classification, and its QA60 is empty from 2022-01-25 to 2024-02-28.
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
# computePixels answers at most 48 MB, uncompressed, on at most 32,768 pixels a side; some room is left.
MAX_BYTES, MAX_SIDE_PX = 40 << 20, 32_768
RETRY_CODES = (429, 500, 502, 503, 504)
TRIES, FIRST_WAIT_S, MAX_WAIT_S = 8, 1.0, 60.0

# Earth Engine writes B4 where the products write B04.
BAND_NAMES = {f"B{number:02d}": f"B{number}" for number in range(1, 13)} | {"B8A": "B8A"}
PROPERTIES = (
    "SPACECRAFT_NAME",
    "MGRS_TILE",
    "SENSING_ORBIT_NUMBER",
    "PROCESSING_BASELINE",
    "CLOUDY_PIXEL_PERCENTAGE",
)


def search(source: dict, tile: Tile, year: int, level: str) -> Iterator[Scene]:
    """The scenes of one year over a tile; the caller picks by season and cloud.

    Raises:
        DataError: Earth Engine refuses, or does not answer after retries of 429 and 5xx.
    """
    ee = _client(source)
    name = (source.get("collections") or COLLECTIONS)[level]
    outline = lonlat_box(tile.bounds, tile.crs)
    region = ee.Geometry.Rectangle(list(outline.bounds), "EPSG:4326", False)
    found = ee.ImageCollection(name).filterBounds(region).filterDate(f"{year}-01-01", f"{year + 1}-01-01")
    rows = found.map(_row).aggregate_array("row")
    for text in _asked(rows.getInfo, f"the scenes of {name} in {year} over {tile.id}"):
        yield _scene(json.loads(text), name, level, outline)


def _row(image: Any) -> Any:
    """An image's properties and CRS as JSON text: one answer lists a year."""
    import ee

    image = ee.Image(image)
    told = image.toDictionary(list(PROPERTIES)).set("epsg", image.select("B4").projection().crs())
    told = told.set("system:index", image.get("system:index")).set("system:time_start", image.get("system:time_start"))
    return ee.Feature(None, {"row": ee.String.encodeJSON(told)})


def _scene(told: dict, collection: str, level: str, outline: object) -> Scene:
    index = told["system:index"]
    asset = f"{collection}/{index}"
    mask = "SCL" if level == "L2A" else "CS"
    return Scene(
        id=index,
        datetime=utc(datetime.fromtimestamp(told["system:time_start"] / 1000, UTC)),
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
        footprint=outline,  # the server has filtered by the bounds
    )


class Pixels:
    """Reads windows of scenes by computePixels, exactly on the tile's lattice, several at a time."""

    workers = 8

    def __init__(self, source: dict, epsg: int) -> None:
        self.epsg = epsg
        self.warped: dict[str, str] = {}
        self._ee = _client(source)

    def check(self, scene: Scene, bands: list[str]) -> None:
        for key in [*bands, *([scene.mask] if scene.mask else [])]:
            if key not in scene.assets:
                raise DataError(f"scene {scene.id} of the list has no {key}; delete the list so that it is made again")
        if scene.epsg != self.epsg:
            self.warped[scene.id] = f"EPSG:{scene.epsg} (by the server, bicubic)"

    def read(self, scene: Scene, keys: list[str], bounds: Bounds) -> np.ndarray:
        """uint16 [keys, rows, columns] of bounds on the 10 m lattice; 0 outside the scene."""
        rows, cols = round((bounds[3] - bounds[1]) / RES_M), round((bounds[2] - bounds[0]) / RES_M)
        image = self._image(scene, keys)
        out = np.zeros((len(keys), rows, cols), dtype=np.uint16)
        width = min(cols, MAX_SIDE_PX)
        height = max(1, min(rows, MAX_SIDE_PX, MAX_BYTES // (width * len(keys) * 2)))
        for top in range(0, rows, height):
            for left in range(0, cols, width):
                part = out[:, top : top + height, left : left + width]
                part[:] = self._window(scene, image, keys, bounds, (top, left), part.shape[1:])
        return out

    def _image(self, scene: Scene, keys: list[str]) -> Any:
        ee = self._ee
        image = ee.Image(scene.assets[keys[0]].href)
        if keys == ["CS"]:  # 0..1 becomes 1..101 percent, so that 0 is left to no data
            image = image.select(["cs_cdf"]).multiply(100).add(1).round()
        elif scene.epsg != self.epsg and keys != ["SCL"]:
            image = image.select([BAND_NAMES[key] for key in keys]).resample("bicubic")
        else:
            image = image.select([BAND_NAMES.get(key, key) for key in keys])
        return image.rename(keys).unmask(0, False).toUint16()

    def _window(
        self,
        scene: Scene,
        image: Any,
        keys: list[str],
        bounds: Bounds,
        corner: tuple[int, int],
        shape: tuple[int, ...],
    ) -> np.ndarray:
        request = {
            "expression": image,
            "fileFormat": "NPY",
            "bandIds": keys,
            "grid": {
                "dimensions": {"width": shape[1], "height": shape[0]},
                "affineTransform": {
                    "scaleX": RES_M,
                    "shearX": 0,
                    "translateX": bounds[0] + corner[1] * RES_M,
                    "shearY": 0,
                    "scaleY": -RES_M,
                    "translateY": bounds[3] - corner[0] * RES_M,
                },
                "crsCode": f"EPSG:{self.epsg}",
            },
        }
        what = f"{', '.join(keys)} of scene {scene.id}"
        # The client changes the request that it is given: each try gets its own.
        answer = _asked(lambda: self._ee.data.computePixels(dict(request)), what)
        array = np.load(io.BytesIO(answer))
        if array.shape != tuple(shape) or array.dtype.names != tuple(keys):
            raise DataError(
                f"Earth Engine answered {array.shape} pixels of {array.dtype.names} for {what}; {tuple(shape)} of "
                f"{tuple(keys)} were asked for"
            )
        return np.stack([array[key] for key in keys])


def _asked(question: Callable[[], Any], what: str) -> Any:
    """An answer; asked again after 429 and 5xx with growing, jittered waits, never after other refusals."""
    import ee

    for attempt in range(TRIES):
        try:
            return question()
        except (ee.EEException, OSError) as error:  # OSError: the connection broke
            code = "no" if isinstance(error, OSError) else _status(error)
            if code not in (*RETRY_CODES, "no") or attempt + 1 == TRIES:
                raise DataError(
                    f"Earth Engine refuses {what} ({error}); check project, quota and collection"
                ) from error
            # The jitter only spreads requests in time; no result depends on it.
            wait = random.uniform(0.5, 1.0) * min(MAX_WAIT_S, FIRST_WAIT_S * 2**attempt)
            log.warning("Earth Engine gave %s answer for %s; asking again in %.1f s", code, what, wait)
            time.sleep(wait)
    raise AssertionError("the loop returns or raises")


def _status(error: BaseException) -> int | None:
    """HTTP status behind a client's error."""
    response = getattr(error.__cause__ or error.__context__, "resp", None)
    return int(response.status) if response is not None else None


@cache
def _initialized(project: str, url: str, service_account: str | None) -> Any:
    import ee

    if service_account is not None and not Path(service_account).is_file():
        raise DataError(f"the service account's key file {service_account} does not exist; correct service_account")
    try:
        credentials: Any = "persistent"
        if service_account is not None:
            credentials = ee.ServiceAccountCredentials(None, key_file=service_account)
        elif urlsplit(url).hostname in ("127.0.0.1", "localhost"):
            credentials = None  # a server on this machine stands in for the real one and has no accounts
        ee.Initialize(credentials, project=project, url=url)
    except Exception as error:  # the client raises many kinds: of its own, of google.auth, of the transport
        raise DataError(
            f"Earth Engine does not accept project {project!r} at {url} ({error}); run `earthengine authenticate` or "
            "set service_account"
        ) from error
    # The client would retry by itself too; the waits above are the only ones.
    ee.data.setMaxRetries(0)
    return ee


def _client(source: dict) -> Any:
    if not source.get("project"):
        raise DataError("sentinel2.source.project is not set; name the Google Cloud project that Earth Engine bills")
    return _initialized(source["project"], source.get("url") or URL, source.get("service_account"))
