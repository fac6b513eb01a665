"""Paths in an object store: one workflow path per file, range reads, local copies; against an S3 server on localhost."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from support.loopback_s3 import BUCKET, FOLDER, PREFIX, object_store_server

from jointseg.provenance import remote_input
from jointseg.provenance.cache_key import cache_key
from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import sealed
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime import object_store
from jointseg.runtime.errors import DataError

RASTER = Path("results/x/sentinel2/composites/2021/50N_E0660_N3540.tif")
MANIFEST = Path("results/x/manifests/composite/2021/50N_E0660_N3540.json")
VARIABLES = (
    object_store.PREFIX_VARIABLE,
    object_store.LOCAL_VARIABLE,
    *("AWS_S3_ENDPOINT", "AWS_HTTPS", "AWS_VIRTUAL_HOSTING"),
    *object_store.GDAL_OPTIONS,
)


@pytest.fixture(scope="module")
def server():
    with object_store_server() as store:
        yield store


@pytest.fixture
def upload(server, tmp_path, monkeypatch):
    """A configured store with a job's working directory; the value is a function that moves a local file to the store."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    object_store.client.cache_clear()
    assert object_store.configure(settings()) == PREFIX
    for name in VARIABLES:
        monkeypatch.setenv(name, object_store.os.environ[name])  # restored after the test
    client = object_store.client()
    client.create_bucket(Bucket=BUCKET)
    object_store.enter_local_copy()

    def move(path):
        client.upload_file(str(path), BUCKET, f"{FOLDER}/{path}")
        path.unlink()

    yield move
    server.empty("results/x")


def settings(**change):
    values = {
        "default_storage_provider": "s3",
        "default_storage_prefix": PREFIX,
        "local_storage_prefix": Path(".snakemake/storage"),
    }
    return SimpleNamespace(**values | change)


def write_raster(size=64):
    array = np.random.default_rng(1).integers(0, 9999, (2, size, size), dtype=np.uint16)
    cog.write(RASTER, array, crs="EPSG:32650", transform=Affine(10, 0, 660000, 0, -10, 3550000), nodata=0, block_px=16)
    return array


def write_manifest(**change):
    entry = {
        "name": "composite",
        "path": RASTER.as_posix(),
        "sha256": file_digest(RASTER),
        "size": RASTER.stat().st_size,
    }
    MANIFEST.parent.mkdir(parents=True, exist_ok=True)
    MANIFEST.write_text(sealed({"outputs": [entry | change]}))


def test_store_url_and_local_copy_have_one_workflow_path(upload):
    assert object_store.workflow_path(f"{PREFIX}/{RASTER}") == RASTER
    assert object_store.workflow_path(f".snakemake/storage/s3/{BUCKET}/{FOLDER}/{RASTER}") == RASTER
    assert object_store.workflow_path(str(RASTER)) == RASTER and object_store.workflow_path("/mnt/key.json") == Path(
        "/mnt/key.json"
    )
    assert Path.cwd().parts[-5:] == (".snakemake", "storage", "s3", BUCKET, FOLDER)


def test_raster_in_the_store_is_read_by_range(upload, server):
    array = write_raster(512)
    upload(RASTER)
    server.requests.clear()
    window, _, _ = raster_io.read(RASTER, (660000, 3549680, 660320, 3550000))
    assert np.array_equal(window, array[:, :32, :32])
    requests = [request for request in server.requests if request.endswith(f"{RASTER.name}")]
    assert requests and all(request.startswith("bytes=") for request in requests)
    ranges = [request[6:].split(" ")[0].split("-") for request in requests]
    read = sum(int(last) - int(first) + 1 for first, last in ranges)
    assert read < object_store.size(RASTER) / 4


def test_local_file_is_read_locally(upload, server):
    array = write_raster()
    server.requests.clear()
    assert np.array_equal(raster_io.read(RASTER)[0], array) and not server.requests


def test_local_copies_of_a_killed_run_are_removed_except_resumable_state(upload, monkeypatch):
    monkeypatch.setenv(object_store.LOCAL_VARIABLE, str(Path.cwd()))
    write_raster()
    rows = Path("results/x/.jointseg/isa/rows")
    other = Path("results/y/kept.tif")
    for path in (rows, other):
        path.parent.mkdir(parents=True)
        path.touch()
    object_store.remove_local_copies("results/x")
    assert [path.name for path in Path("results/x").iterdir()] == [".jointseg"] and rows.exists() and other.exists()
    object_store.remove_local_copies("results/none")
    with pytest.raises(DataError, match="is an absolute path"):
        object_store.remove_local_copies("/results/x")


def test_read_and_exists(upload):
    MANIFEST.parent.mkdir(parents=True)
    MANIFEST.write_text("{}")
    upload(MANIFEST)
    assert object_store.read(MANIFEST) == b"{}" and object_store.read(f"{PREFIX}/{MANIFEST}") == b"{}"
    assert (
        object_store.exists(MANIFEST)
        and object_store.exists(MANIFEST.parent)
        and not object_store.exists("results/x/manifests/comp")
    )
    with pytest.raises(DataError, match=f"{PREFIX}/{RASTER} cannot be read .* check that the store has it"):
        object_store.read(RASTER)


def test_checksum_of_a_remote_raster_comes_from_its_manifest(upload):
    write_raster()
    digest = file_digest(RASTER)
    write_manifest()
    upload(MANIFEST)
    key = cache_key("jointseg.runtime.object_store", [RASTER], {})
    upload(RASTER)
    assert remote_input.recorded_entry(RASTER).sha256 == digest
    assert cache_key("jointseg.runtime.object_store", [RASTER], {}) == key


@pytest.mark.parametrize("change", [{"size": 1}, {"path": "results/x/other.tif"}])
def test_remote_raster_that_differs_from_its_manifest_is_an_error(upload, change):
    write_raster()
    write_manifest(**change)
    upload(MANIFEST)
    upload(RASTER)
    with pytest.raises(DataError, match=f"{RASTER} does not match its manifest {MANIFEST}; rebuild it"):
        remote_input.recorded_entry(RASTER)


def test_manifest_with_a_broken_seal_is_an_error(upload):
    write_raster()
    write_manifest()
    MANIFEST.write_text(MANIFEST.read_text().replace('"size"', '"Size"'))
    upload(MANIFEST)
    upload(RASTER)
    with pytest.raises(DataError, match="its seal does not match"):
        remote_input.recorded_entry(RASTER)


@pytest.mark.parametrize(
    "change",
    [{"default_storage_prefix": None}, {"default_storage_prefix": "belt/maps"}, {"default_storage_provider": "gcs"}],
)
def test_storage_settings_other_than_s3_are_an_error(upload, change):
    with pytest.raises(DataError, match=r"rasters cannot be read from .*; use s3 and s3://BUCKET/FOLDER"):
        object_store.configure(settings(**change))


def test_without_a_store_paths_are_local(monkeypatch, tmp_path):
    monkeypatch.setenv(object_store.PREFIX_VARIABLE, PREFIX)
    assert object_store.configure(settings(default_storage_provider=None)) == ""
    assert object_store.gdal_path(RASTER) == str(RASTER)
    file = tmp_path / "x.json"
    file.write_text(json.dumps({}))
    assert object_store.exists(file) and object_store.read(file) == b"{}"
