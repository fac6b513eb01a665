"""Replay of the jobs of a toy run: outcomes and their reasons."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.audit_flow import NOISE, make
from support.command import run_command
from support.tampering import replace_entries

from jointseg.audit.lineage import Lineage
from jointseg.audit.prune import delete, find_prunable
from jointseg.audit.replay.job import expects_list, reads_network
from jointseg.audit.replay.sample import Replay, replay_jobs, sample_jobs
from jointseg.provenance.manifest import read
from jointseg.runtime.errors import DataError


def replay(results: Path, *names: str, **options) -> list[Replay]:
    lineage = Lineage(results)
    scratch = Path("scratch")
    scratch.mkdir(exist_ok=True)
    return replay_jobs(lineage, [lineage.manifests[name] for name in names], scratch, **options)


def contents(results: Path) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in sorted(results.rglob("*")) if path.is_file()}


def test_moved_run_is_reproduced_and_not_modified(run, tmp_path):
    shutil.move(run, tmp_path / "moved")
    original = contents(Path("moved"))
    done = replay(Path("moved"), "scenes", "predict/2021", "chips", "assess")
    assert [(each.outcome, each.detail, each.files) for each in done] == [
        ("identical", "", 1),
        ("identical", "", 1),
        ("identical", "", 2),
        ("identical", "", 1),
    ]
    assert contents(Path("moved")) == original


def test_run_with_absolute_paths_is_reproduced_in_the_sandbox(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = make((tmp_path / "results/a").as_posix(), archive=(tmp_path / "archive").as_posix())
    original = contents(results)
    assert [each.outcome for each in replay(results, "scenes", "predict/2021", "assess")] == ["identical"] * 3
    assert contents(results) == original


def test_different_bytes_under_the_same_conditions_are_a_finding(run, monkeypatch):
    monkeypatch.setenv(NOISE, "12")
    (done,) = replay(run, "predict/2021", keep=True)
    assert (done.outcome, done.differing, done.changes) == ("differs", 1, [])
    assert done.detail.startswith("isa/2021.tif: 12 of 1440000 pixels")
    assert done.kept_in is not None and Path(done.kept_in, "isa/2021.tif").is_file()


def test_difference_under_different_conditions_is_explained_or_tolerated(run, monkeypatch):
    monkeypatch.setenv(NOISE, "12")
    device = json.loads((run / "manifests/predict/2021.json").read_bytes())["device"]
    replace_entries(run / "manifests/predict/2021.json", device=device | {"processor": "another"})
    (done,) = replay(run, "predict/2021")
    assert done.outcome == "explained" and [change.kind for change in done.changes] == ["device"]
    assert replay(run, "predict/2021", tolerance=1e-5)[0].outcome == "tolerated"
    assert replay(run, "predict/2021", tolerance=1e-6)[0].outcome == "explained"


def test_changed_and_missing_inputs_are_impossible(run):
    Path("archive/S2A").write_text("other")
    (run / "isa/2021.tif").unlink()
    scenes, chips = replay(run, "scenes", "chips")
    assert scenes.outcome == chips.outcome == "impossible"
    assert "input archive has changed" in scenes.detail
    assert chips.detail == "input results/a/isa/2021.tif does not exist"


def test_pruned_input_is_named(run):
    delete(run, find_prunable(run))
    (done,) = replay(run, "assess")
    assert done.outcome == "impossible" and "dataset/chips/east was pruned" in done.detail


def test_failing_step_is_a_finding(run):
    replace_entries(run / "manifests/predict/2021.json", params={"model": {}, "seed": 7})
    (done,) = replay(run, "predict/2021")
    assert done.outcome == "failed" and "KeyError: 'level'" in done.detail


def test_jobs_that_use_the_network_are_skipped_by_default(run):
    params = {"source": {"kind": "stac", "url": "https://example.org"}}
    replace_entries(run / "manifests/scenes.json", params=params)
    assert reads_network(read(run / "manifests/scenes.json")) and not reads_network(read(run / "manifests/chips.json"))
    assert replay(run, "scenes")[0].outcome == "skipped"
    assert replay(run, "scenes", network=True)[0].outcome == "failed"  # the toy step has no parameter `source`


def test_sample_draws_every_rule_before_a_second_job(run):
    for year in range(2001, 2011):
        file = run / f"manifests/predict/{year}.json"
        shutil.copy(run / "manifests/predict/2021.json", file)
        replace_entries(file, wildcards={"year": str(year)})
    lineage = Lineage(run)
    for seed in range(5):
        assert {job.rule for job in sample_jobs(lineage, 4, seed)} == {"scenes", "predict", "chips", "assess"}
    assert [job.name for job in sample_jobs(lineage, 9, 3)] == [job.name for job in sample_jobs(lineage, 9, 3)]
    assert [job.name for job in sample_jobs(lineage, 9, 3)] != [job.name for job in sample_jobs(lineage, 9, 4)]
    assert len(sample_jobs(lineage, None, 0)) == 14
    assert {job.rule for job in sample_jobs(lineage, 3, 0, ["predict"])} == {"predict"}
    with pytest.raises(DataError, match="no job of rule mosaic"):
        sample_jobs(lineage, 1, 0, ["mosaic"])


def test_expects_list():
    def step(*, one: Path, maybe: Path | None = None, many: list[Path], some: Sequence[Path], rest: list[Path] | None):
        raise AssertionError

    names = ("one", "maybe", "many", "some", "rest", "unknown")
    assert [name for name in names if expects_list(step, name)] == ["many", "some", "rest"]


def test_command_prints_outcomes_and_removes_the_scratch_folder(run, capsys, monkeypatch, tmp_path):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert run_command("audit", "replay", run, "--sample", "all", "--rule", "chips", "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert output["counts"] == {"identical": 1} and output["clean"] is True
    assert list((tmp_path / "tmp").iterdir()) == []
    monkeypatch.setenv(NOISE, "3")
    assert run_command("audit", "replay", run, "--rule", "predict", "--keep") == 1
    output = capsys.readouterr().out
    assert "3 of 1440000 pixels" in output and "differs" in output
    (scratch,) = (tmp_path / "tmp").iterdir()
    assert [path.name for path in scratch.rglob("*.tif")] == ["2021.tif"]
