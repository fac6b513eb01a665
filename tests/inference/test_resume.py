"""A killed job resumes after its last finished row and writes the same bytes as an uninterrupted one."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.inference_scene import LATTICE, composites, networks, with_neighbours

from jointseg.inference import predict
from jointseg.inference.products import FORMATS
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import remove_path

TILE = "50N_E0662_N3542"
CHILD = """
import pickle, sys, time
from jointseg.inference import predict
from jointseg.inference.row_bands import RowBandStore
append = RowBandStore.append
def append_and_pause(self, arrays):
    append(self, arrays)
    print("rows", self.rows, flush=True)
    time.sleep(float(sys.argv[2]))
RowBandStore.append = append_and_pause
facts = predict.predict(**pickle.load(open(sys.argv[1], "rb")))
print("done", facts["resumed_rows"], flush=True)
"""


def call(folder: Path, paths: dict[str, Path], weights: dict[str, Path], out: str) -> dict:
    outputs = {name: folder / out / f"{name}.tif" for name in FORMATS}
    fixed = {"year": "2021", "tile": TILE, "tile_km": 2, "method": "superres", "batch": 2, "threads": 1}
    return {"composites": with_neighbours(paths, TILE, 2), **weights, **outputs, **fixed, **LATTICE}


def run(arguments: dict, pause: float) -> subprocess.Popen[str]:
    """Run the step in a separate process, which prints each finished row and pauses after it."""
    file = Path(arguments["state"]).with_suffix(".pickle")
    file.write_bytes(pickle.dumps(arguments))
    return subprocess.Popen([sys.executable, "-c", CHILD, str(file), str(pause)], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path], dict[str, Path], dict[str, bytes]]:
    """Return a folder, composites, networks, and the bytes of every product of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("resume")
    paths, weights = composites(folder, 2), networks(folder)
    predict.predict(**call(folder, paths, weights, "full"))
    return folder, paths, weights, {name: (folder / "full" / f"{name}.tif").read_bytes() for name in FORMATS}


def test_killed_job_resumes_after_its_last_row(tmp_path: Path, case: tuple) -> None:
    folder, paths, weights, full = case
    arguments = {**call(folder, paths, weights, tmp_path.name), "state": str(tmp_path / "state")}
    with run(arguments, 1.0) as job:
        assert job.stdout
        lines = [job.stdout.readline().split() for _ in range(3)]
        job.send_signal(signal.SIGKILL)
    assert [words[0] for words in lines] == ["rows"] * 3
    kept = (tmp_path / "state" / "isa.bin").read_bytes()
    facts = predict.predict(**arguments)
    assert facts["resumed_rows"] >= int(lines[-1][1]) > 0 and len(kept) == 2000 * facts["resumed_rows"]
    assert {name: (folder / tmp_path.name / f"{name}.tif").read_bytes() for name in FORMATS} == full
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_job_killed_twenty_times_writes_the_same_bytes(tmp_path: Path, case: tuple) -> None:
    folder, paths, weights, full = case
    arguments = {**call(folder, paths, weights, tmp_path.name), "state": str(tmp_path / "state")}
    draw = random.Random(1)
    kills, rows = 0, []
    while kills < 20:
        with run(arguments, 0.3) as job:
            assert job.stdout
            if "rows" not in job.stdout.readline():
                break
            time.sleep(draw.uniform(0, 0.6))
            os.kill(job.pid, signal.SIGKILL)
        kills += 1
        rows.append((tmp_path / "state" / "isa.bin").stat().st_size // 2000)
        if rows[-1] >= 1600:  # restart, so that every kill interrupts a computation
            remove_path(tmp_path / "state")
    assert kills == 20 and len(set(rows)) > 3, rows
    predict.predict(**arguments)
    assert {name: (folder / tmp_path.name / f"{name}.tif").read_bytes() for name in FORMATS} == full


def test_rows_of_other_composites_are_discarded(tmp_path: Path, case: tuple) -> None:
    folder, paths, weights, full = case
    arguments = {**call(folder, paths, weights, tmp_path.name), "state": str(tmp_path / "state")}
    with run(arguments, 5.0) as job:
        assert job.stdout and job.stdout.readline()
        job.send_signal(signal.SIGKILL)
    changed = tmp_path / paths[TILE].name
    array, transform, crs = raster_io.read(paths[TILE])
    array[:3, :5, :5] += 300
    cog.write(changed, array, crs=crs, transform=transform, nodata=0, descriptions=("B04", "B03", "B02", "clear"))
    other_inputs = {**arguments, "composites": [changed, *arguments["composites"][1:]]}
    assert predict.predict(**other_inputs)["resumed_rows"] == 0
    assert (folder / tmp_path.name / "rgb.tif").read_bytes() != full["rgb"]


def test_non_finite_results_raise_and_keep_finished_rows(
    tmp_path: Path, case: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, paths, weights, _ = case
    original = predict.Predictor.predict_window
    count = 0

    def broken(self: predict.Predictor, dn: np.ndarray, valid: np.ndarray, image: bool = False) -> tuple:
        nonlocal count
        count += 1
        probability, hr = original(self, dn, valid, image)
        return probability * (float("nan") if count > 12 else 1), hr

    monkeypatch.setattr(predict.Predictor, "predict_window", broken)
    arguments = {**call(folder, paths, weights, tmp_path.name), "state": str(tmp_path / "state")}
    with pytest.raises(DataError, match=r"non-finite values in the window 66\d+-66\d+ E"):
        predict.predict(**arguments)
    assert not (folder / tmp_path.name).exists() or not list((folder / tmp_path.name).glob("*.tif"))
    monkeypatch.undo()
    assert predict.predict(**arguments)["resumed_rows"] > 0
