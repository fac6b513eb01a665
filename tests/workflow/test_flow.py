"""Whole runs: what runs again and what does not, the same bytes, and runs that must be refused."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import rasterio
from support.flow_run import hashes

ALWAYS_LATER = {"report", "release"}
OF_THE_CITIES = {"change_sample", "label_points", "compare_products", "temporal_consistency", "growth"}


def test_every_chapter_made_its_files(flow):
    for pattern in (
        "sentinel2/composites/2017/*.tif",
        "dataset/index.parquet",
        "superres/adversarial.safetensors",
        "segmentation/bilinear.safetensors",
        "isa/2017/*.tif",
        "mosaics/2017/Hukou.tif",
        "accuracy/accuracy.csv",
        "accuracy/compared/Hukou/2021_worldcover.png",
        "temporal_consistency/2017/Hukou.tif",
        "report/index.html",
        "release/catalog.json",
    ):
        assert list(flow.results.glob(pattern)), pattern


def test_isa_is_what_the_contract_says(flow):
    for path in flow.results.glob("isa/*/*.tif"):
        with rasterio.open(path) as source:
            assert source.nodata == 255 and source.res == (1, 1) and source.dtypes == ("uint8",)
            assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_second_run_runs_nothing(flow):
    assert flow.jobs_to_run() == {}


def test_every_job_left_a_manifest_and_the_audit_is_clean(flow):
    done = flow.jointseg("audit", "verify", str(flow.results), "--json")
    assert done.returncode == 0, done.stdout[-2000:]
    manifest = json.loads(next(flow.results.glob("manifests/predict/2021/*.json")).read_text())
    assert manifest["rule"] == "predict" and manifest["outputs"][0]["sha256"] and manifest["inputs"]


def test_audit_names_what_is_changed_missing_or_made_by_nobody(flow):
    tile = next(flow.results.glob("isa/2021/*.tif"))
    kept, stranger = tile.read_bytes(), tile.with_name("stranger.tif")
    other = next(flow.results.glob("mosaics/2017/*.tif"))
    moved = other.with_name("moved-away")
    try:
        tile.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        stranger.write_bytes(b"?")
        other.rename(moved)
        done = flow.jointseg("audit", "verify", str(flow.results), "--json")
    finally:
        tile.write_bytes(kept)
        stranger.unlink()
        moved.rename(other)
    assert done.returncode == 1
    for name in (tile.name, "stranger.tif", f"mosaics/2017/{other.name}", "moved-away"):
        assert name in done.stdout


# Of the map year everything follows, trainings too; of another year its maps and the growth.
@pytest.mark.parametrize(
    ("year", "follow"),
    [
        (2017, {"composite", "predict", "mosaic", "compare_products", "temporal_consistency", "growth"}),
        pytest.param(2021, {"composite", "predict", "chips", "superres_stage1", "assess"}, marks=pytest.mark.slow),
    ],
)
def test_deleted_composite_comes_back_with_all_that_follows(flow, year, follow):
    before = hashes(flow.results)
    next(flow.results.glob(f"sentinel2/composites/{year}/*.tif")).unlink()
    assert follow <= flow.jobs_to_run().keys()
    done = flow.snakemake()
    assert done.returncode == 0, done.stderr[-4000:]
    assert hashes(flow.results) == before


@pytest.mark.parametrize(
    ("lost", "rule"),
    [("temporal_consistency/2017/Hukou.tif", "temporal_consistency"), ("accuracy/mosaics/gisa/2019", "product_mosaic")],
)
def test_a_product_that_is_lost_is_made_again(flow, lost, rule):
    path, away = flow.results / lost, flow.results.parent / "away"
    path.rename(away)
    try:
        assert rule in flow.jobs_to_run()
    finally:
        away.rename(path)


def test_line_of_the_estimators_makes_only_accuracy_stale(flow):
    source = flow.root / "src/jointseg/accuracy/cluster_estimators.py"
    kept = source.read_text()
    source.write_text(kept + "\n\nCHANGED = 1\n")
    try:
        stale = flow.jobs_to_run().keys()
    finally:
        source.write_text(kept)
    assert "assess" in stale and stale <= {"assess", *OF_THE_CITIES} | ALWAYS_LATER


def test_comment_makes_nothing_stale(flow):
    source = flow.root / "src/jointseg/raster/io.py"
    kept = source.read_text()
    source.write_text(kept + "\n# a remark\n")
    try:
        assert flow.jobs_to_run() == {}
    finally:
        source.write_text(kept)


def test_training_key_makes_only_training_and_what_follows_stale(flow):
    path = flow.variant(
        "training", lambda config: config["segmentation"]["presets"]["small"]["training"].update(steps=13)
    )
    stale = flow.jobs_to_run("--configfile", str(path)).keys()
    follow = {"predict", "predict_chips", "map_chips", "mosaic", "preview", "assess"} | ALWAYS_LATER
    assert "segmentation" in stale and stale <= {"segmentation", *OF_THE_CITIES} | follow


def test_a_tile_that_cannot_be_made_holds_up_no_other(flow):
    """With one list of scenes spoiled, all other composites are made, and the status names the one and why."""
    folders = [flow.results / "sentinel2/composites/2017", flow.results / "manifests/composite/2017"]
    aside = {folder: folder.with_name("2017-aside") for folder in folders}
    spoiled = min((flow.results / "sentinel2/scenes/2017").glob("*.json"))
    kept = spoiled.with_suffix(".kept")
    spoiled.rename(kept)
    for folder in folders:
        folder.rename(aside[folder])
    try:
        spoiled.write_text("{}")
        done = flow.jointseg("run", "mini.yaml", "--cores", "2", "all_composites")
        told = flow.jointseg("status", "mini.yaml", "--json")
        made = {path.stem for path in folders[0].glob("*.tif")}
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            aside[folder].rename(folder)
        kept.rename(spoiled)
    wanted = {path.stem for path in folders[0].glob("*.tif")}
    assert done.returncode == 1 and len(wanted) > 1 and made == wanted - {spoiled.stem}
    (failure,) = json.loads(told.stdout)["failures"]
    assert failure["job"].startswith("composite [") and spoiled.stem in failure["job"]
    assert failure["cause"] == "input" and spoiled.name in failure["why"]
    assert flow.jobs_to_run() == {}


def test_second_run_on_the_same_folder_is_refused(flow):
    next(flow.results.glob("accuracy/growth.csv")).unlink()
    command = ["run", "mini.yaml", "--cores", "1"]
    environment = os.environ | {"PYTHONPATH": str(flow.root / "src")}
    first = subprocess.Popen(
        [sys.executable, "-m", "jointseg.cli.main", *command], cwd=flow.root, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        lock = flow.results / ".jointseg/run.lock"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and str(first.pid) not in (lock.read_text() if lock.exists() else ""):
            time.sleep(0.1)
        second = flow.jointseg("run", "mini.yaml", "--cores", "1")
        assert second.returncode == 3
        assert str(first.pid) in second.stderr + second.stdout
    finally:
        assert first.wait(timeout=300) == 0


def test_snakemake_report_is_written_offline(flow):
    done = flow.snakemake("--report", "snakemake-report.html")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (flow.root / "snakemake-report.html").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("bands", ["B04", "B03", "B99"], ["sentinel2.bands", "B99"]),
        (
            "season",
            ["01-01", "01-02"],
            ["rule scenes", "no L2A scene of 2021", "50N_E0660_N3540", "widen sentinel2.season"],
        ),
    ],
)
def test_bad_input_is_told_in_one_sentence(flow, key, value, words):
    def change(config):
        config["sentinel2"].update({key: value})
        config["results"] = "results/bad"  # the shared run stays as it is

    path = flow.variant("bad", change)
    target = "results/bad/sentinel2/scenes/2021/50N_E0660_N3540.json"
    done = flow.snakemake(target, config=path)
    assert done.returncode != 0
    for word in words:
        assert word in done.stdout + done.stderr
