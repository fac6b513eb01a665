"""Assignment of one GPU per job."""

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
with devices.claim_device(2) as device:
    print(device, flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_each_job_has_its_own_gpu_and_the_third_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with holder(tmp_path) as first, holder(tmp_path) as second:
        assert first.stdout and second.stdout
        used = {each.stdout.readline().strip() for each in (first, second)}  # type: ignore[union-attr]
        assert used == {"cuda:0", "cuda:1"}
        with holder(tmp_path) as third:
            assert third.stdout
            with pytest.raises(subprocess.TimeoutExpired):
                third.wait(timeout=4)
            first.kill()
            assert third.stdout.readline().strip() in used, "a killed job releases its GPU"
            third.kill()
        second.kill()


def test_cpu_is_used_without_a_gpu() -> None:
    with devices.claim_device(0) as first, devices.claim_device(0) as second:
        assert first.type == second.type == "cpu"
