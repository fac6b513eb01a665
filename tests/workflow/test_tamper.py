"""Tampering with a copy of a run: the audit finds the file, and everything derived from it."""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from support.tampering import edit, findings, flip_many

from jointseg.audit import releases
from jointseg.audit.verify import verify_results
from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import sealed

SCENES = "sentinel2/scenes/2021"
CHECKPOINT = "superres/adversarial.safetensors"


@pytest.fixture(scope="module")
def original(finished, tmp_path_factory) -> Path:
    """A released copy of the run."""
    folder = tmp_path_factory.mktemp("tamper") / "mini"
    shutil.copytree(finished.results, folder)
    for message in ("first", "second"):
        report = verify_results(folder)
        assert report.findings == []
        releases.write(folder, report.hashes, message, None)
    return folder


@pytest.fixture
def results(original, tmp_path) -> Path:
    """A copy to tamper with, of hard links: tests replace files instead of writing to them."""
    return shutil.copytree(original, tmp_path / "mini", copy_function=os.link)


def replace(path: Path, content: bytes) -> None:
    """Replace the bytes of a file, and keep its date."""
    status = path.stat()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_two_hundred_flipped_bits(original):
    flips = flip_many(original, 200, seed=11)
    assert {"isa", "manifests", "dataset", "sentinel2", "releases", "report"} <= flips.keys()


def test_scene_removed_from_a_list(results):
    path, other = sorted((results / SCENES).glob("*.json"))[:2]
    listed = json.loads(path.read_text())
    assert len(listed["scenes"]) > 1
    del listed["scenes"][0]
    # Snakemake may touch outputs a second after the job; the kept date must be older than the change.
    manifest = json.loads((results / f"manifests/scenes/2021/{path.stem}.json").read_text())
    finished = datetime.fromisoformat(manifest["finished"]).timestamp()
    os.utime(path, (finished, finished))
    replace(path, json.dumps(listed, indent=1).encode())
    inside = f"{SCENES}/{path.name}"
    report = verify_results(results)
    assert [(finding.kind, finding.path) for finding in report.findings] == [("changed", inside)]
    assert "its modification time predates the change" in report.findings[0].detail
    derived = {f"sentinel2/composites/2021/{path.stem}.tif", f"isa/2021/{path.stem}.tif", "accuracy/accuracy.csv"}
    assert derived <= set(report.descendants)
    assert f"sentinel2/composites/2021/{other.stem}.tif" not in report.descendants


def test_replaced_checkpoint(results):
    replace(results / CHECKPOINT, (results / "superres/stage2.safetensors").read_bytes())
    report = verify_results(results)
    assert [(finding.kind, finding.path) for finding in report.findings] == [("swapped", CHECKPOINT)]
    assert "it has the content of superres/stage2.safetensors" in report.findings[0].detail
    assert any(path.startswith("isa/") for path in report.descendants)


def test_swapped_tiles_with_kept_dates(results):
    one, two = sorted((results / "isa/2021").glob("*.tif"))[:2]
    first, second = one.read_bytes(), two.read_bytes()
    replace(one, second)
    replace(two, first)
    assert [(kind, path) for kind, path, _ in findings(results)] == [
        ("swapped", f"isa/2021/{one.name}"),
        ("swapped", f"isa/2021/{two.name}"),
    ]


def test_changed_file_with_an_edited_manifest(results):
    tile = sorted((results / "isa/2021").glob("*.tif"))[0]
    content = bytearray(tile.read_bytes())
    content[-1] ^= 1
    replace(tile, bytes(content))
    manifest = results / f"manifests/predict/2021/{tile.stem}.json"
    replace(manifest, manifest.read_bytes())  # breaks the hard link
    edit(manifest, lambda written: written["outputs"][0].update(sha256=file_digest(tile)), sealed)
    found = findings(results)
    assert ("unreleased", f"manifests/predict/2021/{tile.stem}.json", "") in found
    # Manifests of jobs that read the tile or the manifest have its original checksum.
    inside = {f"isa/2021/{tile.name}", f"manifests/predict/2021/{tile.stem}.json"}
    assert {(kind, path in inside) for kind, path, _ in found} == {("unreleased", True), ("inconsistent", True)}


def test_edited_params_in_a_resealed_manifest(results):
    manifest = results / "manifests/segmentation/superres.json"
    replace(manifest, manifest.read_bytes())
    edit(manifest, lambda written: written["params"].update(seed=12345), sealed)
    found = findings(results)
    assert ("unreleased", "manifests/segmentation/superres.json", "") in found
    assert {path for _, path, _ in found} == {"manifests/segmentation/superres.json"}
