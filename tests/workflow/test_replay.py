"""A finished run: its jobs and maps computed again bit for bit, and compared with a copy that was made otherwise."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from jointseg.audit.diff.runs import diff
from jointseg.audit.lineage import Lineage
from jointseg.audit.prune import PRUNED_LIST
from jointseg.audit.replay.job import Sandbox
from jointseg.provenance.manifest import Manifest

# Kinds of job that take a few seconds each.
RULES = ["scenes", "composite", "pairing", "segmentation", "predict", "product_mosaic", "release"]


def replayed(flow, *arguments: str) -> dict:
    done = flow.jointseg("audit", "replay", str(flow.results), "--json", *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_one_job_of_every_kind_is_reproduced_bit_for_bit(flow):
    rules = {manifest.rule for manifest in Lineage(flow.results).manifests.values()}
    told = replayed(flow, "--sample", str(len(rules)))
    assert {each["rule"] for each in told["replays"]} == rules
    assert told["counts"] == {"identical": len(rules)}


@pytest.mark.slow
def test_the_dataset_made_again_from_the_frozen_sources_has_the_same_bytes(flow, tmp_path):
    root = Path(shutil.copytree(flow.root, tmp_path / "again", ignore=shutil.ignore_patterns("results", ".snakemake")))
    again = type(flow)(root, yaml.safe_load(flow.config.read_text()))
    shutil.copytree(flow.results / "sources", again.results / "sources")
    wanted = [flow.results / "dataset/index.parquet", *sorted((flow.results / "dataset/agreement").glob("*.csv"))]
    done = again.snakemake("--", *(str(path.relative_to(flow.root)) for path in wanted))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    made = content(again.results / "dataset")
    assert made == content(flow.results / "dataset")
    assert {Path(name).suffix for name in made} >= {".tif", ".parquet", ".json", ".md", ".sha256"}


def content(folder: Path) -> dict[str, str]:
    """sha256 of every file by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_jobs_of_some_kinds_are_reproduced_bit_for_bit(flow):
    chosen = [word for rule in RULES for word in ("--rule", rule)]
    told = replayed(flow, "--sample", str(len(RULES)), *chosen)
    assert {each["rule"] for each in told["replays"]} == set(RULES)
    assert told["counts"] == {"identical": len(RULES)}


def test_blocks_of_the_maps_are_reproduced_from_the_windows_that_touch_them(flow):
    told = replayed(flow, "--windows", "4", "--seed", "1")
    assert told["counts"] == {"identical": 4}
    assert all(0 < each["windows"] <= 4 and each["valid"] > 0 for each in told["replays"])


@pytest.fixture
def copy(flow, tmp_path) -> Path:
    return Path(shutil.copytree(flow.results, tmp_path / flow.results.relative_to(flow.root)))


def test_diff_names_the_setting_of_a_composite_that_was_made_otherwise(flow, copy, tmp_path, monkeypatch):
    monkeypatch.chdir(flow.root)
    lineage = Lineage(flow.results)
    name = next(name for name in sorted(lineage.manifests) if name.startswith("composite/2017/"))
    kept = lineage.manifests[name]
    other = Manifest(kept.file, name, kept.record | {"params": kept.record["params"] | {"min_clear_observations": 3}})
    sandbox = Sandbox(tmp_path / "scratch", lineage)
    fresh = sandbox.replay(other)
    (output,) = fresh.outputs
    shutil.copy(sandbox.path(other, output.path), copy / str(kept.relative_path(output.path)))
    shutil.copy(fresh.file, copy / f"manifests/{name}.json")

    report = diff(flow.results, copy, tmp_path / "maps")
    (job,) = report.jobs
    assert job.job == name and report.changed_records == []
    changes = [
        (change.what, change.after)
        for parting in job.divergences
        for change in parting.changes
        if change.kind == "setting"
    ]
    assert changes == [("min_clear_observations", "3")]
    (file,) = job.files
    raster = file.difference.raster
    assert 0 < raster.differing < raster.pixels and {band.name for band in raster.bands} >= {"B04", "clear"}
    (picture,) = (tmp_path / "maps").iterdir()
    assert picture.stat().st_size < 1_000_000


def test_a_pruned_copy_keeps_its_maps_and_a_replay_says_what_it_lacks(flow, copy):
    done = flow.jointseg("audit", "prune", str(copy), "--delete", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [each["kind"] for each in told["kinds"]] == [
        "chips", "images", "predictions", "products", "previews", "logs", "benchmarks",
    ]  # fmt: skip
    assert told["left"] == [] and told["bytes"] > 1_000_000
    assert (copy / PRUNED_LIST).is_file() and not (copy / "dataset/chips").exists()
    for pattern in ("isa/*/*.tif", "mosaics/*/*.tif", "sentinel2/composites/*/*.tif", "segmentation/*.safetensors"):
        assert len(list(copy.glob(pattern))) == len(list(flow.results.glob(pattern))) > 0
    done = flow.jointseg("audit", "replay", str(copy), "--rule", "superres_stage1", "--rule", "grid", "--json")
    outcomes = {each["job"]: each for each in json.loads(done.stdout)["replays"]}
    assert outcomes["grid"]["outcome"] == "identical"
    assert outcomes["superres_stage1"]["outcome"] == "impossible"
    assert "was pruned" in outcomes["superres_stage1"]["detail"]
