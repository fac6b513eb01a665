"""The audit finds what is not as the manifests say, and nothing else."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from provenance_flow import make

from jointseg.audit.verify import audit
from jointseg.errors import DataError
from jointseg.provenance.manifest import read


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make()
    (tmp_path / "results/toy/maps/a/.snakemake_timestamp").write_text("")
    (tmp_path / "results/toy/benchmarks").mkdir()
    (tmp_path / "results/toy/benchmarks/maps.tsv").write_text("s\n1\n")
    return tmp_path / "results/toy"


def found(results: Path) -> list[tuple[str, str, str]]:
    return [(finding.kind, finding.path, finding.manifest) for finding in audit(results).findings]


def test_an_untouched_folder_is_clean(results):
    report = audit(results)
    assert report.findings == []
    assert (report.files, report.manifests, report.outside_inputs) == (3, 2, 1)
    assert report.bytes == len("one" + "two" + "one.txttwo.txt")
    assert report.as_json()["clean"] is True


def test_a_moved_folder_is_clean(results, tmp_path, monkeypatch):
    shutil.move(results, tmp_path / "elsewhere")
    monkeypatch.chdir("/")
    assert found(tmp_path / "elsewhere") == []


def test_missing(results):
    (results / "maps/a/sub/two.txt").unlink()
    assert found(results) == [("missing", "maps/a/sub/two.txt", "maps/a")]


def test_changed(results):
    (results / "total.txt").write_text("something else")
    assert found(results) == [("changed", "total.txt", "total")]


def test_swapped_with_their_dates_kept(results):
    one, two = results / "maps/a/one.txt", results / "maps/a/sub/two.txt"
    times = {path: path.stat() for path in (one, two)}
    one.write_text("two")
    two.write_text("one")
    for path, status in times.items():
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert found(results) == [("changed", "maps/a/one.txt", "maps/a"), ("changed", "maps/a/sub/two.txt", "maps/a")]


def test_made_by_nobody(results):
    (results / "maps/a/three.txt").write_text("three")
    (results / "manifests/note.txt").write_text("note")
    assert found(results) == [("unmade", "manifests/note.txt", ""), ("unmade", "maps/a/three.txt", "")]


def test_every_single_bit_counts(results):
    chance = random.Random(7)
    for _ in range(30):
        path = results / chance.choice(["total.txt", "maps/a/one.txt", "maps/a/sub/two.txt"])
        content = bytearray(path.read_bytes())
        before = bytes(content)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        assert [(kind, name) for kind, name, _ in found(results)] == [("changed", path.relative_to(results).as_posix())]
        path.write_bytes(before)


def test_descended_from_another_version(results):
    (results / "maps/a/one.txt").write_text("ONE")
    file = results / "manifests/maps/a.json"
    written = json.loads(file.read_text())
    written["outputs"][0]["sha256"] = "0" * 64
    written["outputs"][0]["files"][0]["sha256"] = "0" * 64
    file.write_text(json.dumps(written))
    assert ("descended", "maps/a", "total") in found(results)


def test_an_input_without_a_maker(results):
    (results / "manifests/maps/a.json").unlink()
    assert found(results) == [
        ("descended", "maps/a", "total"),
        ("unmade", "maps/a/one.txt", ""),
        ("unmade", "maps/a/sub/two.txt", ""),
    ]


def test_two_manifests_that_disagree(results):
    written = json.loads((results / "manifests/total.json").read_text())
    written["outputs"][0]["sha256"] = "0" * 64
    (results / "manifests/zotal.json").write_text(json.dumps(written))
    assert ("disputed", "total.txt", "zotal") in found(results)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "jointseg/manifest/1"}', '{"schema": "other"}', "\xff"])
def test_a_broken_manifest_is_named(results, text):
    file = results / "manifests/total.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"total\.json"):
        read(file)
    assert found(results) == [("broken", "manifests/total.json", "manifests/total.json"), ("unmade", "total.txt", "")]


def test_an_unreadable_file_is_a_finding(results):
    (results / "total.txt").unlink()
    (results / "total.txt").symlink_to("nowhere")
    assert found(results) == [("changed", "total.txt", "total")]


def test_a_folder_without_manifests_is_refused(tmp_path):
    with pytest.raises(DataError, match="manifests"):
        audit(tmp_path)


def test_progress_counts_every_byte(results):
    counted: list[int] = []
    totals: list[int] = []
    report = audit(results, begun=totals.append, advance=counted.append)
    assert totals == [report.bytes] == [sum(counted)]
