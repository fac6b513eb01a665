"""Comparison of two runs that differ in one condition: it reports this condition and its consequences only."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from PIL import Image
from support.audit_flow import NOISE, make
from support.command import run_command
from support.tampering import replace_entries

from jointseg.audit.diff.causes import NOT_REPRODUCIBLE
from jointseg.audit.diff.files import compare_files
from jointseg.audit.diff.map import compare
from jointseg.audit.diff.runs import Report, diff
from jointseg.raster import cog
from jointseg.runtime.errors import DataError


def changes(report: Report, job: str) -> list[tuple[str, str, str, str, str]]:
    """Return (diverging job, kind, what, A, B) of the divergences of a job."""
    (divergences,) = (diff.divergences for diff in report.jobs if diff.job == job)
    return [
        (divergence.job, change.kind, change.what, change.before, change.after)
        for divergence in divergences
        for change in divergence.changes
    ]


def test_identical_run_in_another_folder(run):
    report = diff(run, make("elsewhere/b"))
    assert (report.jobs, report.identical_jobs, report.changed_records) == ([], 4, [])
    assert report.as_json()["clean"] is True


def test_setting_is_named_by_its_dotted_key_with_both_values(run):
    report = diff(run, make("results/b", level=4))
    assert [job.job for job in report.jobs] == ["assess", "chips", "predict/2021"]
    for job in ("assess", "chips", "predict/2021"):
        assert changes(report, job) == [("predict/2021", "setting", "model.level", "3", "4")]
    files = {each.path: each.difference.summary for job in report.jobs for each in job.files}
    assert list(files) == ["accuracy.csv", "dataset/chips/east/a.tif", "isa/2021.tif"]
    assert files["isa/2021.tif"] == "2400 of 1440000 pixels (fraction 0.0017), 0->1 2400"
    assert "1 of 2 rows differ" in files["accuracy.csv"] and "pixels" in files["accuracy.csv"]


def test_seed_has_its_own_kind(run):
    report = diff(run, make("results/b", seed=8))
    assert changes(report, "predict/2021") == [("predict/2021", "seed", "seed", "7", "8")]


def test_added_scene_and_added_file(run):
    Path("archive2").mkdir()
    Path("archive2/S2C").write_text("S2C")
    report = diff(run, make("results/b", archive="archive2"))
    assert set(changes(report, "assess")) == {
        ("scenes", "scene", "S2C", "", "listed"),
        ("scenes", "input", "archive archive", "exists", ""),
        ("scenes", "input", "archive archive2", "", "exists"),
    }


def test_file_of_an_external_input(run):
    shutil.copytree("archive", "other/archive")
    Path("other/archive/S2B").write_text("other bytes")
    report = diff(run, make("results/b", archive="other/archive"))
    # The scene list contains names only, so it is identical: a changed record, but no difference.
    assert report.jobs == []
    (changed,) = report.changed_records
    assert changed.job == "scenes"
    assert [(change.kind, change.what) for change in changed.changes] == [("input", "archive archive/S2B")]


def test_code_is_named_by_function_if_its_parts_were_recorded(run):
    other = make("results/b", level=4)
    record = json.loads((other / "manifests/predict/2021.json").read_bytes())
    parts = json.loads((other / f".jointseg/code/{record['code']}.json").read_bytes())
    parts["support.audit_flow"]["isa"] = "0" * 12
    (other / ".jointseg/code/c0de.json").write_text(json.dumps(parts))
    replace_entries(other / "manifests/predict/2021.json", code="c0de")
    assert ("predict/2021", "code", "support.audit_flow:isa", "", "changed") in changes(diff(run, other), "assess")
    (other / ".jointseg/code/c0de.json").unlink()
    found = [change for change in changes(diff(run, other), "predict/2021") if change[1] == "code"]
    assert found == [("predict/2021", "code", "support.audit_flow:isa", record["code"][:12], "c0de")]


def test_package_version_without_different_output(run):
    other = make("results/b")
    record = json.loads((other / "manifests/predict/2021.json").read_bytes())
    replace_entries(other / "manifests/predict/2021.json", environment=record["environment"] | {"numpy": "0.1"})
    report = diff(run, other)
    assert report.jobs == []
    assert [(each.job, each.changes[0].what, each.changes[0].after) for each in report.changed_records] == [
        ("predict/2021", "numpy", "0.1")
    ]


def test_different_output_under_same_conditions_is_not_reproducible(run, monkeypatch):
    monkeypatch.setenv(NOISE, "9")
    report = diff(run, make("results/b"))
    found = changes(report, "predict/2021")
    assert (NOT_REPRODUCIBLE, "predict/2021") in [change[1:3] for change in found]
    before, after = next(change[3:] for change in found if change[1] == NOT_REPRODUCIBLE)
    assert "python" in before and "numpy" in after


def test_job_of_one_run_only(run):
    other = make("results/b")
    for path in ("manifests/assess.json", "accuracy.csv"):
        (other / path).unlink()
    (job,) = diff(run, other).jobs
    assert (job.job, job.side, [each.side for each in job.files]) == ("assess", "A", ["A"])


def test_image_of_a_difference_is_small_and_red_at_the_difference(run, tmp_path):
    diff(run, make("results/b", level=40), maps=tmp_path / "maps")
    image_file = tmp_path / "maps/isa-2021.tif.png"
    assert image_file.stat().st_size < 1_000_000
    image = np.asarray(Image.open(image_file)).astype(int)
    red = image[..., 0] - image[..., 1] > 50
    # Rows 6 to 80 of 1200 differ; a cell of the image is 3 pixels.
    assert red[2:26].all() and not red[27:].any() and not red[:1].any()


def write(path: Path, array: np.ndarray, west: float = 0) -> Path:
    cog.write(path, array, crs="EPSG:32650", transform=Affine(10, 0, west, 0, -10, 100), nodata=0)
    return path


def test_rasters_by_band_across_blocks(tmp_path):
    one = np.zeros((2, 30, 4100), dtype=np.uint16)
    one[0] = 100
    other = one.copy()
    other[1, 3, 2047:2050] = 7
    other[0, 20, 4099] = 90
    found = compare(write(tmp_path / "a.tif", one), write(tmp_path / "b.tif", other))
    assert [(band.differing, band.largest) for band in found.bands] == [(1, 10), (3, 7)]
    assert (found.differing, found.pixels) == (4, 30 * 4100)
    assert found.bounds == (20470, -110, 41000, 70)
    assert found.classes == []


def test_rasters_of_different_grid_or_size(tmp_path):
    array = np.ones((1, 20, 20), dtype=np.uint8)
    first = write(tmp_path / "a.tif", array)
    assert "different position" in compare(first, write(tmp_path / "b.tif", array, west=10)).summary()
    assert "different size" in compare(first, write(tmp_path / "c.tif", array[:, :10])).summary()


def test_nan_equals_nan(tmp_path):
    array = np.full((1, 20, 20), np.nan, dtype=np.float32)
    other = array.copy()
    other[0, 0, 0] = 1
    found = compare(write(tmp_path / "a.tif", array), write(tmp_path / "b.tif", other))
    assert found.differing == 1 and found.bands[0].largest is None
    assert "1 of 400 pixels" in found.summary()


def test_tables_json_and_other_files(tmp_path):
    table = pd.DataFrame({"sample_id": ["x", "y", "z"], "shift": [1.0, None, 3.0], "split": ["a", "b", "c"]})
    other = table.iloc[::-1].assign(split=["c", "b", "q"])
    table.to_parquet(tmp_path / "a.parquet")
    other.to_parquet(tmp_path / "b.parquet")
    words = compare_files(tmp_path / "a.parquet", tmp_path / "b.parquet").summary
    assert words == "1 of 3 rows differ, first x; columns split"
    other.iloc[:2].drop(columns="shift").to_parquet(tmp_path / "c.parquet")
    words = compare_files(tmp_path / "a.parquet", tmp_path / "c.parquet").summary
    assert "columns only in A: shift" in words and "1 rows only in A" in words
    (tmp_path / "a.json").write_text('{"mean": [1, 2], "n": {"train": 3}}')
    (tmp_path / "b.json").write_text('{"mean": [1, 2], "n": {"train": 4}}')
    assert compare_files(tmp_path / "a.json", tmp_path / "b.json").summary == "different values at n.train"
    assert "missing file" in compare_files(tmp_path / "a.json", tmp_path / "none.json").summary
    (tmp_path / "bad.json").write_text("{")
    assert "cannot be compared as json" in compare_files(tmp_path / "a.json", tmp_path / "bad.json").summary


def test_command_prints_tables_and_json(run, capsys):
    other = make("results/b", level=4)
    assert run_command("audit", "diff", run, other) == 1
    output = capsys.readouterr().out
    assert "model.level" in output and "0->1 2400" in output
    assert run_command("audit", "diff", run, other, "--json") == 1
    payload = json.loads(capsys.readouterr().out)
    assert payload["jobs"][2]["files"][0]["difference"]["raster"]["classes"] == [[0, 1, 2400]]
    assert run_command("audit", "diff", run, run) == 0
    with pytest.raises(DataError, match="no folder named manifests"):
        run_command("audit", "diff", run, "archive")
