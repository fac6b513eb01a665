"""Search scenes of a STAC API and read windows of its cloud-optimized files over HTTP."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import requests
from rasterio.errors import RasterioError

from jointseg.area.grid import Tile
from jointseg.runtime.errors import DataError, TransientError
from jointseg.sentinel2 import retry
from jointseg.sentinel2.items import scene_from_item
from jointseg.sentinel2.retry import RequestError, Result, call_with_retries
from jointseg.sentinel2.scene import Scene, lonlat_box
from jointseg.sentinel2.scene_windows import NO_SHIFT, Bounds, FileReader, Shift

SIGNERS = {"planetary-computer": "https://planetarycomputer.microsoft.com/api/sas/v1/token"}
TIMEOUT_S = 60.0
PAGE_SIZE = 200
# GDAL retries these statuses itself; if it fails, the whole read is retried.
_GDAL = {
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": ",".join(map(str, retry.RETRY_CODES)),
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_TIMEOUT": f"{TIMEOUT_S:g}",
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "VSI_CACHE": "TRUE",
}
# GDAL caches a truncated response and would read it again in every retry: only the first try uses the cache.
_UNCACHED = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/", "VSI_CACHE": "FALSE"}


def collection_name(source: dict, level: str) -> str:
    """Return the collection of a product level in the source's catalogue. Raises DataError if it is not set."""
    collections = source.get("collections") or {}
    if level not in collections:
        available = ", ".join(collections) or "none"
        raise DataError(f"sentinel2.source.collections has no collection for {level} (it has: {available}); add it")
    return collections[level]


def search(source: dict, tile: Tile, year: int, level: str) -> Iterator[Scene]:
    """Yield the scenes of one year over a tile, for any season and cloud cover.

    Raises DataError if the catalogue rejects the request, TransientError if no retry succeeds.
    """
    from pystac_client import Client

    collection = collection_name(source, level)
    area = lonlat_box(tile.bounds, tile.crs)
    try:
        client = Client.open(source["url"], stac_io=_stac_io(), timeout=TIMEOUT_S)
        result = client.search(
            collections=[collection], bbox=list(area.bounds), datetime=f"{year}-01-01/{year}-12-31", limit=PAGE_SIZE
        )
        items = list(result.items_as_dicts())
    except RequestError as error:
        if error.transient:
            raise TransientError(
                f"the STAC catalogue {source['url']} returned no complete response for {collection} in "
                f"{retry.MAX_TRIES} tries (last error: {error}); check the network and rerun later"
            ) from error
        raise DataError(
            f"the STAC catalogue {source['url']} rejects {collection} with HTTP status {error.status} ({error}); check "
            "its URL and collections"
        ) from error
    for item in items:
        yield scene_from_item(item, _base(item))


def _stac_io() -> Any:
    """Return a StacApiIO that retries the request of each page after transient errors."""
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    class RetryingIO(StacApiIO):
        def request(self, href: str, *args: Any, **kwargs: Any) -> str:
            def request_once() -> str:
                try:
                    text = super(RetryingIO, self).request(href, *args, **kwargs)
                    json.loads(text)
                except APIError as error:
                    raise RequestError(error, getattr(error, "status_code", None)) from error
                except json.JSONDecodeError as error:
                    raise RequestError("the response is not complete JSON") from error
                return text

            return call_with_retries(request_once, href)

    return RetryingIO(timeout=TIMEOUT_S, max_retries=None)


def _base(item: dict) -> str:
    hrefs = [link["href"] for link in item.get("links", []) if link["rel"] == "self"]
    return hrefs[0].rpartition("/")[0] if hrefs else ""


class StacReader(FileReader):
    """Reads scenes of a catalogue over HTTP, in parallel, and retries after transient errors."""

    workers = 8

    def __init__(self, source: dict, epsg: int, level: str) -> None:
        super().__init__(Path(), epsg)
        self._token = access_token(source, level) if source.get("sign") else None

    def path(self, href: str) -> str:
        return f"{super().path(href)}?{self._token}" if self._token else super().path(href)

    def check(self, scene: Scene, keys: Sequence[str]) -> None:
        self._with_retries(lambda: super(StacReader, self).check(scene, keys), scene, keys)

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray:
        def layer(key: str) -> np.ndarray:
            return self._with_retries(lambda: super(StacReader, self).read(scene, [key], bounds, shift_m), scene, [key])

        return np.concatenate([layer(key) for key in keys])

    def _with_retries(self, read: Callable[[], Result], scene: Scene, keys: Sequence[str]) -> Result:
        """Return the result of a GDAL read; if it fails, the HTTP status decides whether to retry."""
        options = dict(_GDAL)

        def read_once() -> Result:
            try:
                with rasterio.Env(**options):
                    return read()
            except DataError as error:
                if not isinstance(error.__cause__, RasterioError):
                    raise
                status = self._error_status(scene, keys) if options.keys() > _GDAL.keys() else None
                options.update(_UNCACHED)
                raise RequestError(error, status) from error

        try:
            return call_with_retries(read_once, f"{', '.join(keys)} of scene {scene.id}")
        except RequestError as error:
            if error.transient:
                raise TransientError(f"{error} (tried {retry.MAX_TRIES} times)") from error
            raise DataError(
                f"{error} (the server returns HTTP status {error.status}: for 401 and 403 set sentinel2.source.sign, for "
                "404 and 410 delete the scene list to rebuild it)"
            ) from error

    def _error_status(self, scene: Scene, keys: Sequence[str]) -> int | None:
        """Return the first HTTP error status of the assets' servers; None if there is none."""
        for key in keys:
            url = self.path(scene.assets[key].href).removeprefix("/vsicurl/")
            if not url.startswith("http"):
                continue
            try:
                response = requests.get(url, headers={"Range": "bytes=0-0"}, timeout=TIMEOUT_S, stream=True)
                response.close()
            except requests.RequestException:
                continue
            if not response.ok:
                return response.status_code
        return None


def access_token(source: dict, level: str) -> str:
    """Return the access token of a signing service for the collection of a level; `sign` is its name or URL."""
    url = f"{SIGNERS.get(source['sign'], source['sign'])}/{collection_name(source, level)}"

    def request_once() -> str:
        try:
            response = requests.get(url, timeout=TIMEOUT_S)
            if not response.ok:
                raise RequestError(f"HTTP status {response.status_code}", response.status_code)
            return response.json()["token"]
        except (requests.RequestException, KeyError, ValueError) as error:
            raise RequestError(error) from error

    try:
        return call_with_retries(request_once, url)
    except RequestError as error:
        raise DataError(f"{url} returns no access token ({error}); check sentinel2.source.sign") from error
