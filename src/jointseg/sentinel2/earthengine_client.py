"""The Earth Engine client: credentials, time limits, and what its refusals mean."""

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
# computePixels answers within minutes or not at all.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 30.0, 300.0
_CONNECTIONS = 64
_NOT_HTTP = 0  # status of a refusal by the client itself
_LATER = "run again later: what came already is kept"


def client(source: dict) -> Any:
    """The module `ee`, ready for the project of a source.

    Raises:
        DataError: the project is not set, or Earth Engine does not accept it or the credential.
    """
    if not source.get("project"):
        raise DataError("sentinel2.source.project is not set; name the Google Cloud project that Earth Engine bills")
    return _initialized(source["project"], source.get("url") or URL, source.get("service_account"))


def request(question: Callable[[], Result], what: str, project: str) -> Result:
    """The answer to a question; one that meets 429, 5xx, a broken connection or half an answer is asked again.

    Args:
        question: of the client; raises RequestError for an answer that is not what was asked for.
        what: the question is about, for the error.
        project: that is billed.

    Raises:
        DataError: Earth Engine refuses, or gives no answer after the tries.
    """
    try:
        return call_with_retries(lambda: _answer(question), what)
    except RequestError as fault:
        raise request_failure(fault, what, project) from fault


def request_failure(fault: RequestError, what: str, project: str) -> DataError:
    """The last fault of a question, told in a sentence."""
    if fault.status == 401:
        return DataError(
            f"Earth Engine does not accept the credential ({fault}); run `earthengine authenticate` or give another key "
            "file in sentinel2.source.service_account"
        )
    if fault.status == 403:
        return DataError(
            f"Earth Engine gives project {project!r} no access to {what} ({fault}); register the project for Earth "
            "Engine and give the account the role Earth Engine Resource Viewer"
        )
    if fault.status == 404 or (fault.status == 400 and "not found" in str(fault)):
        return DataError(
            f"Earth Engine does not find {what} ({fault}); correct sentinel2.source.collections, or delete the scene list "
            "so that it is made again"
        )
    if fault.status == 429:
        return TransientError(
            f"Earth Engine's quota of project {project!r} is still used up after {retry.MAX_TRIES} tries for {what} "
            f"({fault}); lower sentinel2.requests or have the quota raised, then {_LATER}"
        )
    if fault.transient:
        return TransientError(
            f"Earth Engine gives no whole answer for {what} in {retry.MAX_TRIES} tries (at last: {fault}); check the "
            f"network and {_LATER}"
        )
    return DataError(f"Earth Engine refuses {what} ({fault}); check the request's project, bands and collection")


def _answer(question: Callable[[], Result]) -> Result:
    """The answer; an RequestError for whatever the client raises instead, of its own, of google.auth or of the transport."""
    import ee
    from google.auth.exceptions import GoogleAuthError, TransportError
    from googleapiclient.errors import HttpError

    try:
        return question()
    except ee.EEException as error:
        raise RequestError(error, _status(error.__cause__ or error.__context__)) from error
    except HttpError as error:  # before there is a client that would tell
        raise RequestError(error.reason, _status(error)) from error
    except (TransportError, OSError) as error:
        raise RequestError(str(error) or type(error).__name__) from error
    except GoogleAuthError as error:
        raise RequestError(error, None if error.retryable else 401) from error


def _status(error: BaseException | None) -> int:
    """HTTP status that the client met."""
    response = getattr(error, "resp", None)
    return int(response.status) if response is not None else _NOT_HTTP


class _Transport:
    """What the client sends its requests by: with time limits, and connections for many threads."""

    def __init__(self) -> None:
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None, **_: Any
    ) -> tuple[Any, bytes]:
        """(httplib2.Response, body), the interface of httplib2.Http, whose errors are built-in ones."""
        from httplib2 import Response

        try:
            answer = self._session.request(
                method, uri, data=body, headers=headers, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            )
        except requests.Timeout as error:
            raise TimeoutError(f"no answer within {READ_TIMEOUT_S:g} s") from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise ConnectionError(f"the connection broke: {error}") from error
        return Response(dict(answer.headers) | {"status": answer.status_code}), answer.content


@lru_cache(maxsize=1)  # the client has one state for the whole process
def _initialized(project: str, url: str, service_account: str | None) -> Any:
    import ee

    try:
        credentials = _credentials(url, service_account)
        _answer(lambda: ee.Initialize(credentials, url=url, http_transport=_Transport(), project=project))
    except RequestError as fault:
        if fault.status in (401, 403):
            raise request_failure(fault, "its algorithms", project) from fault
        raise DataError(
            f"Earth Engine does not accept project {project!r} at {url} ({fault}); run `earthengine authenticate` or "
            "set service_account"
        ) from fault
    # The client would retry by itself too; the waits of `ask` are the only ones.
    ee.data.setMaxRetries(0)
    return ee


def _credentials(url: str, service_account: str | None) -> Any:
    """What the client is to show: a key file's account, or that of the person or machine."""
    import ee

    if service_account is None:
        # A server on this machine stands in for the real one and has no accounts.
        return None if urlsplit(url).hostname in ("127.0.0.1", "localhost") else "persistent"
    if not Path(service_account).is_file():
        raise DataError(f"the service account's key file {service_account} does not exist; correct service_account")
    try:
        return ee.ServiceAccountCredentials(None, key_file=service_account)
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{service_account} is no key file of a service account ({error}); download its JSON key again"
        ) from error
