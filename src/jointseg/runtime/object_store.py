"""Inputs and results in an object store (S3), under the same relative paths as on a local disk.

Snakemake's storage plugin copies files between the store and the machine of a job. This module adds what the plugin
does not do: one path for each file, relative to the run's folder, in params, manifests and audits; rasters without a
local copy are read from the store by HTTP range requests; workflow functions read small files.

The AWS environment variables set endpoint and credentials: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
...
"""

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jointseg.runtime.errors import DataError

PREFIX_VARIABLE = "JOINTSEG_STORE"  # environment variable: s3://bucket/folder
LOCAL_VARIABLE = "JOINTSEG_STORE_LOCAL"  # environment variable: the folder of Snakemake's local copies
_PROVIDER = "s3"
_RESUMABLE = ".jointseg"  # partial maps and trainings, in the results folder
GDAL_OPTIONS = {
    # No directory listing when a raster is opened, and one request that covers the header of a COG.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "1",
}


def configure(settings: Any) -> str:
    """Set the environment variables of the store for a run and its jobs, from Snakemake's storage settings.

    Returns the prefix of the store, s3://bucket/folder; "" without a store. Raises DataError if the storage provider is
    not S3, or the prefix is not an S3 URL.
    """
    provider, prefix = settings.default_storage_provider, (settings.default_storage_prefix or "").rstrip("/")
    if provider is None:
        os.environ.pop(PREFIX_VARIABLE, None)
        return ""
    if provider != _PROVIDER or urlsplit(prefix).scheme != _PROVIDER or not urlsplit(prefix).netloc:
        raise DataError(
            f"rasters cannot be read from --default-storage-provider {provider} with --default-storage-prefix "
            f"{prefix or '(missing)'}; use {_PROVIDER} and s3://BUCKET/FOLDER"
        )
    local = settings.local_storage_prefix / _PROVIDER / prefix.removeprefix("s3://")
    os.environ |= {PREFIX_VARIABLE: prefix, LOCAL_VARIABLE: str(local)}
    for name, value in (GDAL_OPTIONS | _gdal_endpoint()).items():
        os.environ.setdefault(name, value)
    return prefix


def remove_local_copies(results: str) -> None:
    """Remove the local copies of result files that a killed run left: Snakemake treats them as write-protected.

    Partial maps and trainings stay. Call it only in a run that holds the lock of the results folder. Raises DataError
    if `results` is an absolute path.
    """
    if os.path.isabs(results):
        raise DataError(
            f"results {results} is an absolute path; in an object store, give a path relative to its prefix"
        )
    copies = Path(os.environ[LOCAL_VARIABLE]) / results
    for path in copies.iterdir() if copies.is_dir() else ():
        if path.name != _RESUMABLE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def enter_local_copy() -> None:
    """Change the working directory of a job to the folder of local copies, so that workflow paths are valid there."""
    if os.environ.get(PREFIX_VARIABLE):
        local = Path(os.environ[LOCAL_VARIABLE])
        local.mkdir(parents=True, exist_ok=True)
        os.chdir(local)


def workflow_path(path: str) -> Path:
    """Return the workflow's own path of a file that Snakemake names by its URL in the store or by its local copy."""
    for prefix in (os.environ.get(PREFIX_VARIABLE), os.environ.get(LOCAL_VARIABLE)):
        if prefix and path.startswith(f"{prefix}/"):
            return Path(path[len(prefix) + 1 :])
    return Path(path)


def gdal_path(path: Path | str) -> str:
    """Return the name under which GDAL opens a file: the path if it exists locally, else /vsis3/ in the store."""
    prefix = os.environ.get(PREFIX_VARIABLE)
    if not prefix or os.path.isabs(path) or os.path.exists(path):
        return str(path)
    return f"/vsis3/{prefix.removeprefix('s3://')}/{Path(path).as_posix()}"


def exists(path: Path | str) -> bool:
    """Return whether a file or folder exists in the store, or on disk if there is no store."""
    if not os.environ.get(PREFIX_VARIABLE):
        return os.path.exists(path)
    bucket, key = _key(path)
    objects = client().list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
    return any(entry["Key"] == key or entry["Key"].startswith(f"{key}/") for entry in objects)


def size(path: Path) -> int:
    """Return the size in bytes of a file in the store. Raises DataError if it is missing."""
    bucket, key = _key(path)
    return int(_request("head_object", path, Bucket=bucket, Key=key)["ContentLength"])


def read(path: Path | str) -> bytes:
    """Return the content of a small file, from the store if there is one: a local copy can be outdated.

    Raises DataError if the store does not have it.
    """
    if not os.environ.get(PREFIX_VARIABLE):
        return Path(path).read_bytes()
    bucket, key = _key(path)
    return _request("get_object", path, Bucket=bucket, Key=key)["Body"].read()


def _request(operation: str, path: Path | str, **arguments: str) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return getattr(client(), operation)(**arguments)
    except (BotoCoreError, ClientError) as error:
        raise DataError(
            f"{os.environ[PREFIX_VARIABLE]}/{path} cannot be read ({error}); check that the store has it"
        ) from error


def _key(path: Path | str) -> tuple[str, str]:
    bucket, _, folder = os.environ[PREFIX_VARIABLE].removeprefix("s3://").partition("/")
    name = workflow_path(str(path)).as_posix()
    return bucket, f"{folder}/{name}" if folder else name


@cache
def client() -> Any:
    """Return the S3 client of this process."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        config=Config(
            retries={"mode": "standard", "max_attempts": 5},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _gdal_endpoint() -> dict[str, str]:
    """Return GDAL's own options for an endpoint outside AWS."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    url = urlsplit(endpoint)
    return {
        "AWS_S3_ENDPOINT": url.netloc,
        "AWS_HTTPS": "YES" if url.scheme == "https" else "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }
