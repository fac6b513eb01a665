"""Breaks runs at random moments, resumes them each time, and compares every output with an undisturbed run.

    python tests/workflow/fault_campaign.py --faults 100
    python tests/workflow/fault_campaign.py --faults 30 --kinds run job store --store

A mini synthetic scene is run as a user would. The faults, one after the other at random moments of the flow:

    run         SIGKILL to everything: the display, Snakemake, jobs
    scheduler   SIGKILL to Snakemake alone: its jobs live on, and hold the folder until they end
    job         SIGKILL to one job; the run goes on without it
    disk        the disk of everything is full for some seconds (a tmpfs: needs root)
    store       the store takes half of what is written, or refuses it, for some seconds (--store: an S3 on loopback)

Exit status 0 when every resumed run ended well, all bytes agree and an audit finds nothing.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.flow_run import ROOT, copy_code, final, hashes, mini
from support.loopback import CUT
from support.loopback_s3 import PREFIX, Store, object_store_server

POLL_SECONDS = 0.05
LETHAL = ("run", "scheduler")
IN_USE = 3  # exit status: jobs of a dead scheduler still work
KILL_ORPHANS = 0.3  # of the times that they are met; else they are waited for
DISK_MB = 3000
TRIES = 10  # resumed runs in a row that may fail without a fault in between: none does
console = Console(highlight=False)


@dataclass
class Campaign:
    """One results folder that is made again and again while things go wrong.

    Attributes:
        root: copy of the repository, with mini.yaml.
        results: the results folder.
        command: that makes or resumes it.
        shared: the store; None without one.
        told, died: faults so far, by kind, and the jobs that they met, by rule.
        last: process group of the last run that held the folder.
        refused: runs that found the folder in use.
        began: when the run that works now was started.
        marks: when the next faults come, in jobs that are done; so they are spread over the whole flow.
    """

    root: Path
    results: Path
    command: list[str]
    shared: Store | None
    told: Counter = field(default_factory=Counter)
    died: Counter = field(default_factory=Counter)
    last: int = 0
    refused: int = 0
    began: float = 0.0
    marks: list[float] = field(default_factory=list)

    def start(self) -> subprocess.Popen:
        self.began = time.time()
        environment = os.environ | {"PYTHONPATH": str(self.root / "src")}
        environment |= self.shared.environment if self.shared else {}
        return subprocess.Popen(
            self.command,
            cwd=self.root,
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def jobs(self) -> list[Path]:
        """The notes of running jobs, without those of jobs that were killed with another run."""
        found = []
        for note in (self.results / ".jointseg" / "progress").glob("*.job"):
            with suppress(FileNotFoundError):
                if note.stat().st_mtime > self.began:
                    found.append(note)
        return found

    def done(self) -> int:
        """Jobs that are done, by their manifests."""
        place = self.results.relative_to(self.root).as_posix()
        if self.shared is not None:
            return self.shared.count(f"{place}/manifests")
        return sum(1 for _ in self.results.glob("manifests/**/*.json"))

    def made(self) -> dict[str, str]:
        if self.shared is None:
            return hashes(self.results)
        return final(self.shared.hashes(self.results.relative_to(self.root).as_posix()))

    def fetched(self, name: str) -> Path:
        """A copy of what the store has of the results."""
        assert self.shared is not None
        to = self.root / name / self.results.relative_to(self.root)
        self.shared.fetch(self.results.relative_to(self.root).as_posix(), to)
        return to

    def remove(self) -> None:
        for each in self.results.iterdir():
            shutil.rmtree(each)
        if self.shared is not None:
            self.shared.empty(self.results.relative_to(self.root).as_posix())
            shutil.rmtree(self.root / ".snakemake" / "storage", ignore_errors=True)


def main() -> int:
    given = _arguments()
    with ExitStack() as stack:
        root = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="jointseg-faults-", ignore_cleanup_errors=True))
        )
        shared = stack.enter_context(object_store_server()) if given.store else None
        if "disk" in given.kinds:
            stack.enter_context(_small_disk(root))
        copy_code(ROOT, root)
        config = mini(yaml.safe_load((ROOT / "examples/synthetic/config.yaml").read_text()))
        (root / "mini.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        results = root / config["results"]
        results.mkdir(parents=True)
        command = [sys.executable, "-m", "jointseg.cli.main", "run", "mini.yaml", "--cores", str(given.cores)]
        command += ["--profile", "s3", "--default-storage-prefix", PREFIX] if shared else []
        return _run(Campaign(root, results, command, shared), given)


def _run(campaign: Campaign, given: argparse.Namespace) -> int:
    undisturbed = given.expected
    if undisturbed is None:
        undisturbed = campaign.results
        if campaign.start().wait():
            sys.exit(f"the undisturbed run failed; see {campaign.results}/logs/snakemake.log")
        if campaign.shared is not None:
            undisturbed = campaign.fetched("undisturbed")
    expected, (jobs, job_s) = hashes(undisturbed), _took(undisturbed)
    console.print(f"undisturbed: {len(expected)} files of {jobs} jobs of {job_s:.1f} s")
    chance = random.Random(given.seed)
    wrong: list[str] = []
    passes = failed = 0
    while True:
        campaign.remove()
        passes += 1
        left = given.faults - sum(campaign.told.values())
        campaign.marks = sorted(chance.uniform(0, jobs - 1) for _ in range(left))
        while (status := _disturbed(campaign, given, chance, job_s)) != 0:
            failed += status > 0
            if failed > given.faults + TRIES:
                sys.exit(f"runs go on failing; see {campaign.results}/logs/snakemake.log")
        wrong += _compare(campaign.made(), expected)
        console.print(f"pass {passes}: {sum(campaign.told.values())} faults, {len(set(wrong))} files differ")
        if sum(campaign.told.values()) >= given.faults:
            break
    for kind, count in campaign.told.items():
        console.print(f"{count:4} {kind}")
    console.print(f"{campaign.refused} runs were told that jobs of a dead one still worked")
    met = ", ".join(f"{rule} {count}" for rule, count in campaign.died.most_common())
    console.print(f"jobs that they met: {met}", soft_wrap=True)
    for line in sorted(set(wrong)):
        console.print(line, soft_wrap=True)
    audited = campaign.results if campaign.shared is None else campaign.fetched("audited")
    verify = [sys.executable, "-m", "jointseg.cli.main", "audit", "verify", str(audited)]
    audit = subprocess.call(verify, cwd=campaign.root)
    same = "all bytes agree" if not wrong else f"{len(set(wrong))} files differ"
    console.print(
        f"{sum(campaign.told.values())} faults, {passes} time(s) from nothing, "
        f"{len(expected)} files compared each time: {same}; {_machine()}",
        soft_wrap=True,
    )
    return int(bool(wrong or audit))


def _took(results: Path) -> tuple[int, float]:
    """How many jobs there were, and how long they took on average, s, by the manifests."""
    told = [json.loads(path.read_text())["seconds"] for path in results.glob("manifests/**/*.json")]
    return len(told), sum(told) / len(told)


def _disturbed(campaign: Campaign, given: argparse.Namespace, chance: random.Random, job_s: float) -> int:
    """One run, broken until it dies or ends; its exit status, negative where it was killed or found the folder in use."""
    run = campaign.start()
    faults = 0
    while campaign.marks and run.poll() is None:
        met = [json.loads(note.read_text())["job"] for note in campaign.jobs()]
        if not met or campaign.done() < campaign.marks[0]:
            time.sleep(POLL_SECONDS)
            continue
        time.sleep(chance.uniform(0, 2 * job_s))
        kind = chance.choice(given.kinds)
        if run.poll() is not None or (kind == "job" and not campaign.jobs()):
            continue
        KINDS[kind](campaign, run, chance)
        faults += 1
        campaign.marks.pop(0)
        campaign.told[kind] += 1
        campaign.died.update({job.partition(" ")[0] for job in met})
        if kind in LETHAL:
            run.wait()
            campaign.last = run.pid
            return -1
    status = run.wait()
    if status == IN_USE:
        campaign.refused += 1
        time.sleep(1)
        if chance.random() < KILL_ORPHANS:
            with suppress(ProcessLookupError):
                os.killpg(campaign.last, signal.SIGKILL)
        return -1
    campaign.last = run.pid
    if status and not faults:
        console.print(f"a run failed with status {status} although nothing broke it")
    return status


def _kill_run(campaign: Campaign, run: subprocess.Popen, chance: random.Random) -> None:
    os.killpg(run.pid, signal.SIGKILL)


def _kill_scheduler(campaign: Campaign, run: subprocess.Popen, chance: random.Random) -> None:
    for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


def _kill_job(campaign: Campaign, run: subprocess.Popen, chance: random.Random) -> None:
    jobs = campaign.jobs()
    if jobs:
        try:
            os.kill(int(chance.choice(jobs).stem.rpartition("-")[2]), signal.SIGKILL)
        except ProcessLookupError:  # it ended just now
            return


def _fill_disk(campaign: Campaign, run: subprocess.Popen, chance: random.Random) -> None:
    ballast = campaign.root / ".ballast"
    until = time.monotonic() + chance.uniform(1, 4)
    with open(ballast, "wb") as file:
        while time.monotonic() < until and run.poll() is None:
            free = shutil.disk_usage(campaign.root).free
            if free:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free)
                except OSError:  # somebody else took it
                    time.sleep(POLL_SECONDS)
            time.sleep(POLL_SECONDS)
    ballast.unlink()


def _break_store(campaign: Campaign, run: subprocess.Popen, chance: random.Random) -> None:
    assert campaign.shared is not None
    campaign.shared.faults.always = chance.choice([CUT, 503])
    time.sleep(chance.uniform(1, 12))  # a client tries again for some seconds
    campaign.shared.faults.always = None


KINDS: dict[str, Callable[[Campaign, subprocess.Popen, random.Random], None]] = {
    "run": _kill_run,
    "scheduler": _kill_scheduler,
    "job": _kill_job,
    "disk": _fill_disk,
    "store": _break_store,
}


@contextmanager
def _small_disk(place: Path) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", place]
    if subprocess.run(mount, check=False).returncode:
        sys.exit("a disk that can be filled is a tmpfs, which needs root; leave `disk` out of --kinds")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=10, help="how many; default: %(default)s")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["run", "scheduler", "job"], metavar="KIND")
    parser.add_argument("--store", action="store_true", help="inputs and results in an S3 on loopback")
    parser.add_argument(
        "--expected", type=Path, metavar="RESULTS", help="of an undisturbed run of this code; else it is made"
    )
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if ("store" in given.kinds) != given.store:
        parser.error("--store and the kind `store` go together")
    return given


def _compare(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    lines = [f"missing: {path}" for path in expected.keys() - found.keys()]
    lines += [f"too many: {path}" for path in found.keys() - expected.keys()]
    return lines + [f"differs: {path}" for path in expected.keys() & found.keys() if expected[path] != found[path]]


def _machine() -> str:
    from jointseg.provenance.machine import processor

    return f"{processor()}, {len(os.sched_getaffinity(0))} CPUs"


if __name__ == "__main__":
    sys.exit(main())
