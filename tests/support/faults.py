"""Repeated runs, and faults that are injected into them."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.loopback import CUT
from support.loopback_s3 import Store
from support.run_folder import RunFolder, comparable, hashes

POLL_SECONDS = 0.05


@dataclass
class Campaign:
    """A results folder that is built repeatedly while faults occur."""

    folder: RunFolder  # copy of the repository
    command: list[str]  # command that starts or resumes the run
    store: Store | None
    faults: Counter = field(default_factory=Counter)  # faults so far, by kind
    hit_jobs: Counter = field(default_factory=Counter)  # jobs that were running at a fault, by rule
    last_group: int = 0  # process group of the last run that held the lock
    refused: int = 0  # runs that were refused because jobs of a killed one held the lock
    started: float = 0.0  # when the current run started, s since the epoch
    schedule: list[float] = field(default_factory=list)  # numbers of finished jobs at which the next faults occur

    @property
    def results(self) -> Path:
        return self.folder.results

    def start(self) -> subprocess.Popen:
        self.started = time.time()
        environment = os.environ | {"PYTHONPATH": str(self.folder.root / "src")}
        environment |= self.store.environment if self.store else {}
        return subprocess.Popen(
            self.command,
            cwd=self.folder.root,
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def running_jobs(self) -> list[Path]:
        """Return the status files of running jobs, without those that an earlier run left."""
        files = []
        for path in (self.results / ".jointseg" / "progress").glob("*.job"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime > self.started:
                    files.append(path)
        return files

    def finished_jobs(self) -> int:
        if self.store is not None:
            return self.store.count(f"{self.folder.results_name}/manifests")
        return sum(1 for _ in self.results.glob("manifests/**/*.json"))

    def hashes(self) -> dict[str, str]:
        if self.store is None:
            return hashes(self.results)
        return comparable(self.store.hashes(self.folder.results_name))

    def local_results(self, name: str) -> Path:
        """Return the results folder, copied from the store if there is one."""
        if self.store is None:
            return self.results
        target = self.folder.root / name / self.folder.results_name
        self.store.fetch(self.folder.results_name, target)
        return target

    def delete_results(self) -> None:
        for path in self.results.iterdir():
            shutil.rmtree(path)
        if self.store is not None:
            self.store.empty(self.folder.results_name)
            shutil.rmtree(self.folder.root / ".snakemake" / "storage", ignore_errors=True)


def _kill_run(campaign: Campaign, run: subprocess.Popen, rng: random.Random) -> None:
    os.killpg(run.pid, signal.SIGKILL)


def _kill_scheduler(campaign: Campaign, run: subprocess.Popen, rng: random.Random) -> None:
    for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


def _kill_job(campaign: Campaign, run: subprocess.Popen, rng: random.Random) -> None:
    if jobs := campaign.running_jobs():
        with suppress(ProcessLookupError):
            os.kill(int(rng.choice(jobs).stem.rpartition("-")[2]), signal.SIGKILL)


def _fill_disk(campaign: Campaign, run: subprocess.Popen, rng: random.Random) -> None:
    ballast = campaign.folder.root / ".ballast"
    until = time.monotonic() + rng.uniform(1, 4)
    with open(ballast, "wb") as file:
        while time.monotonic() < until and run.poll() is None:
            if free := shutil.disk_usage(ballast.parent).free:
                with suppress(OSError):  # a job used the space first
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free)
            time.sleep(POLL_SECONDS)
    ballast.unlink()


def _break_store(campaign: Campaign, run: subprocess.Popen, rng: random.Random) -> None:
    assert campaign.store is not None
    campaign.store.faults.always = rng.choice([CUT, 503])
    time.sleep(rng.uniform(1, 12))  # clients retry for some seconds
    campaign.store.faults.always = None


FAULTS: dict[str, Callable[[Campaign, subprocess.Popen, random.Random], None]] = {
    "run": _kill_run,
    "scheduler": _kill_scheduler,
    "job": _kill_job,
    "disk": _fill_disk,
    "store": _break_store,
}
