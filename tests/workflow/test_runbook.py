"""Every command of the runbook, in order, on a finished run whose names replace those of the page."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/runbook.md"
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def shell(finished, tmp_path_factory):
    """Runs a command of the page in the folder of the run."""
    shutil.copy(finished.config, finished.root / "config.yaml")
    tile = sorted(finished.results.glob("isa/2017/*.tif"))[0].stem
    replacements = {"results/yreb": finished.results_name, "2023": "2017", "TILE": tile}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(finished.root / "src"), "NO_COLOR": "1", "PATH": path}

    def run(line: str) -> subprocess.CompletedProcess:
        for word, replacement in replacements.items():
            line = line.replace(word, replacement)
        return subprocess.run(
            line, shell=True, cwd=finished.root, env=environment, capture_output=True, text=True, check=False
        )

    yield run
    (finished.root / "config.yaml").unlink()


def test_the_runbook_has_commands():
    assert len(COMMANDS) > 12 and all(line.startswith(("jointseg ", "rm -r results/")) for line in COMMANDS)


def numbered() -> list:
    """Return the indices of the commands; those that rebuild files are slow."""
    rebuild = [line.startswith("rm ") or (line.startswith("jointseg run ") and " -n" not in line) for line in COMMANDS]
    return [
        pytest.param(number, id=f"{number}: {line}", marks=[pytest.mark.slow] if slow else [])
        for number, (line, slow) in enumerate(zip(COMMANDS, rebuild))
    ]


@pytest.mark.parametrize("number", numbered())
def test_command_of_the_runbook(shell, number):
    done = shell(COMMANDS[number])
    assert done.returncode == 0, f"{COMMANDS[number]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
