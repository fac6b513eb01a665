"""Execution of one job: the call of the step, the manifest, and the state after a failure."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.provenance_flow import job, make, quiet

from jointseg.provenance.hash_cache import HashCache
from jointseg.provenance.job_record import run_job
from jointseg.provenance.manifest import read, results_of
from jointseg.runtime import job_status
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write, remove_partial_files


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def exit_status(job, step) -> int:
    with quiet(), pytest.raises(SystemExit) as stop:
        run_job(job, step)
    return stop.value.code


def out_job(**more):
    return job(
        "predict", "r", outputs={"isa": "r/isa.txt"}, wildcards={"year": 2021, "tile": "50N_E0660_N3540"}, **more
    )


def test_manifest_records_the_call():
    make()
    record = json.loads(Path("results/toy/manifests/maps/a.json").read_text())
    assert (record["rule"], record["wildcards"], record["params"]) == ("maps", {"tile": "a"}, {"factor": 2})
    assert record["facts"] == {"tile": "a"}
    assert record["results"] == "results/toy"
    assert record["inputs"] == [{"name": "source", "path": "source.txt", "size": 10, "sha256": sha("the source")}]
    (output,) = record["outputs"]
    files = [
        {"path": "one.txt", "sha256": sha("one"), "size": 3},
        {"path": "sub/two.txt", "sha256": sha("two"), "size": 3},
    ]
    assert (output["path"], output["files"], output["size"]) == ("results/toy/maps/a", files, 6)
    assert output["sha256"] == sha(f"{sha('one')}  one.txt\n{sha('two')}  sub/two.txt\n")
    assert len(record["code"]) == 64
    assert record["started"] <= record["finished"]
    assert record["versions"]["numpy"] == np.__version__


def test_input_folder_of_the_run_has_checksum_only():
    make()
    (output,) = read(Path("results/toy/manifests/maps/a.json")).outputs
    (artefact,) = read(Path("results/toy/manifests/total.json")).inputs
    assert (artefact.name, artefact.sha256, artefact.files) == ("maps", output.sha256, None)


def test_step_gets_the_parallel_requests_of_the_job():
    passed = []

    def predict(*, isa, year, tile, parallel_requests):
        passed.append(parallel_requests)
        isa.write_text("x")

    job_with_resources = out_job()
    job_with_resources.resources = {"parallel_requests": 5, "mem_mb": 100}
    with quiet():
        run_job(job_with_resources, predict)
    assert passed == [5]
    assert "parallel_requests" not in json.loads(next(Path("r").rglob("manifests/**/*.json")).read_text())["params"]


def test_external_input_folder_has_file_list():
    Path("jilin1").mkdir()
    Path("jilin1/scene.tif").write_text("pixels")
    with quiet():
        run_job(out_job(inputs={"jilin1": "jilin1"}), lambda *, jilin1, isa, year, tile: isa.write_text("x") and None)
    (artefact,) = read(Path("r/manifests/predict/2021/50N_E0660_N3540.json")).inputs
    assert [(entry.path, entry.sha256) for entry in artefact.files or ()] == [("scene.tif", sha("pixels"))]


def test_wildcards_are_strings_and_empty_list_without_default_is_passed():
    seen = {}

    def step(*, isa, year, tile, products, truth=None):
        seen.update(year=year, tile=tile, products=products, truth=truth)
        isa.write_text("x")

    with quiet():
        run_job(out_job(inputs={"products": [], "truth": []}), step)
    assert seen == {"year": "2021", "tile": "50N_E0660_N3540", "products": [], "truth": None}


def test_facts_with_numpy_values_and_nan_are_json():
    def step(*, isa, year, tile):
        isa.write_text("x")
        return {"loss": np.float32(0.5), "nan": float("nan"), "ids": ("a", Path("b/c")), 3: np.int64(7)}

    with quiet():
        run_job(out_job(), step)
    facts = json.loads(Path("r/manifests/predict/2021/50N_E0660_N3540.json").read_text())["facts"]
    assert facts == {"loss": 0.5, "nan": None, "ids": ["a", "b/c"], "3": 7}


def test_bad_input_prints_one_line_and_removes_output(capfd):
    def step(*, isa, year, tile):
        isa.write_text("half")
        raise DataError("band B03 is missing in x.tif;\n expected B04, B03, B02")

    assert exit_status(out_job(), step) == 1
    message = capfd.readouterr().err
    expected = "rule predict [year=2021 tile=50N_E0660_N3540]: band B03 is missing in x.tif; expected B04, B03, B02\n"
    assert message == expected
    assert not Path("r/isa.txt").exists()
    assert not Path("r/manifests/predict/2021/50N_E0660_N3540.json").exists()
    assert "Traceback" in Path("r/logs/predict/2021/50N_E0660_N3540.log").read_text()


def test_unexpected_error_names_the_log(capfd):
    def step(*, isa, year, tile):
        raise ZeroDivisionError("division by zero")

    assert exit_status(out_job(), step) == 1
    message = capfd.readouterr().err
    assert "ZeroDivisionError: division by zero (see r/logs/predict/2021/50N_E0660_N3540.log)" in message
    assert message.count("\n") == 1


def test_missing_output_is_an_error(capfd):
    assert exit_status(out_job(), lambda *, isa, year, tile: None) == 1
    assert "returned without writing r/isa.txt" in capfd.readouterr().err


def test_input_changed_during_the_job_is_an_error(capfd):
    Path("in.txt").write_text("before")

    def step(*, scenes, isa, year, tile):
        isa.write_text("x")
        scenes.write_text("after!")

    assert exit_status(out_job(inputs={"scenes": "in.txt"}), step) == 1
    assert "in.txt changed while the job read it" in capfd.readouterr().err


def test_partial_files_of_a_killed_job_are_removed():
    Path("r").mkdir()
    partial = Path("r/.part-99999-isa.txt")
    partial.write_text("half")
    with quiet():
        run_job(out_job(), lambda *, isa, year, tile: isa.write_text("x") and None)
    assert not partial.exists()


def test_running_job_has_a_status_file(monkeypatch, workdir):
    monkeypatch.setenv(job_status.ENV_VARIABLE, str(workdir / "progress"))
    status_file = job_status.process_file(".job")

    def step(*, isa, year, tile):
        assert json.loads(status_file.read_text())["job"] == "predict [year=2021 tile=50N_E0660_N3540]"
        isa.write_text("x")

    with quiet():
        run_job(out_job(), step)
    assert not status_file.exists()


def test_failure_is_recorded_until_the_job_succeeds(monkeypatch, workdir):
    monkeypatch.setenv(job_status.ENV_VARIABLE, str(workdir / "progress"))
    calls = []

    def step(*, isa, year, tile):
        calls.append(isa)
        if len(calls) < 3:
            raise RuntimeError("no luck\nat all")
        isa.write_text("x")

    name = "predict [year=2021 tile=50N_E0660_N3540]"
    for _ in range(2):
        assert exit_status(out_job(), step) == 1
        (failure,) = job_status.read_failures(workdir / "progress")
        assert (failure.job, failure.rule, failure.cause) == (name, "predict", job_status.ERROR)
        assert failure.reason.startswith("RuntimeError: no luck at all (see ") and failure.log.endswith(".log")
    with quiet():
        run_job(out_job(), step)
    assert job_status.read_failures(workdir / "progress") == [] and len(calls) == 3


def test_sigterm_removes_partial_files(workdir):
    tests = Path(__file__).parents[1]
    (workdir / "child.py").write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(tests)!r})\n"
        "from support.provenance_flow import job, run_job\n"
        "from jointseg.runtime.files import atomic_write\n"
        "def step(*, isa):\n"
        "    with atomic_write(isa) as part:\n"
        "        part.write_text('half')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "run_job(job('predict', 'r', outputs={'isa': 'r/isa.txt'}), step)\n"
    )
    with subprocess.Popen(
        [sys.executable, "child.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout and child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        assert "rule predict: stopped before it finished" in child.communicate()[1]
    assert child.returncode == 128 + signal.SIGTERM
    assert [path for path in Path("r").iterdir() if path.is_file()] == []


def test_hash_cache_detects_changed_file_with_same_mtime(workdir):
    path = workdir / "file"
    cache = HashCache(workdir / "hashes.sqlite")
    path.write_text("aaaa")
    assert cache.file(path).sha256 == sha("aaaa")
    status = path.stat()
    path.write_text("bbbb")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert cache.file(path).sha256 == sha("bbbb")


def test_unchanged_file_is_hashed_once(workdir, monkeypatch):
    path = workdir / "file"
    path.write_text("aaaa")
    HashCache(workdir / "hashes.sqlite").file(path)
    monkeypatch.setattr("jointseg.provenance.hash_cache.file_digest", lambda path: pytest.fail("hashed again"))
    assert HashCache(workdir / "hashes.sqlite").file(path).sha256 == sha("aaaa")


def test_damaged_hash_cache_is_ignored(workdir):
    base = workdir / "hashes.sqlite"
    base.write_bytes(b"not a database, but longer than the header of one" * 20)
    path = workdir / "file"
    path.write_text("aaaa")
    assert HashCache(base).file(path).sha256 == sha("aaaa")


def test_results_of():
    assert results_of(Path("results/manifests/predict/2021/a.json")) == Path("results")
    with pytest.raises(DataError, match="manifests"):
        results_of(Path("results/isa.json"))


def test_remove_partial_files_matches_names_of_atomic_write(workdir):
    with atomic_write(workdir / "isa.txt") as part:
        part.write_text("x")
        remove_partial_files(workdir / "isa.txt")
        assert not part.exists()
        part.write_text("x")
