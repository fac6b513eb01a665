"""Pruning deletes files that can be rebuilt, and only those."""

import json
from pathlib import Path

import pytest
from support.command import run_command

from jointseg.audit import prune
from jointseg.audit.prune import PRUNED_LIST, delete, find_prunable, pruned_paths
from jointseg.audit.verify import verify_results
from jointseg.provenance.manifest import is_sealed
from jointseg.run.lock import InUseError, hold
from jointseg.runtime.errors import DataError

CHIPS = {"dataset/chips/east/a.tif", "dataset/chips/east/b.tif"}


@pytest.fixture
def run(run):
    (run / "benchmarks").mkdir()
    (run / "benchmarks/isa.tsv").write_text("s\n1\n")
    (run / "dataset/chips/east/.snakemake_timestamp").write_text("")
    return run


def existing(results: Path) -> set[str]:
    return {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}


def test_without_delete_nothing_is_deleted(run, capsys):
    before = existing(run)
    assert run_command("audit", "prune", run) == 0
    output = capsys.readouterr().out
    assert existing(run) == before
    assert "chips" in output and "--delete" in output and "jointseg run" in output


def test_prunable_kinds_with_size_duration_and_missing_inputs(run):
    by_kind = {each.kind: each for each in find_prunable(run)}
    assert list(by_kind) == ["chips", "logs", "benchmarks"]
    chips = by_kind["chips"]
    assert {each.path for each in chips.files} == CHIPS
    assert chips.bytes == sum((run / path).stat().st_size for path in CHIPS)
    seconds = json.loads((run / "manifests/chips.json").read_bytes())["seconds"]
    assert (chips.seconds, chips.missing, chips.prerequisites) == (seconds, [], [])
    assert by_kind["benchmarks"].seconds is None
    (run / "isa/2021.tif").unlink()
    assert find_prunable(run)[0].missing == ["results/a/isa/2021.tif"]
    assert [each.kind for each in find_prunable(run, keep=["chips", "logs"])] == ["benchmarks"]
    delete(run, find_prunable(run))
    assert existing(run) >= CHIPS  # they cannot be rebuilt
    with pytest.raises(DataError, match="unknown kind 'maps'"):
        find_prunable(run, keep=["maps"])


def test_delete_lists_files_with_checksums(run):
    before = existing(run)
    assert run_command("audit", "prune", run, "--delete", "--keep", "logs") == 0
    assert existing(run) - {PRUNED_LIST} == before - CHIPS - {
        "benchmarks/isa.tsv",
        "dataset/chips/east/.snakemake_timestamp",
    } | {".jointseg/run.lock"}
    assert not (run / "dataset").exists()  # Snakemake would accept an empty folder as the output
    content = (run / PRUNED_LIST).read_bytes()
    assert is_sealed(content)
    entries = {each["path"]: each for each in json.loads(content)["files"]}
    outputs = json.loads((run / "manifests/chips.json").read_bytes())["outputs"][0]["files"]
    assert {path: entries[path]["sha256"] for path in CHIPS} == {
        f"dataset/chips/east/{each['path']}": each["sha256"] for each in outputs
    }
    assert entries["dataset/chips/east/a.tif"]["producer"] == "chips" and entries["dataset/chips/east/a.tif"]["date"]
    assert pruned_paths(run) == CHIPS | {"benchmarks/isa.tsv"}


def test_changed_file_is_skipped(run, capsys):
    (run / "dataset/chips/east/b.tif").write_bytes(b"changed")
    assert run_command("audit", "prune", run, "--delete") == 1
    assert "skipped: dataset/chips/east/b.tif" in capsys.readouterr().out
    assert (run / "dataset/chips/east/b.tif").is_file() and not (run / "dataset/chips/east/a.tif").exists()
    assert "dataset/chips/east/b.tif" not in pruned_paths(run)


def test_interrupted_deletion_is_completed_by_a_rerun(run, monkeypatch):
    def stop(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        delete(run, find_prunable(run, keep=["logs"]), stop)
    assert len(existing(run) & CHIPS) == 1
    assert pruned_paths(run) == CHIPS | {"benchmarks/isa.tsv"}
    delete(run, find_prunable(run, keep=["logs"]))
    assert not existing(run) & CHIPS and pruned_paths(run) == CHIPS | {"benchmarks/isa.tsv"}


def test_list_is_written_before_the_first_deletion(run, monkeypatch):
    def full_disk(*args):
        raise OSError("no space left")

    before = existing(run)
    monkeypatch.setattr(prune.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        delete(run, find_prunable(run))
    assert existing(run) == before


def test_edited_list_is_an_error(run):
    delete(run, find_prunable(run))
    (run / PRUNED_LIST).write_text((run / PRUNED_LIST).read_text().replace("a.tif", "c.tif"))
    with pytest.raises(DataError, match="seal does not match"):
        pruned_paths(run)


def test_no_pruned_paths_without_a_list(run):
    assert pruned_paths(run) == set()


def test_delete_is_refused_during_a_run(run):
    with hold(run, ["jointseg", "run"]), pytest.raises(InUseError):
        run_command("audit", "prune", run, "--delete")
    assert existing(run) >= CHIPS


def test_pruned_files_are_no_findings_of_an_audit(run):
    assert verify_results(run).findings == []
    delete(run, find_prunable(run))
    report = verify_results(run)
    assert report.findings == [] and report.pruned == len(CHIPS)
    pruned_list = run / PRUNED_LIST
    pruned_list.write_text(pruned_list.read_text().replace("chips/east/a.tif", "chips/east/c.tif"))
    kinds = {(finding.kind, finding.path) for finding in verify_results(run).findings}
    assert kinds == {("edited", PRUNED_LIST), *(("missing", path) for path in CHIPS)}
