"""Replay of the jobs and maps of a run, byte by byte, and comparison with a copy that has another setting."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from jointseg.audit.diff.runs import diff
from jointseg.audit.lineage import Lineage
from jointseg.audit.prune import PRUNED_LIST
from jointseg.audit.replay.job import Sandbox
from jointseg.provenance.manifest import Manifest

# Rules whose jobs take a few seconds.
RULES = ["scenes", "composite", "pairing", "segmentation", "predict", "product_mosaic", "release"]


def replay(finished, *arguments: str) -> dict:
    done = finished.jointseg("audit", "replay", str(finished.results), "--json", *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_one_job_of_every_rule_is_reproduced(finished):
    rules = {manifest.rule for manifest in Lineage(finished.results).manifests.values()}
    report = replay(finished, "--sample", str(len(rules)))
    assert {replayed["rule"] for replayed in report["replays"]} == rules
    assert report["counts"] == {"identical": len(rules)}


@pytest.mark.slow
def test_dataset_rebuilt_from_the_same_sources_has_equal_bytes(finished, tmp_path):
    rebuilt = finished.copy(tmp_path / "rebuilt")
    shutil.copytree(finished.results / "sources", rebuilt.results / "sources")
    targets = [
        finished.results / "dataset/index.parquet",
        *sorted((finished.results / "dataset/agreement").glob("*.csv")),
    ]
    done = rebuilt.snakemake("--", *(str(path.relative_to(finished.root)) for path in targets))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    files = content(rebuilt.results / "dataset")
    assert files == content(finished.results / "dataset")
    assert {Path(name).suffix for name in files} >= {".tif", ".parquet", ".json", ".md", ".sha256"}


def content(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_jobs_of_some_rules_are_reproduced(finished):
    options = [word for rule in RULES for word in ("--rule", rule)]
    report = replay(finished, "--sample", str(len(RULES)), *options)
    assert {replayed["rule"] for replayed in report["replays"]} == set(RULES)
    assert report["counts"] == {"identical": len(RULES)}


def test_map_blocks_are_reproduced(finished):
    report = replay(finished, "--windows", "4", "--seed", "1")
    assert report["counts"] == {"identical": 4}
    assert all(0 < block["windows"] <= 4 and block["valid"] > 0 for block in report["replays"])


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished.results, tmp_path / finished.results.relative_to(finished.root)))


def test_diff_finds_the_setting_of_a_changed_composite(finished, copy, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.root)
    lineage = Lineage(finished.results)
    name = next(name for name in sorted(lineage.manifests) if name.startswith("composite/2017/"))
    original = lineage.manifests[name]
    other = Manifest(
        original.file, name, original.record | {"params": original.record["params"] | {"min_clear_observations": 3}}
    )
    sandbox = Sandbox(tmp_path / "scratch", lineage)
    replayed = sandbox.replay(other)
    (output,) = replayed.outputs
    shutil.copy(sandbox.path(other, output.path), copy / str(original.relative_path(output.path)))
    shutil.copy(replayed.file, copy / f"manifests/{name}.json")

    report = diff(finished.results, copy, tmp_path / "maps")
    (job,) = report.jobs
    assert job.job == name and report.changed_records == []
    changes = [
        (change.what, change.after)
        for divergence in job.divergences
        for change in divergence.changes
        if change.kind == "setting"
    ]
    assert changes == [("min_clear_observations", "3")]
    (file,) = job.files
    raster = file.difference.raster
    assert 0 < raster.differing < raster.pixels and {band.name for band in raster.bands} >= {"B04", "clear"}
    (figure,) = (tmp_path / "maps").iterdir()
    assert figure.stat().st_size < 1_000_000


def test_pruned_copy_keeps_its_maps_and_a_replay_names_missing_inputs(finished, copy):
    done = finished.jointseg("audit", "prune", str(copy), "--delete", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [kind["kind"] for kind in report["kinds"]] == [
        "chips", "images", "predictions", "products", "previews", "logs", "benchmarks",
    ]  # fmt: skip
    assert report["skipped"] == [] and report["bytes"] > 1_000_000
    assert (copy / PRUNED_LIST).is_file() and not (copy / "dataset/chips").exists()
    for pattern in ("isa/*/*.tif", "mosaics/*/*.tif", "sentinel2/composites/*/*.tif", "segmentation/*.safetensors"):
        assert len(list(copy.glob(pattern))) == len(list(finished.results.glob(pattern))) > 0
    done = finished.jointseg("audit", "replay", str(copy), "--rule", "superres_stage1", "--rule", "grid", "--json")
    outcomes = {replayed["job"]: replayed for replayed in json.loads(done.stdout)["replays"]}
    assert outcomes["grid"]["outcome"] == "identical"
    assert outcomes["superres_stage1"]["outcome"] == "impossible"
    assert "was pruned" in outcomes["superres_stage1"]["detail"]
