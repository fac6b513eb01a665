"""The Earth Engine client: credentials, timeouts, and error messages for failed requests."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from jointseg.runtime.errors import DataError, TransientError
from jointseg.sentinel2 import retry
from jointseg.sentinel2.retry import RequestError, Result, call_with_retries

URL = "https://earthengine-highvolume.googleapis.com"
# computePixels responds within minutes or not at all.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 30.0, 300.0
_CONNECTIONS = 64
_NOT_HTTP = 0  # status of an error that the client raises without a request
_RERUN = "rerun later: responses received so far are cached"


def client(source: dict) -> Any:
    """Return the module `ee`, initialized for the project of a source.

    Raises DataError if the project is not set, or Earth Engine rejects it or the credentials.
    """
    if not source.get("project"):
        raise DataError("sentinel2.source.project is not set; set the Google Cloud project that Earth Engine bills")
    return _initialized(source["project"], source.get("url") or URL, source.get("service_account"))


def request_with_retries(request: Callable[[], Result], description: str, project: str) -> Result:
    """Return the result of a request, retried after 429, 5xx, a broken connection or an incomplete response.

    `request` calls the client and raises RequestError for an invalid response. Raises DataError if Earth Engine rejects
    the request, TransientError if no retry succeeds.
    """
    try:
        return call_with_retries(lambda: _convert_errors(request), description)
    except RequestError as error:
        raise _data_error(error, description, project) from error


def _data_error(error: RequestError, description: str, project: str) -> DataError:
    """Return the error message, with a remedy, for a failed request."""
    if error.status == 401:
        return DataError(
            f"Earth Engine rejects the credentials ({error}); run `earthengine authenticate` or set another key "
            "file in sentinel2.source.service_account"
        )
    if error.status == 403:
        return DataError(
            f"project {project!r} has no access to {description} ({error}); register the project for Earth Engine and "
            "grant the account the role Earth Engine Resource Viewer"
        )
    if error.status == 404 or (error.status == 400 and "not found" in str(error)):
        return DataError(
            f"Earth Engine does not find {description} ({error}); correct sentinel2.source.collections, or delete the "
            "scene list to rebuild it"
        )
    if error.status == 429:
        return TransientError(
            f"the Earth Engine quota of project {project!r} is still exhausted after {retry.MAX_TRIES} tries for "
            f"{description} ({error}); lower sentinel2.parallel_requests or request a higher quota, then {_RERUN}"
        )
    if error.transient:
        return TransientError(
            f"Earth Engine returned no complete response for {description} in {retry.MAX_TRIES} tries (last error: "
            f"{error}); check the network and {_RERUN}"
        )
    return DataError(f"Earth Engine rejects {description} ({error}); check the request's project, bands and collection")


def _convert_errors(request: Callable[[], Result]) -> Result:
    """Call a request; raise RequestError for any error of the client, google.auth or the transport."""
    import ee
    from google.auth.exceptions import GoogleAuthError, TransportError
    from googleapiclient.errors import HttpError

    try:
        return request()
    except ee.EEException as error:
        raise RequestError(error, _http_status(error.__cause__ or error.__context__)) from error
    except HttpError as error:  # raised while the client is being initialized
        raise RequestError(error.reason, _http_status(error)) from error
    except (TransportError, OSError) as error:
        raise RequestError(str(error) or type(error).__name__) from error
    except GoogleAuthError as error:
        raise RequestError(error, None if error.retryable else 401) from error


def _http_status(error: BaseException | None) -> int:
    response = getattr(error, "resp", None)
    return int(response.status) if response is not None else _NOT_HTTP


class _Transport:
    """HTTP transport of the client, with timeouts and a connection pool for many threads."""

    def __init__(self) -> None:
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None, **_: Any
    ) -> tuple[Any, bytes]:
        """Return (httplib2.Response, body), as httplib2.Http does; errors are built-in exceptions."""
        from httplib2 import Response

        try:
            response = self._session.request(
                method, uri, data=body, headers=headers, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            )
        except requests.Timeout as error:
            raise TimeoutError(f"no response within {READ_TIMEOUT_S:g} s") from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise ConnectionError(f"the connection broke: {error}") from error
        return Response(dict(response.headers) | {"status": response.status_code}), response.content


@lru_cache(maxsize=1)  # the client has one global state per process
def _initialized(project: str, url: str, service_account: str | None) -> Any:
    import ee

    try:
        credentials = _credentials(url, service_account)
        _convert_errors(lambda: ee.Initialize(credentials, url=url, http_transport=_Transport(), project=project))
    except RequestError as error:
        if error.status in (401, 403):
            raise _data_error(error, "its algorithms", project) from error
        raise DataError(
            f"Earth Engine does not accept project {project!r} at {url} ({error}); run `earthengine authenticate` or "
            "set service_account"
        ) from error
    # `call_with_retries` is the only retry mechanism; the client's own is disabled.
    ee.data.setMaxRetries(0)
    return ee


def _credentials(url: str, service_account: str | None) -> Any:
    """Return the credentials of the client: those of a key file, or of the user or machine."""
    import ee

    if service_account is None:
        # A test server on this machine has no accounts.
        return None if urlsplit(url).hostname in ("127.0.0.1", "localhost") else "persistent"
    if not Path(service_account).is_file():
        raise DataError(f"the service account's key file {service_account} does not exist; correct service_account")
    try:
        return ee.ServiceAccountCredentials(None, key_file=service_account)
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{service_account} is not a key file of a service account ({error}); download its JSON key again"
        ) from error
