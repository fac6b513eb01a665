"""Every command of docs/runbook.md, run in order on a finished run, under the names that this has."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/runbook.md"
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def shell(flow, tmp_path_factory):
    """The folder of the run, its config called as in the runbook, and the runbook's years and places in the run's words."""
    shutil.copy(flow.config, flow.root / "config.yaml")
    tile = sorted(flow.results.glob("isa/2017/*.tif"))[0].stem
    words = {"results/yreb": str(flow.results.relative_to(flow.root)), "2023": "2017", "TILE": tile}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(flow.root / "src"), "NO_COLOR": "1", "PATH": path}

    def run(line: str) -> subprocess.CompletedProcess:
        for word, own in words.items():
            line = line.replace(word, own)
        return subprocess.run(
            line, shell=True, cwd=flow.root, env=environment, capture_output=True, text=True, check=False
        )

    yield run
    (flow.root / "config.yaml").unlink()


def test_the_runbook_has_commands():
    assert len(COMMANDS) > 12 and all(line.startswith(("jointseg ", "rm -r results/")) for line in COMMANDS)


def numbered() -> list:
    """The commands by number; those that make things again are slow."""
    made = [line.startswith("rm ") or (line.startswith("jointseg run ") and " -n" not in line) for line in COMMANDS]
    return [
        pytest.param(number, id=f"{number}: {line}", marks=[pytest.mark.slow] if makes else [])
        for number, (line, makes) in enumerate(zip(COMMANDS, made))
    ]


@pytest.mark.parametrize("number", numbered())
def test_command_of_the_runbook(shell, number):
    done = shell(COMMANDS[number])
    assert done.returncode == 0, f"{COMMANDS[number]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
