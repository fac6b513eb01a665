"""Kills a run at random moments, resumes it each time, and compares every output with an uninterrupted run.

    python tests/workflow/kill_campaign.py examples/rehearsal/config.yaml --kills 10

The whole process group dies by SIGKILL: the display, Snakemake, jobs. Both runs are made in the same folder, one
after the other, so that no path differs. Exit status 0 when all bytes agree and an audit finds nothing.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jointseg.audit.verify import UNDECLARED
from jointseg.provenance.digest import tree_digest

NOT_FINAL = (*UNDECLARED, "manifests")
POLL_SECONDS = 0.05


def main() -> int:
    given = _arguments()
    console = Console()
    config, results = _moved(given.config, given.results)
    for folder in (results, _beside(results, "reference")):
        if folder.exists():
            console.print(f"{folder} is there already; remove it or give another --results")
            return 2
    command = [sys.executable, "-m", "jointseg.cli", "run", str(config), "--cores", str(given.cores)]

    started = time.monotonic()
    if subprocess.call(command):
        return 1
    seconds = time.monotonic() - started
    expected = hashes(results)
    console.print(f"uninterrupted: {len(expected)} files in {seconds:.0f} s")
    results.rename(_beside(results, "reference"))

    table = Table("kill", "after the first job", "jobs that died", "outputs there", box=None, pad_edge=False)
    chance = random.Random(given.seed)
    kills = passes = 0
    wrong: list[str] = []
    while kills < given.kills:
        if results.exists():  # the flow ended before it was killed often enough: again from nothing
            wrong += _compare(hashes(results), expected)
            shutil.rmtree(results)
        passes += 1
        while kills < given.kills:
            # Each run gets a little further, so that the kills are spread over the whole flow.
            wait = chance.uniform(0, 1.6 * seconds / given.kills)
            died = _run_and_kill(command, wait, results)
            if died is None:
                break
            kills += 1
            table.add_row(str(kills), f"{wait:.1f} s", escape(", ".join(died)) or "none", str(len(hashes(results))))
    status = subprocess.call(command)
    wrong += _compare(hashes(results), expected)
    console.print(table)
    console.print(f"{kills} kills in {passes} passes; the last resumed run ended with status {status}")
    for line in sorted(set(wrong)):
        console.print(line, soft_wrap=True)
    audit = subprocess.call([sys.executable, "-m", "jointseg.cli", "audit", "verify", str(results)])
    same = "all bytes agree" if not wrong else f"{len(set(wrong))} files differ"
    console.print(f"{len(expected)} files compared: {same}")
    return int(bool(wrong or status or audit))


def hashes(results: Path) -> dict[str, str]:
    """sha256 of every final output of a results folder."""
    entries = tree_digest(results)[0] if results.exists() else []
    return {entry.path: entry.sha256 for entry in entries if entry.path.partition("/")[0] not in NOT_FINAL}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results/kill_campaign"), help="folder to work in")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _moved(config: Path, results: Path) -> tuple[Path, Path]:
    """A copy of the config that works in another folder, wherever it names the old one."""
    text = config.read_text(encoding="utf-8")
    old = yaml.safe_load(text)["results"]
    made = _beside(results, "config").with_suffix(".yaml")
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(text.replace(old, results.as_posix()), encoding="utf-8")
    return made, results


def _beside(results: Path, word: str) -> Path:
    return results.with_name(f"{results.name}-{word}")


def _run_and_kill(command: list[str], wait: float, results: Path) -> list[str] | None:
    """Kills the process group some seconds after the first job began; the jobs that died, None if it ended first."""
    notes = results / ".jointseg" / "progress"
    left = {path.name for path in notes.glob("*.job")}
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as run:
        while run.poll() is None and {path.name for path in notes.glob("*.job")} <= left:
            time.sleep(POLL_SECONDS)
        try:
            run.wait(wait)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            return [json.loads(note.read_text())["job"] for note in notes.glob("*.job")]
    if run.returncode:
        sys.exit(f"a resumed run failed with status {run.returncode}; see {results}/logs/snakemake.log")
    return None


def _compare(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    lines = [f"missing: {path}" for path in expected.keys() - found.keys()]
    lines += [f"too many: {path}" for path in found.keys() - expected.keys()]
    return lines + [f"differs: {path}" for path in expected.keys() & found.keys() if expected[path] != found[path]]


if __name__ == "__main__":
    sys.exit(main())
