"""A job that is killed goes on at the row where it was, and makes the bytes that it would have made."""

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
from support.inference_ground import LATTICE, around, composites, networks

from jointseg.inference import predict
from jointseg.inference.products import FORMS
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import remove_path

TILE = "50N_E0662_N3542"
CHILD = """
import pickle, sys, time
from jointseg.inference import engine
from jointseg.inference.row_bands import Bands
append = Bands.append
def slowly(self, arrays):
    append(self, arrays)
    print("rows", self.rows, flush=True)
    time.sleep(float(sys.argv[2]))
Bands.append = slowly
facts = engine.isa(**pickle.load(open(sys.argv[1], "rb")))
print("done", facts["resumed_rows"], flush=True)
"""


def call(folder: Path, made: dict[str, Path], weights: dict[str, Path], out: str) -> dict:
    paths = {name: folder / out / f"{name}.tif" for name in FORMS}
    fixed = {"year": "2021", "tile": TILE, "tile_km": 2, "method": "superres", "batch": 2, "threads": 1}
    return {"composites": around(made, TILE, 2), **weights, **paths, **fixed, **LATTICE}


def run(arguments: dict, pause: float) -> subprocess.Popen[str]:
    """The step in a process of its own, which tells every row that is finished and pauses after it."""
    file = Path(arguments["state"]).with_suffix(".pickle")
    file.write_bytes(pickle.dumps(arguments))
    return subprocess.Popen([sys.executable, "-c", CHILD, str(file), str(pause)], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path], dict[str, Path], dict[str, bytes]]:
    """A folder, composites, networks, and the bytes of every product of an undisturbed run."""
    folder = tmp_path_factory.mktemp("resume")
    made, weights = composites(folder, 2), networks(folder)
    predict.predict(**call(folder, made, weights, "whole"))
    return folder, made, weights, {name: (folder / "whole" / f"{name}.tif").read_bytes() for name in FORMS}


def test_killed_after_a_row_it_goes_on_from_there(tmp_path: Path, case: tuple) -> None:
    folder, made, weights, whole = case
    arguments = {**call(folder, made, weights, tmp_path.name), "state": str(tmp_path / "state")}
    with run(arguments, 1.0) as job:
        assert job.stdout
        seen = [job.stdout.readline().split() for _ in range(3)]
        job.send_signal(signal.SIGKILL)
    assert [words[0] for words in seen] == ["rows"] * 3
    kept = (tmp_path / "state" / "isa.bin").read_bytes()
    facts = predict.predict(**arguments)
    assert facts["resumed_rows"] >= int(seen[-1][1]) > 0 and len(kept) == 2000 * facts["resumed_rows"]
    assert {name: (folder / tmp_path.name / f"{name}.tif").read_bytes() for name in FORMS} == whole
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments_it_makes_the_same_bytes(tmp_path: Path, case: tuple) -> None:
    folder, made, weights, whole = case
    arguments = {**call(folder, made, weights, tmp_path.name), "state": str(tmp_path / "state")}
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
        if rows[-1] >= 1600:  # begin again, so that every kill finds work under way
            remove_path(tmp_path / "state")
    assert kills == 20 and len(set(rows)) > 3, rows
    predict.predict(**arguments)
    assert {name: (folder / tmp_path.name / f"{name}.tif").read_bytes() for name in FORMS} == whole


def test_rows_of_other_composites_are_not_gone_on_with(tmp_path: Path, case: tuple) -> None:
    folder, made, weights, whole = case
    arguments = {**call(folder, made, weights, tmp_path.name), "state": str(tmp_path / "state")}
    with run(arguments, 5.0) as job:
        assert job.stdout and job.stdout.readline()
        job.send_signal(signal.SIGKILL)
    changed = tmp_path / made[TILE].name
    array, transform, crs = raster_io.read(made[TILE])
    array[:3, :5, :5] += 300
    cog.write(changed, array, crs=crs, transform=transform, nodata=0, descriptions=("B04", "B03", "B02", "clear"))
    other = {**arguments, "composites": [changed, *arguments["composites"][1:]]}
    assert predict.predict(**other)["resumed_rows"] == 0
    assert (folder / tmp_path.name / "rgb.tif").read_bytes() != whole["rgb"]


def test_networks_that_give_no_numbers_fail_by_name_and_keep_the_rows(
    tmp_path: Path, case: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made, weights, _ = case
    given = predict.Predictor.window
    count = 0

    def broken(self: predict.Predictor, dn: np.ndarray, known: np.ndarray, image: bool = False) -> tuple:
        nonlocal count
        count += 1
        probability, made_image = given(self, dn, known, image)
        return probability * (float("nan") if count > 12 else 1), made_image

    monkeypatch.setattr(predict.Predictor, "window", broken)
    arguments = {**call(folder, made, weights, tmp_path.name), "state": str(tmp_path / "state")}
    with pytest.raises(DataError, match=r"no numbers in the window 66\d+-66\d+ E"):
        predict.predict(**arguments)
    assert not (folder / tmp_path.name).exists() or not list((folder / tmp_path.name).glob("*.tif"))
    monkeypatch.undo()
    assert predict.predict(**arguments)["resumed_rows"] > 0
