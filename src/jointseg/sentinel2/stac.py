"""Scenes of a STAC API and windows of its cloud-optimised files over HTTP."""

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
# GDAL asks again by itself after these statuses; what it cannot mend is read anew.
_GDAL = {
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": ",".join(map(str, retry.RETRY_CODES)),
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_TIMEOUT": f"{TIMEOUT_S:g}",
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "VSI_CACHE": "TRUE",
}
# GDAL keeps the half of an answer that was cut and reads it again for ever; so only the first try may use what it keeps.
_ANEW = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/", "VSI_CACHE": "FALSE"}


def collection_name(source: dict, level: str) -> str:
    """The collection of a product level in the source's catalogue."""
    collections = source.get("collections") or {}
    if level not in collections:
        there = ", ".join(collections) or "none"
        raise DataError(f"sentinel2.source.collections names no collection for {level} (it has: {there}); add it")
    return collections[level]


def search(source: dict, tile: Tile, year: int, level: str) -> Iterator[Scene]:
    """The scenes of one year over a tile; the caller picks by season and cloud.

    Raises:
        DataError: the catalogue refuses, or gives no whole answer after the tries.
    """
    from pystac_client import Client

    collection = collection_name(source, level)
    area = lonlat_box(tile.bounds, tile.crs)
    try:
        client = Client.open(source["url"], stac_io=_api(), timeout=TIMEOUT_S)
        found = client.search(
            collections=[collection], bbox=list(area.bounds), datetime=f"{year}-01-01/{year}-12-31", limit=PAGE_SIZE
        )
        items = list(found.items_as_dicts())
    except RequestError as fault:
        if fault.transient:
            raise TransientError(
                f"the STAC catalogue {source['url']} gives no whole answer for {collection} in {retry.MAX_TRIES} tries "
                f"(at last: {fault}); check the network and run again later"
            ) from fault
        raise DataError(
            f"the STAC catalogue {source['url']} refuses {collection} with HTTP status {fault.status} ({fault}); check "
            "its URL and collections"
        ) from fault
    for item in items:
        yield scene_from_item(item, _base(item))


def _api() -> Any:
    """How the catalogue is asked: each page by itself, again after a fault that may pass."""
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    class Asking(StacApiIO):
        def request(self, href: str, *args: Any, **kwargs: Any) -> str:
            def once() -> str:
                try:
                    text = super(Asking, self).request(href, *args, **kwargs)
                    json.loads(text)
                except APIError as error:
                    raise RequestError(error, getattr(error, "status_code", None)) from error
                except json.JSONDecodeError as error:
                    raise RequestError("an answer that is no whole JSON") from error
                return text

            return call_with_retries(once, href)

    return Asking(timeout=TIMEOUT_S, max_retries=None)


def _base(item: dict) -> str:
    own = [link["href"] for link in item.get("links", []) if link["rel"] == "self"]
    return own[0].rpartition("/")[0] if own else ""


class StacReader(FileReader):
    """Reads scenes of a catalogue over HTTP, several at a time; asks again after faults that may pass alone."""

    workers = 8

    def __init__(self, source: dict, epsg: int, level: str) -> None:
        super().__init__(Path(), epsg)
        self._token = access_token(source, level) if source.get("sign") else None

    def path(self, href: str) -> str:
        return f"{super().path(href)}?{self._token}" if self._token else super().path(href)

    def check(self, scene: Scene, keys: Sequence[str]) -> None:
        self._asked(lambda: super(StacReader, self).check(scene, keys), scene, keys)

    def read(self, scene: Scene, keys: Sequence[str], bounds: Bounds, shift_m: Shift = NO_SHIFT) -> np.ndarray:
        def layer(key: str) -> np.ndarray:
            return self._asked(lambda: super(StacReader, self).read(scene, [key], bounds, shift_m), scene, [key])

        return np.concatenate([layer(key) for key in keys])

    def _asked(self, question: Callable[[], Result], scene: Scene, keys: Sequence[str]) -> Result:
        """What GDAL reads of assets; where it fails, their server tells whether asking again is of any use."""

        options = dict(_GDAL)

        def once() -> Result:
            try:
                with rasterio.Env(**options):
                    return question()
            except DataError as error:
                if not isinstance(error.__cause__, RasterioError):
                    raise
                status = self._status(scene, keys) if options.keys() > _GDAL.keys() else None
                options.update(_ANEW)
                raise RequestError(error, status) from error

        try:
            return call_with_retries(once, f"{', '.join(keys)} of scene {scene.id}")
        except RequestError as fault:
            if fault.transient:
                raise TransientError(f"{fault} (asked {retry.MAX_TRIES} times)") from fault
            raise DataError(
                f"{fault} (its server answers with HTTP status {fault.status}: 401 and 403 ask for sentinel2.source.sign, "
                "404 and 410 for a new scene list)"
            ) from fault

    def _status(self, scene: Scene, keys: Sequence[str]) -> int | None:
        """The first HTTP status of a refusal that the assets' servers give; None where they give none."""
        for key in keys:
            url = self.path(scene.assets[key].href).removeprefix("/vsicurl/")
            if not url.startswith("http"):
                continue
            try:
                answer = requests.get(url, headers={"Range": "bytes=0-0"}, timeout=TIMEOUT_S, stream=True)
                answer.close()
            except requests.RequestException:
                continue
            if not answer.ok:
                return answer.status_code
        return None


def access_token(source: dict, level: str) -> str:
    """The access token that a signing service gives for the collection of a level; `sign` is its name or URL."""
    url = f"{SIGNERS.get(source['sign'], source['sign'])}/{collection_name(source, level)}"

    def once() -> str:
        try:
            answer = requests.get(url, timeout=TIMEOUT_S)
            if not answer.ok:
                raise RequestError(f"HTTP status {answer.status_code}", answer.status_code)
            return answer.json()["token"]
        except (requests.RequestException, KeyError, ValueError) as error:
            raise RequestError(error) from error

    try:
        return call_with_retries(once, url)
    except RequestError as error:
        raise DataError(f"{url} gives no access token ({error}); check sentinel2.source.sign") from error
