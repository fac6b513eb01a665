"""Scenes of a STAC API and windows of its cloud-optimised files over HTTP."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from jointseg.errors import DataError
from jointseg.grid import Tile
from jointseg.sentinel2.items import scene_of
from jointseg.sentinel2.pixels import Bounds, Files
from jointseg.sentinel2.scene import Scene, lonlat_box

log = logging.getLogger(__name__)

# Answers worth asking again: too many requests, and the server's own faults.
RETRY_CODES = (429, 500, 502, 503, 504)
TRIES, BACKOFF_S = 6, 0.5
SIGNERS = {"planetary-computer": "https://planetarycomputer.microsoft.com/api/sas/v1/token"}
_GDAL = {
    "GDAL_HTTP_MAX_RETRY": str(TRIES),
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": ",".join(map(str, RETRY_CODES)),
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_TIMEOUT": "60",
    "VSI_CACHE": "TRUE",
}


def _retry() -> Retry:
    return Retry(
        total=TRIES, backoff_factor=0.5, backoff_jitter=0.5, status_forcelist=RETRY_CODES, allowed_methods=None
    )


def collection_of(source: dict, level: str) -> str:
    """The collection of a product level in the source's catalogue."""
    collections = source.get("collections") or {}
    if level not in collections:
        there = ", ".join(collections) or "none"
        raise DataError(f"sentinel2.source.collections names no collection for {level} (it has: {there}); add it")
    return collections[level]


def search(source: dict, tile: Tile, year: int, level: str) -> Iterator[Scene]:
    """The scenes of one year over a tile; the caller picks by season and cloud.

    Raises:
        DataError: the catalogue does not answer, after retries of 429 and 5xx alone.
    """
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    collection = collection_of(source, level)
    area = lonlat_box(tile.bounds, tile.crs)
    try:
        client = Client.open(source["url"], stac_io=StacApiIO(max_retries=_retry(), timeout=60))
        found = client.search(
            collections=[collection], bbox=list(area.bounds), datetime=f"{year}-01-01/{year}-12-31", limit=200
        )
        items = list(found.items_as_dicts())
    except (APIError, requests.RequestException) as error:
        raise DataError(
            f"the STAC catalogue {source['url']} does not answer for {collection} ({error}); check the URL and network"
        ) from error
    for item in items:
        yield scene_of(item, _base(item))


def _base(item: dict) -> str:
    own = [link["href"] for link in item.get("links", []) if link["rel"] == "self"]
    return own[0].rpartition("/")[0] if own else ""


class Urls(Files):
    """Reads scenes of a catalogue over HTTP, several at a time; asks again after 429 and 5xx alone."""

    workers = 8

    def __init__(self, source: dict, epsg: int, level: str) -> None:
        super().__init__(Path(), epsg)
        self._token = token(source, level) if source.get("sign") else None

    def path(self, href: str) -> str:
        return f"{super().path(href)}?{self._token}" if self._token else super().path(href)

    def check(self, scene: Scene, bands: list[str]) -> None:
        with rasterio.Env(**_GDAL):
            super().check(scene, bands)

    def read(self, scene: Scene, keys: list[str], bounds: Bounds) -> np.ndarray:
        with rasterio.Env(**_GDAL):
            return super().read(scene, keys, bounds)


def token(source: dict, level: str) -> str:
    """The access token that a signing service gives for the collection of a level; `sign` is its name or URL."""
    url = f"{SIGNERS.get(source['sign'], source['sign'])}/{collection_of(source, level)}"
    session = requests.Session()
    session.mount("http", HTTPAdapter(max_retries=_retry()))
    try:
        answer = session.get(url, timeout=60)
        answer.raise_for_status()
        return answer.json()["token"]
    except (requests.RequestException, KeyError, ValueError) as error:
        raise DataError(f"{url} gives no access token ({error}); check sentinel2.source.sign") from error
