"""Tampering with a finished run, in a copy of its results: an audit names the file, and what follows from it."""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from support.tampering import edit, flip_many, told

from jointseg.audit import releases
from jointseg.audit.verify import verify_results
from jointseg.provenance.digest import file_digest
from jointseg.provenance.manifest import sealed

SCENES = "sentinel2/scenes/2021"
CHECKPOINT = "superres/adversarial.safetensors"


@pytest.fixture(scope="module")
def original(flow, tmp_path_factory) -> Path:
    """A released copy of the run."""
    folder = tmp_path_factory.mktemp("tamper") / "mini"
    shutil.copytree(flow.results, folder)
    for message in ("first", "second"):
        report = verify_results(folder)
        assert report.findings == []
        releases.write(folder, report.hashes, message, None)
    return folder


@pytest.fixture
def results(original, tmp_path) -> Path:
    """A copy to spoil. Links are enough: what a test changes it writes anew."""
    return shutil.copytree(original, tmp_path / "mini", copy_function=os.link)


def replace(path: Path, content: bytes) -> None:
    """Puts other bytes at a path, with the date that was there."""
    status = path.stat()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_two_hundred_single_bits(original):
    flips = flip_many(original, 200, seed=11)
    assert {"isa", "manifests", "dataset", "sentinel2", "releases", "report"} <= flips.keys()


def test_a_dropped_scene(results):
    path, other = sorted((results / SCENES).glob("*.json"))[:2]
    listed = json.loads(path.read_text())
    assert len(listed["scenes"]) > 1
    del listed["scenes"][0]
    # Snakemake touches outputs after the job, a second later at times, when a kept date is no more too old.
    made = json.loads((results / f"manifests/scenes/2021/{path.stem}.json").read_text())
    finished = datetime.fromisoformat(made["finished"]).timestamp()
    os.utime(path, (finished, finished))
    replace(path, json.dumps(listed, indent=1).encode())
    inside = f"{SCENES}/{path.name}"
    report = verify_results(results)
    assert [(finding.kind, finding.path) for finding in report.findings] == [("changed", inside)]
    assert "its date is older than the change" in report.findings[0].detail
    followers = {f"sentinel2/composites/2021/{path.stem}.tif", f"isa/2021/{path.stem}.tif", "accuracy/accuracy.csv"}
    assert followers <= set(report.descendants)
    assert f"sentinel2/composites/2021/{other.stem}.tif" not in report.descendants


def test_a_replaced_checkpoint(results):
    replace(results / CHECKPOINT, (results / "superres/stage2.safetensors").read_bytes())
    report = verify_results(results)
    assert [(finding.kind, finding.path) for finding in report.findings] == [("swapped", CHECKPOINT)]
    assert "its bytes are those of superres/stage2.safetensors" in report.findings[0].detail
    assert {each for each in report.descendants if each.startswith("isa/")}


def test_swapped_tiles_with_their_dates_kept(results):
    one, two = sorted((results / "isa/2021").glob("*.tif"))[:2]
    first, second = one.read_bytes(), two.read_bytes()
    replace(one, second)
    replace(two, first)
    assert [(kind, path) for kind, path, _ in told(results)] == [
        ("swapped", f"isa/2021/{one.name}"),
        ("swapped", f"isa/2021/{two.name}"),
    ]


def test_another_file_and_a_manifest_made_to_fit(results):
    tile = sorted((results / "isa/2021").glob("*.tif"))[0]
    content = bytearray(tile.read_bytes())
    content[-1] ^= 1
    replace(tile, bytes(content))
    manifest = results / f"manifests/predict/2021/{tile.stem}.json"
    replace(manifest, manifest.read_bytes())  # no link any more
    edit(manifest, lambda written: written["outputs"][0].update(sha256=file_digest(tile)), sealed)
    found = told(results)
    assert ("unreleased", f"manifests/predict/2021/{tile.stem}.json", "") in found
    # Jobs that took the tile or the manifest say what they took.
    inside = {f"isa/2021/{tile.name}", f"manifests/predict/2021/{tile.stem}.json"}
    assert {(kind, path in inside) for kind, path, _ in found} == {("unreleased", True), ("inconsistent", True)}


def test_edited_parameters_sealed_again(results):
    manifest = results / "manifests/segmentation/superres.json"
    replace(manifest, manifest.read_bytes())
    edit(manifest, lambda written: written["params"].update(seed=12345), sealed)
    found = told(results)
    assert ("unreleased", "manifests/segmentation/superres.json", "") in found
    assert {path for _, path, _ in found} == {"manifests/segmentation/superres.json"}
