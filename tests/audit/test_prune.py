"""Pruning deletes what can be made again, says so first, and nothing else."""

import argparse
import json
from pathlib import Path

import pytest
from support.audit_flow import make

from jointseg.audit import prune as module
from jointseg.audit.prune import PRUNED_LIST, delete, find_prunable, pruned_paths
from jointseg.audit.verify import verify_results
from jointseg.cli.commands import prune as verb
from jointseg.provenance.manifest import is_sealed
from jointseg.run.lock import InUseError, hold
from jointseg.runtime.errors import DataError

CHIPS = {"dataset/chips/east/a.tif", "dataset/chips/east/b.tif"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = make("results/a")
    (results / "benchmarks").mkdir()
    (results / "benchmarks/isa.tsv").write_text("s\n1\n")
    (results / "dataset/chips/east/.snakemake_timestamp").write_text("")
    return results


def there(results: Path) -> set[str]:
    return {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}


def parse(*words: str) -> argparse.Namespace:
    verbs = argparse.ArgumentParser().add_subparsers()
    verb.add(verbs)
    return verbs.choices["prune"].parse_args(words)


def test_without_delete_nothing_is_touched(run, capsys):
    held = there(run)
    assert verb.run(parse(str(run))) == 0
    told = capsys.readouterr().out
    assert there(run) == held
    assert "chips" in told and "--delete" in told and "jointseg run" in told


def test_what_may_go_with_what_it_frees_and_what_it_takes_to_have_it_again(run):
    by_kind = {each.kind: each for each in find_prunable(run)}
    assert list(by_kind) == ["chips", "logs", "benchmarks"]
    chips = by_kind["chips"]
    assert {each.path for each in chips.files} == CHIPS
    assert chips.bytes == sum((run / path).stat().st_size for path in CHIPS)
    seconds = json.loads((run / "manifests/chips.json").read_bytes())["seconds"]
    assert (chips.seconds, chips.missing, chips.first) == (seconds, [], [])
    assert by_kind["benchmarks"].seconds is None
    (run / "isa/2021.tif").unlink()
    assert find_prunable(run)[0].missing == ["results/a/isa/2021.tif"]
    assert [each.kind for each in find_prunable(run, keep=["chips", "logs"])] == ["benchmarks"]
    delete(run, find_prunable(run))
    assert there(run) >= CHIPS  # they could not be made again
    with pytest.raises(DataError, match="no kind 'maps'"):
        find_prunable(run, keep=["maps"])


def test_delete_takes_only_that_and_lists_it_with_hashes(run):
    held = there(run)
    assert verb.run(parse(str(run), "--delete", "--keep", "logs")) == 0
    assert there(run) - {PRUNED_LIST} == held - CHIPS - {
        "benchmarks/isa.tsv",
        "dataset/chips/east/.snakemake_timestamp",
    } | {".jointseg/run.lock"}
    assert not (run / "dataset").exists()  # else Snakemake would take the empty folder for the output
    content = (run / PRUNED_LIST).read_bytes()
    assert is_sealed(content)
    entries = {each["path"]: each for each in json.loads(content)["files"]}
    made = json.loads((run / "manifests/chips.json").read_bytes())["outputs"][0]["files"]
    assert {path: entries[path]["sha256"] for path in CHIPS} == {
        f"dataset/chips/east/{each['path']}": each["sha256"] for each in made
    }
    assert entries["dataset/chips/east/a.tif"]["producer"] == "chips" and entries["dataset/chips/east/a.tif"]["date"]
    assert pruned_paths(run) == CHIPS | {"benchmarks/isa.tsv"}


def test_a_file_that_is_not_what_its_manifest_says_stays(run, capsys):
    (run / "dataset/chips/east/b.tif").write_bytes(b"changed")
    assert verb.run(parse(str(run), "--delete")) == 1
    assert "skipped: dataset/chips/east/b.tif" in capsys.readouterr().out
    assert (run / "dataset/chips/east/b.tif").is_file() and not (run / "dataset/chips/east/a.tif").exists()
    assert "dataset/chips/east/b.tif" not in pruned_paths(run)


def test_killed_half_way_the_list_is_whole_and_a_second_run_goes_on(run, monkeypatch):
    def stop(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        delete(run, find_prunable(run, keep=["logs"]), stop)
    assert len(there(run) & CHIPS) == 1
    assert pruned_paths(run) == CHIPS | {"benchmarks/isa.tsv"}
    delete(run, find_prunable(run, keep=["logs"]))
    assert not there(run) & CHIPS and pruned_paths(run) == CHIPS | {"benchmarks/isa.tsv"}


def test_the_list_is_written_before_the_first_file_goes(run, monkeypatch):
    def full(*given):
        raise OSError("no space left")

    held = there(run)
    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        delete(run, find_prunable(run))
    assert there(run) == held


def test_an_edited_list_is_not_believed(run):
    delete(run, find_prunable(run))
    (run / PRUNED_LIST).write_text((run / PRUNED_LIST).read_text().replace("a.tif", "c.tif"))
    with pytest.raises(DataError, match="not what its seal says"):
        pruned_paths(run)


def test_nothing_was_pruned_where_there_is_no_list(run):
    assert pruned_paths(run) == set()


def test_a_run_at_work_keeps_its_files(run):
    with hold(run, ["jointseg", "run"]), pytest.raises(InUseError):
        verb.run(parse(str(run), "--delete"))
    assert there(run) >= CHIPS


def test_what_was_pruned_is_no_finding_of_an_audit(run):
    assert verify_results(run).findings == []
    delete(run, find_prunable(run))
    report = verify_results(run)
    assert report.findings == [] and report.pruned == len(CHIPS)
    listed = run / PRUNED_LIST
    listed.write_text(listed.read_text().replace("chips/east/a.tif", "chips/east/c.tif"))
    kinds = {(finding.kind, finding.path) for finding in verify_results(run).findings}
    assert kinds == {("edited", PRUNED_LIST), *(("missing", path) for path in CHIPS)}
