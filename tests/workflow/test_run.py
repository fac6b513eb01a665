"""Complete runs: what is rebuilt and what is not, equal bytes, and runs that are refused."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import rasterio
from support.run_folder import hashes

ALWAYS_LATER = {"report", "release"}
CITY_RULES = {"change_sample", "label_points", "compare_products", "temporal_consistency", "growth"}


def test_outputs_of_every_chapter_exist(finished):
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
        assert list(finished.results.glob(pattern)), pattern


def test_format_of_the_maps(finished):
    for path in finished.results.glob("isa/*/*.tif"):
        with rasterio.open(path) as source:
            assert source.nodata == 255 and source.res == (1, 1) and source.dtypes == ("uint8",)
            assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_second_run_has_nothing_to_do(finished):
    assert finished.jobs_to_run() == {}


def test_every_job_has_a_manifest_and_the_audit_has_no_findings(finished):
    done = finished.jointseg("audit", "verify", str(finished.results), "--json")
    assert done.returncode == 0, done.stdout[-2000:]
    manifest = json.loads(next(finished.results.glob("manifests/predict/2021/*.json")).read_text())
    assert manifest["rule"] == "predict" and manifest["outputs"][0]["sha256"] and manifest["inputs"]


def test_audit_lists_changed_missing_and_undeclared_files(finished):
    tile = next(finished.results.glob("isa/2021/*.tif"))
    content, stranger = tile.read_bytes(), tile.with_name("stranger.tif")
    other = next(finished.results.glob("mosaics/2017/*.tif"))
    moved = other.with_name("moved-away")
    try:
        tile.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        stranger.write_bytes(b"?")
        other.rename(moved)
        done = finished.jointseg("audit", "verify", str(finished.results), "--json")
    finally:
        tile.write_bytes(content)
        stranger.unlink()
        moved.rename(other)
    assert done.returncode == 1
    for name in (tile.name, "stranger.tif", f"mosaics/2017/{other.name}", "moved-away"):
        assert name in done.stdout


# Everything derives from the map year, including the trainings; from other years only maps and growth.
@pytest.mark.parametrize(
    ("year", "rebuilt"),
    [
        (2017, {"composite", "predict", "mosaic", "compare_products", "temporal_consistency", "growth"}),
        pytest.param(2021, {"composite", "predict", "chips", "superres_stage1", "assess"}, marks=pytest.mark.slow),
    ],
)
def test_deleted_composite_is_rebuilt_with_everything_derived_from_it(finished, year, rebuilt):
    before = hashes(finished.results)
    next(finished.results.glob(f"sentinel2/composites/{year}/*.tif")).unlink()
    assert rebuilt <= finished.jobs_to_run().keys()
    done = finished.snakemake()
    assert done.returncode == 0, done.stderr[-4000:]
    assert hashes(finished.results) == before


@pytest.mark.parametrize(
    ("deleted", "rule"),
    [("temporal_consistency/2017/Hukou.tif", "temporal_consistency"), ("accuracy/mosaics/gisa/2019", "product_mosaic")],
)
def test_deleted_product_is_rebuilt(finished, deleted, rule):
    path, aside = finished.results / deleted, finished.results.parent / "aside"
    path.rename(aside)
    try:
        assert rule in finished.jobs_to_run()
    finally:
        aside.rename(path)


def jobs_after_edit(finished, module: str, text: str) -> dict[str, int]:
    """Return the jobs that run after text is appended to a module."""
    source = finished.root / "src/jointseg" / module
    content = source.read_text()
    source.write_text(content + text)
    try:
        return finished.jobs_to_run()
    finally:
        source.write_text(content)


def test_edit_of_the_estimators_only_outdates_the_accuracy(finished):
    outdated = jobs_after_edit(finished, "accuracy/cluster_estimators.py", "\n\nCHANGED = 1\n").keys()
    assert "assess" in outdated and outdated <= {"assess", *CITY_RULES} | ALWAYS_LATER


def test_comment_outdates_nothing(finished):
    assert jobs_after_edit(finished, "raster/io.py", "\n# a remark\n") == {}


def test_training_key_only_outdates_the_training_and_what_derives_from_it(finished):
    path = finished.changed_config(
        "training", lambda config: config["segmentation"]["presets"]["small"]["training"].update(steps=13)
    )
    outdated = finished.jobs_to_run("--configfile", str(path)).keys()
    derived = {"predict", "predict_chips", "map_chips", "mosaic", "preview", "assess"} | ALWAYS_LATER
    assert "segmentation" in outdated and outdated <= {"segmentation", *CITY_RULES} | derived


def test_failure_of_one_tile_does_not_affect_the_others(finished):
    """With one invalid scene list, all other composites are built, and the status names the tile and the reason."""
    folders = [finished.results / "sentinel2/composites/2017", finished.results / "manifests/composite/2017"]
    aside = {folder: folder.with_name("2017-aside") for folder in folders}
    invalid = min((finished.results / "sentinel2/scenes/2017").glob("*.json"))
    original = invalid.with_suffix(".original")
    invalid.rename(original)
    for folder in folders:
        folder.rename(aside[folder])
    try:
        invalid.write_text("{}")
        done = finished.jointseg("run", "mini.yaml", "--cores", "2", "all_composites")
        status = finished.jointseg("status", "mini.yaml", "--json")
        built = {path.stem for path in folders[0].glob("*.tif")}
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            aside[folder].rename(folder)
        original.rename(invalid)
    expected = {path.stem for path in folders[0].glob("*.tif")}
    assert done.returncode == 1 and len(expected) > 1 and built == expected - {invalid.stem}
    (failure,) = json.loads(status.stdout)["failures"]
    assert failure["job"].startswith("composite [") and invalid.stem in failure["job"]
    assert failure["cause"] == "input" and invalid.name in failure["reason"]
    assert finished.jobs_to_run() == {}


def test_second_run_on_the_same_folder_is_refused(finished):
    next(finished.results.glob("accuracy/growth.csv")).unlink()
    command = [sys.executable, "-m", "jointseg.cli.main", "run", "mini.yaml", "--cores", "1"]
    environment = os.environ | {"PYTHONPATH": str(finished.root / "src")}
    first = subprocess.Popen(
        command, cwd=finished.root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        lock = finished.results / ".jointseg/run.lock"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and str(first.pid) not in (lock.read_text() if lock.exists() else ""):
            time.sleep(0.1)
        second = finished.jointseg("run", "mini.yaml", "--cores", "1")
        assert second.returncode == 3
        assert str(first.pid) in second.stderr + second.stdout
    finally:
        assert first.wait(timeout=300) == 0


def test_snakemake_report_is_written_offline(finished):
    done = finished.snakemake("--report", "snakemake-report.html")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (finished.root / "snakemake-report.html").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("bands", ["B04", "B03", "B99"], ["sentinel2.bands", "B99"]),
        (
            "season",
            ["01-01", "01-02"],
            ["rule scenes", "no L2A scene of 2021", "50N_E0660_N3540", "extend sentinel2.season"],
        ),
    ],
)
def test_error_names_the_bad_input(finished, key, value, words):
    def change(config):
        config["sentinel2"].update({key: value})
        config["results"] = "results/bad"  # leaves the shared run unchanged

    path = finished.changed_config("bad", change)
    target = "results/bad/sentinel2/scenes/2021/50N_E0660_N3540.json"
    done = finished.snakemake(target, config=path)
    assert done.returncode != 0
    for word in words:
        assert word in done.stdout + done.stderr
