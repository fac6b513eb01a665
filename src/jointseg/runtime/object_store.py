"""Inputs and results in an object store (S3): every path means the same, whether its file lies there or here.

Snakemake's storage plugin carries files between the store and the machine of a job. Here is what it does not do: a
file has one path, relative to the folder of the run, in params, manifests and audits; rasters are read from the store by
range where they are not here; small files are asked for by functions of the workflow.

Endpoint and credentials are told by the variables of AWS: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY ...
"""

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jointseg.runtime.errors import DataError

PREFIX_VARIABLE, LOCAL_VARIABLE = (
    "JOINTSEG_STORE",
    "JOINTSEG_STORE_LOCAL",
)  # environment variables: s3://bucket/folder; where Snakemake keeps it
PROVIDER = "s3"
_KEPT = ".jointseg"  # half-done maps and trainings
GDAL_OPTIONS = {
    # No request for what lies beside a raster, and one that brings the whole header of a COG.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "1",
}


def configure(settings: Any) -> str:
    """Makes a run, and the jobs that inherit its environment, know its store.

    Args:
        settings: Snakemake's storage settings.

    Returns:
        The prefix of the store, as s3://bucket/folder; "" without one.

    Raises:
        DataError: the settings do not suit.
    """
    provider, prefix = settings.default_storage_provider, (settings.default_storage_prefix or "").rstrip("/")
    if provider is None:
        os.environ.pop(PREFIX_VARIABLE, None)
        return ""
    if provider != PROVIDER or urlsplit(prefix).scheme != PROVIDER or not urlsplit(prefix).netloc:
        raise DataError(
            f"--default-storage-provider {provider} with --default-storage-prefix {prefix or 'left out'} is none that rasters can "
            f"be read from; give {PROVIDER} and s3://BUCKET/FOLDER"
        )
    local = settings.local_storage_prefix / PROVIDER / prefix.removeprefix("s3://")
    os.environ |= {PREFIX_VARIABLE: prefix, LOCAL_VARIABLE: str(local)}
    for name, value in (GDAL_OPTIONS | _gdal_endpoint()).items():
        os.environ.setdefault(name, value)
    return prefix


def remove_local_copies(results: str) -> None:
    """Removes the copies that a killed run left of files of its results: Snakemake takes them for write-protected.

    What is half-done in them is kept. Call it only for a run that holds the results folder.

    Raises:
        DataError: the results folder is named from the root.
    """
    if os.path.isabs(results):
        raise DataError(f"results {results} is named from the root; in a store all paths are relative to its prefix")
    copies = Path(os.environ[LOCAL_VARIABLE]) / results
    for each in copies.iterdir() if copies.is_dir() else ():
        if each.name != _KEPT:
            shutil.rmtree(each) if each.is_dir() else each.unlink()


def enter_local_copy() -> None:
    """Makes the folder in which Snakemake keeps copies of the store the working directory of a job.

    What the job was given, and what it is to make, then lies where the flow's own path says.
    """
    if os.environ.get(PREFIX_VARIABLE):
        local = Path(os.environ[LOCAL_VARIABLE])
        local.mkdir(parents=True, exist_ok=True)
        os.chdir(local)


def workflow_path(path: str) -> Path:
    """The flow's own path of what Snakemake calls by its place in the store or by that of its copy."""
    for before in (os.environ.get(PREFIX_VARIABLE), os.environ.get(LOCAL_VARIABLE)):
        if before and path.startswith(f"{before}/"):
            return Path(path[len(before) + 1 :])
    return Path(path)


def gdal_path(path: Path | str) -> str:
    """What GDAL opens: the path where the file is here or there is no store, else its place in the store."""
    prefix = os.environ.get(PREFIX_VARIABLE)
    if not prefix or os.path.isabs(path) or os.path.exists(path):
        return str(path)
    return f"/vsis3/{prefix.removeprefix('s3://')}/{Path(path).as_posix()}"


def exists(path: Path | str) -> bool:
    """Whether a file or a folder is in the store; here, without one."""
    if not os.environ.get(PREFIX_VARIABLE):
        return os.path.exists(path)
    bucket, key = _key(path)
    found = client().list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
    return any(each["Key"] == key or each["Key"].startswith(f"{key}/") for each in found)


def size(path: Path) -> int:
    """Size in bytes of a file in the store. Raises DataError where it is not."""
    bucket, key = _key(path)
    return int(_asked("head_object", path, Bucket=bucket, Key=key)["ContentLength"])


def read(path: Path | str) -> bytes:
    """All of a small file, from the store where there is one: a copy here may be older. Raises DataError where it is not there."""
    if not os.environ.get(PREFIX_VARIABLE):
        return Path(path).read_bytes()
    bucket, key = _key(path)
    return _asked("get_object", path, Bucket=bucket, Key=key)["Body"].read()


def _asked(question: str, path: Path | str, **named: str) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return getattr(client(), question)(**named)
    except (BotoCoreError, ClientError) as error:
        raise DataError(
            f"{os.environ[PREFIX_VARIABLE]}/{path} cannot be read ({error}); see that the store has it"
        ) from error


def _key(path: Path | str) -> tuple[str, str]:
    bucket, _, folder = os.environ[PREFIX_VARIABLE].removeprefix("s3://").partition("/")
    inside = workflow_path(str(path)).as_posix()
    return bucket, f"{folder}/{inside}" if folder else inside


@cache
def client() -> Any:
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
    """GDAL's own variables for an endpoint that is not AWS's."""
    told = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not told:
        return {}
    url = urlsplit(told)
    return {
        "AWS_S3_ENDPOINT": url.netloc,
        "AWS_HTTPS": "YES" if url.scheme == "https" else "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }
