"""The release: its content, reproducibility and errors."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.provenance_release import GEOREFERENCE, TILE, config, make, publish

from jointseg.config.load import read_config
from jointseg.provenance.digest import file_digest
from jointseg.raster import cog
from jointseg.runtime.errors import DataError


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_release_contains_no_times_hosts_or_credentials(results, tmp_path):
    job = json.loads((results / f"manifests/predict/2021/{TILE}.json").read_text())
    for name, content in files(publish(results)).items():
        for private in (str(tmp_path), job["host"], job["started"], job["finished"], "/keys/secret.json"):
            assert private.encode() not in content, (name, private)


def test_release_is_reproducible(results):
    first = files(publish(results))
    for path in (results / "manifests").rglob("*.json"):
        record = json.loads(path.read_text())
        record |= {"started": "2030-01-01T00:00:00Z", "host": "other", "user": "other", "seconds": 9}
        path.write_text(json.dumps(record))
    shutil.rmtree(results / "release")
    assert files(publish(results)) == first


def test_checksums_are_complete_and_valid_for_sha256sum(results):
    folder = publish(results)
    listed = {line.split("  ")[1] for line in (folder / "checksums.sha256").read_text().splitlines()}
    assert {name for name in listed if not name.startswith("../")} == files(folder).keys() - {"checksums.sha256"}
    assert f"../isa/2023/{TILE}.tif" in listed and "../report/index.html" in listed
    check = ["sha256sum", "-c", "checksums.sha256"]
    done = subprocess.run(check, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (results / "mosaics/2021/Hefei.tif").write_bytes(b"other")
    assert subprocess.run(check, cwd=folder, capture_output=True, check=False).returncode


def test_released_config_is_valid(results):
    folder = publish(results)
    released = read_config(folder / "workflow/config.yaml").model_dump(mode="json")
    expected = config()
    expected["sentinel2"]["source"]["service_account"] = None
    assert released == expected
    assert (folder / "workflow/rules/common.smk").is_file()


def test_release_without_test_chips(results):
    assert "Not measured" in (publish(results, accuracy=None) / "README.md").read_text()


def test_error_names_map_without_manifest(results):
    (results / f"manifests/predict/2021/{TILE}.json").unlink()
    with pytest.raises(DataError, match=rf"isa/2021/{TILE}\.tif"):
        publish(results)
    assert not (results / "release").exists()


def test_error_names_map_of_other_size(results):
    with open(results / f"isa/2021/{TILE}.tif", "ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="bytes, its manifest has"):
        publish(results)


def test_error_names_map_with_invalid_codes(results):
    path, manifest = results / f"isa/2021/{TILE}.tif", results / f"manifests/predict/2021/{TILE}.json"
    cog.write(path, np.array([[[0, 1], [2, 3]]], dtype="uint8"), **GEOREFERENCE, nodata=255)
    record = json.loads(manifest.read_text())
    record["outputs"][0] |= {"size": path.stat().st_size, "sha256": file_digest(path)}
    manifest.write_text(json.dumps(record))
    with pytest.raises(DataError, match=rf"{TILE}\.tif has 2 pixels with codes other than 0, 1 and 255"):
        publish(results)


def test_error_names_invalid_checkpoint(results):
    other = Path("other.safetensors")
    other.write_bytes(b"weights")
    with pytest.raises(DataError, match=r"other\.safetensors cannot be read"):
        publish(results, checkpoints=[other])
