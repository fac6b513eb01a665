"""Jobs of one machine share its GPUs out, one a GPU."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jointseg.inference import devices

HOLD = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from jointseg.inference import devices
with devices.claimed(2) as device:
    print(device, flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_each_job_has_a_gpu_of_its_own_and_the_third_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with holder(tmp_path) as first, holder(tmp_path) as second:
        assert first.stdout and second.stdout
        taken = {each.stdout.readline().strip() for each in (first, second)}  # type: ignore[union-attr]
        assert taken == {"cuda:0", "cuda:1"}
        with holder(tmp_path) as third:
            assert third.stdout
            with pytest.raises(subprocess.TimeoutExpired):
                third.wait(timeout=4)
            first.kill()
            assert third.stdout.readline().strip() in taken, "a killed job lets its GPU go"
            third.kill()
        second.kill()


def test_without_a_gpu_it_is_the_processor() -> None:
    with devices.claimed(0) as one, devices.claimed(0) as another:
        assert one.type == another.type == "cpu"
