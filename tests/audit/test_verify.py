"""Verification of a results folder reports every deviation from the manifests, and nothing else."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from support.tampering import edit, findings, flip_many

from jointseg.audit import hashing, releases
from jointseg.audit.verify import PASS, verify_results
from jointseg.provenance.digest import Entry, tree_hash
from jointseg.provenance.manifest import read, sealed
from jointseg.runtime.errors import DataError

LONG_AGO = 1_600_000_000


@pytest.fixture
def results(results):
    (results / "maps/a/.snakemake_timestamp").write_text("")
    (results / "benchmarks").mkdir()
    (results / "benchmarks/maps.tsv").write_text("s\n1\n")
    return results


@pytest.fixture
def released(results):
    releases.write(results, verify_results(results).hashes, "the first", None)
    return results


def test_unchanged_folder_is_clean(results):
    report = verify_results(results)
    assert report.findings == []
    assert (report.files, report.manifests, report.outside_inputs) == (3, 2, 1)
    assert report.bytes == len("one" + "two" + "one.txttwo.txt")
    assert report.as_json()["clean"] is True


def test_moved_folder_is_clean(results, tmp_path, monkeypatch):
    shutil.move(results, tmp_path / "elsewhere")
    monkeypatch.chdir("/")
    assert findings(tmp_path / "elsewhere") == []


def test_missing_file(results):
    (results / "maps/a/sub/two.txt").unlink()
    assert findings(results) == [("missing", "maps/a/sub/two.txt", "maps/a")]


def test_changed_file(results):
    (results / "total.txt").write_text("something else")
    assert findings(results) == [("changed", "total.txt", "total")]


def test_swapped_files_with_old_dates(results):
    one, two = results / "maps/a/one.txt", results / "maps/a/sub/two.txt"
    one.write_text("two")
    two.write_text("one")
    for path in (one, two):
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert findings(results) == [("swapped", "maps/a/one.txt", "maps/a"), ("swapped", "maps/a/sub/two.txt", "maps/a")]
    first, second = verify_results(results).findings
    assert "it has the content of maps/a/sub/two.txt" in first.detail
    assert "it has the content of maps/a/one.txt" in second.detail
    assert "its modification time predates the change" in first.detail


def test_changed_file_of_same_size_and_date(results):
    path = results / "total.txt"
    os.utime(path, (LONG_AGO, LONG_AGO))
    path.write_text("x" * path.stat().st_size)
    os.utime(path, (LONG_AGO, LONG_AGO))
    (finding,) = verify_results(results).findings
    assert (finding.kind, finding.path) == ("changed", "total.txt")
    assert finding.detail.endswith("its modification time predates the change")
    assert "bytes, expected" not in finding.detail


def test_date_after_the_job_is_not_reported(results):
    path = results / "total.txt"
    path.write_text("something else")
    os.utime(path, (time.time() + 60, time.time() + 60))
    assert "predates" not in verify_results(results).findings[0].detail


def test_emptied_file_is_changed_not_swapped(results):
    (results / "maps/a/one.txt").write_text("")
    assert findings(results) == [("changed", "maps/a/one.txt", "maps/a")]


def test_undeclared_files(results):
    (results / "maps/a/three.txt").write_text("three")
    (results / "manifests/note.txt").write_text("note")
    assert findings(results) == [("undeclared", "manifests/note.txt", ""), ("undeclared", "maps/a/three.txt", "")]


@pytest.mark.parametrize("signed", [False, True])
def test_200_single_bit_flips(results, tmp_path, signed):
    key = None
    if signed:
        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    for message in ("first", "second"):
        releases.write(results, verify_results(results).hashes, message, key)
    flips = flip_many(results, 200, seed=7)
    assert flips == {".": 50, "manifests": 50, "maps": 50, "releases": 50}


def test_descendants_of_changed_files(results):
    (results / "maps/a/one.txt").write_text("ONE")
    assert verify_results(results).descendants == ["total.txt"]
    (results / "total.txt").write_text("TOTAL")
    assert verify_results(results).descendants == []


def test_edited_manifest_without_seal(results):
    edit(results / "manifests/total.json", lambda record: record["params"].update(factor=3))
    assert findings(results) == [("edited", "manifests/total.json", "total")]
    assert "it has no seal" in verify_results(results).findings[0].detail


def test_edited_manifest_with_old_seal(results):
    file = results / "manifests/maps/a.json"
    file.write_text(file.read_text().replace('"factor": 2', '"factor": 3'))
    report = verify_results(results)
    assert [(each.kind, each.path) for each in report.findings] == [("edited", "manifests/maps/a.json")]
    assert report.descendants == ["total.txt"]


def forge(results: Path) -> None:
    """Change a file and its manifest consistently, with a new seal."""
    (results / "total.txt").write_text("forged content")
    entry = hashing.hash_files(results, {"total.txt": 14}, hashing.HashingPass(results / PASS))["total.txt"]
    change = {"sha256": entry.sha256, "size": entry.size}
    edit(results / "manifests/total.json", lambda record: record["outputs"][0].update(change), sealed)


def test_release_detects_edit_with_new_seal(released):
    forge(released)
    assert findings(released) == [("unreleased", "manifests/total.json", "")]


def test_edit_with_new_seal_is_undetected_without_release(results):
    forge(results)
    assert findings(results) == []


def test_edited_checksum_of_changed_file(results):
    (results / "maps/a/one.txt").write_text("ONE")
    digest = hashing.hash_files(results, {"maps/a/one.txt": 3}, hashing.HashingPass(results / PASS))[
        "maps/a/one.txt"
    ].sha256
    edit(
        results / "manifests/maps/a.json",
        lambda record: record["outputs"][0]["files"][0].update(sha256=digest),
        sealed,
    )
    assert findings(results) == [
        ("edited", "manifests/maps/a.json", "maps/a")
    ]  # the checksum does not match the list of files

    def update_folder(record: dict) -> None:
        output = record["outputs"][0]
        output["sha256"] = tree_hash(Entry(**each) for each in output["files"])

    edit(results / "manifests/maps/a.json", update_folder, sealed)
    assert findings(results) == [("inconsistent", "maps/a", "total")]


def test_swapped_manifests(results):
    one, two = results / "manifests/maps/a.json", results / "manifests/total.json"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert findings(results) == [
        ("swapped", "manifests/maps/a.json", "maps/a"),
        ("swapped", "manifests/total.json", "total"),
    ]


def test_edited_manifest_does_not_claim_files_of_other_jobs(results):
    edit(results / "manifests/maps/a.json", lambda record: record["outputs"][0].update(path="results/toy/total.txt"))
    kinds = {(kind, path) for kind, path, _ in findings(results)}
    assert ("edited", "manifests/maps/a.json") in kinds and ("changed", "total.txt") not in kinds


def test_input_of_another_version(results):
    (results / "maps/a/one.txt").write_text("ONE")
    file = results / "manifests/maps/a.json"
    record = json.loads(file.read_text())
    record["outputs"][0]["sha256"] = "0" * 64
    record["outputs"][0]["files"][0]["sha256"] = "0" * 64
    file.write_text(sealed(record))
    assert ("inconsistent", "maps/a", "total") in findings(results)


def test_input_without_producer(results):
    (results / "manifests/maps/a.json").unlink()
    assert findings(results) == [
        ("inconsistent", "maps/a", "total"),
        ("undeclared", "maps/a/one.txt", ""),
        ("undeclared", "maps/a/sub/two.txt", ""),
    ]


def test_conflicting_manifests(results):
    record = json.loads((results / "manifests/total.json").read_text())
    record["outputs"][0]["sha256"] = "0" * 64
    (results / "manifests/zotal.json").write_text(json.dumps(record))
    assert ("conflicting", "total.txt", "zotal") in findings(results)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "jointseg/manifest/1"}', '{"schema": "other"}', "\xff"])
def test_unreadable_manifest(results, text):
    file = results / "manifests/total.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"total\.json"):
        read(file)
    assert findings(results) == [
        ("undeclared", "total.txt", ""),
        ("unreadable", "manifests/total.json", "manifests/total.json"),
    ]


def test_unreadable_file(results):
    (results / "total.txt").unlink()
    (results / "total.txt").symlink_to("nowhere")
    assert findings(results) == [("changed", "total.txt", "total")]


def test_error_for_folder_without_manifests(tmp_path):
    with pytest.raises(DataError, match="manifests"):
        verify_results(tmp_path)


def test_progress_counts_every_byte(results):
    counted: list[int] = []
    totals: list[int] = []
    report = verify_results(results, on_start=totals.append, advance=counted.append)
    assert totals == [report.bytes] == [sum(counted)]


def test_pipe_instead_of_file(results):
    (results / "total.txt").unlink()
    os.mkfifo(results / "total.txt")
    assert findings(results) == [("changed", "total.txt", "total")]


def test_folder_behind_a_link(results, tmp_path):
    shutil.move(results / "maps", tmp_path / "maps")
    (results / "maps").symlink_to(tmp_path / "maps")
    (tmp_path / "maps/a/round").symlink_to(tmp_path / "maps")
    assert findings(results) == []
    (tmp_path / "maps/a/one.txt").write_text("ONE")
    assert findings(results) == [("changed", "maps/a/one.txt", "maps/a")]
