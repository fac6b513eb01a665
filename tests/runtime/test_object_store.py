"""Paths that mean the same whether a file lies here or in a store; on a store of this machine."""

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


@pytest.fixture(scope="module")
def shared():
    with object_store_server() as made:
        yield made


@pytest.fixture
def entered(shared, tmp_path, monkeypatch):
    """A job's working directory, and a way to put its files into the store and away from here."""
    for name in (
        object_store.PREFIX_VARIABLE,
        object_store.LOCAL_VARIABLE,
        "AWS_S3_ENDPOINT",
        "AWS_HTTPS",
        "AWS_VIRTUAL_HOSTING",
        *object_store.GDAL_OPTIONS,
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in shared.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    object_store.client.cache_clear()
    assert object_store.configure(settings()) == PREFIX
    for name in (
        object_store.PREFIX_VARIABLE,
        object_store.LOCAL_VARIABLE,
        "AWS_S3_ENDPOINT",
        "AWS_HTTPS",
        "AWS_VIRTUAL_HOSTING",
        *object_store.GDAL_OPTIONS,
    ):
        monkeypatch.setenv(name, object_store.os.environ[name])  # undone after the test
    client = object_store.client()
    client.create_bucket(Bucket=BUCKET)
    object_store.enter_local_copy()

    def put(path):
        client.upload_file(str(path), BUCKET, f"{FOLDER}/{path}")
        path.unlink()

    yield put
    shared.empty("results/x")


def settings(**change):
    given = {
        "default_storage_provider": "s3",
        "default_storage_prefix": PREFIX,
        "local_storage_prefix": Path(".snakemake/storage"),
    }
    return SimpleNamespace(**given | change)


def made(size=64):
    array = np.random.default_rng(1).integers(0, 9999, (2, size, size), dtype=np.uint16)
    cog.write(RASTER, array, crs="EPSG:32650", transform=Affine(10, 0, 660000, 0, -10, 3550000), nodata=0, block_px=16)
    return array


def told(**change):
    entry = {
        "name": "composite",
        "path": RASTER.as_posix(),
        "sha256": file_digest(RASTER),
        "size": RASTER.stat().st_size,
    }
    MANIFEST.parent.mkdir(parents=True, exist_ok=True)
    MANIFEST.write_text(sealed({"outputs": [entry | change]}))


def test_a_file_has_one_name(entered):
    assert object_store.workflow_path(f"{PREFIX}/{RASTER}") == RASTER
    assert object_store.workflow_path(f".snakemake/storage/s3/{BUCKET}/{FOLDER}/{RASTER}") == RASTER
    assert object_store.workflow_path(str(RASTER)) == RASTER and object_store.workflow_path("/mnt/key.json") == Path(
        "/mnt/key.json"
    )
    assert Path.cwd().parts[-5:] == (".snakemake", "storage", "s3", BUCKET, FOLDER)


def test_a_raster_is_read_by_range(entered, shared):
    array = made(512)
    entered(RASTER)
    shared.requests.clear()
    window, _, _ = raster_io.read(RASTER, (660000, 3549680, 660320, 3550000))
    assert np.array_equal(window, array[:, :32, :32])
    asked = [each for each in shared.requests if each.endswith(f"{RASTER.name}")]
    assert asked and all(each.startswith("bytes=") for each in asked)
    read = sum(int(high) - int(low) + 1 for low, high in (each[6:].split(" ")[0].split("-") for each in asked))
    assert read < object_store.size(RASTER) / 4


def test_what_is_here_is_read_here(entered, shared):
    array = made()
    shared.requests.clear()
    assert np.array_equal(raster_io.read(RASTER)[0], array) and not shared.requests


def test_copies_that_a_killed_run_left_are_removed_but_for_half_done_work(entered, monkeypatch):
    monkeypatch.setenv(object_store.LOCAL_VARIABLE, str(Path.cwd()))
    made()
    rows = Path("results/x/.jointseg/isa/rows")
    other = Path("results/y/kept.tif")
    for path in (rows, other):
        path.parent.mkdir(parents=True)
        path.touch()
    object_store.remove_local_copies("results/x")
    assert [path.name for path in Path("results/x").iterdir()] == [".jointseg"] and rows.exists() and other.exists()
    object_store.remove_local_copies("results/none")
    with pytest.raises(DataError, match="named from the root"):
        object_store.remove_local_copies("/results/x")


def test_small_files_and_what_is_there(entered):
    MANIFEST.parent.mkdir(parents=True)
    MANIFEST.write_text("{}")
    entered(MANIFEST)
    assert object_store.read(MANIFEST) == b"{}" and object_store.read(f"{PREFIX}/{MANIFEST}") == b"{}"
    assert (
        object_store.exists(MANIFEST)
        and object_store.exists(MANIFEST.parent)
        and not object_store.exists("results/x/manifests/comp")
    )
    with pytest.raises(DataError, match=f"{PREFIX}/{RASTER} cannot be read .* see that the store has it"):
        object_store.read(RASTER)


def test_its_manifest_tells_what_a_raster_is(entered):
    made()
    digest = file_digest(RASTER)
    told()
    entered(MANIFEST)
    key = cache_key("jointseg.runtime.object_store", [RASTER], {})
    entered(RASTER)
    assert remote_input.recorded_entry(RASTER).sha256 == digest
    assert cache_key("jointseg.runtime.object_store", [RASTER], {}) == key


@pytest.mark.parametrize("change", [{"size": 1}, {"path": "results/x/other.tif"}])
def test_a_raster_that_its_manifest_does_not_tell_is_refused(entered, change):
    made()
    told(**change)
    entered(MANIFEST)
    entered(RASTER)
    with pytest.raises(DataError, match=f"{RASTER} is not what {MANIFEST} tells; make it again"):
        remote_input.recorded_entry(RASTER)


def test_a_broken_seal_is_refused(entered):
    made()
    told()
    MANIFEST.write_text(MANIFEST.read_text().replace('"size"', '"Size"'))
    entered(MANIFEST)
    entered(RASTER)
    with pytest.raises(DataError, match="is not what the job wrote"):
        remote_input.recorded_entry(RASTER)


@pytest.mark.parametrize(
    "change",
    [{"default_storage_prefix": None}, {"default_storage_prefix": "belt/maps"}, {"default_storage_provider": "gcs"}],
)
def test_a_store_that_rasters_cannot_be_read_from_is_refused(entered, change):
    with pytest.raises(DataError, match=r"none that rasters can be read from; give s3 and s3://BUCKET/FOLDER"):
        object_store.configure(settings(**change))


def test_without_a_store_paths_are_paths(monkeypatch, tmp_path):
    monkeypatch.setenv(object_store.PREFIX_VARIABLE, PREFIX)
    assert object_store.configure(settings(default_storage_provider=None)) == ""
    assert object_store.gdal_path(RASTER) == str(RASTER)
    file = tmp_path / "x.json"
    file.write_text(json.dumps({}))
    assert object_store.exists(file) and object_store.read(file) == b"{}"
