"""Break runs at random moments, resume them, and compare every output with an undisturbed run.

    python tests/workflow/fault_campaign.py --faults 100
    python tests/workflow/fault_campaign.py --faults 30 --kinds run job store --store

A mini synthetic scene is run with `jointseg run`. The faults come one after the other, spread over the whole workflow:

    run         SIGKILL to all processes of the run
    scheduler   SIGKILL to Snakemake only: its jobs continue, and hold the folder's lock until they end
    job         SIGKILL to one job; the run continues without it
    disk        the disk is full for some seconds (a tmpfs: needs root)
    store       the object store truncates or refuses writes for some seconds (--store: S3 on the loopback interface)

Exit status 0 if every resumed run succeeds, all bytes are equal and an audit has no findings.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.faults import FAULTS, POLL_SECONDS, Campaign
from support.loopback_s3 import PREFIX, object_store_server
from support.run_folder import create_run_folder, hashes

LETHAL = ("run", "scheduler")
IN_USE = 3  # exit status: jobs of a killed scheduler hold the lock
KILL_ORPHANS = 0.3  # probability; otherwise their end is awaited
DISK_MB = 3000
MAX_FAILURES = 10  # failed runs beyond one per fault
console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    args = _parse_arguments()
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="jointseg-faults-", ignore_cleanup_errors=True)
        root = Path(stack.enter_context(temporary))
        store = stack.enter_context(object_store_server()) if args.store else None
        if "disk" in args.kinds:
            stack.enter_context(_small_disk(root))
        folder = create_run_folder(root)
        folder.results.mkdir(parents=True)
        command = [sys.executable, "-m", "jointseg.cli.main", "run", "mini.yaml", "--cores", str(args.cores)]
        command += ["--profile", "s3", "--default-storage-prefix", PREFIX] if store else []
        return _run(Campaign(folder, command, store), args)


def _run(campaign: Campaign, args: argparse.Namespace) -> int:
    """Build the results repeatedly until all faults have occurred, and return the exit status."""
    log = campaign.results / "logs/snakemake.log"
    undisturbed = args.expected
    if undisturbed is None:
        if campaign.start().wait():
            sys.exit(f"the undisturbed run failed; see {log}")
        undisturbed = campaign.local_results("undisturbed")
    expected, (jobs, job_s) = hashes(undisturbed), _job_times(undisturbed)
    console.print(f"undisturbed: {len(expected)} files of {jobs} jobs of {job_s:.1f} s")
    rng = random.Random(args.seed)
    differences: set[str] = set()
    passes = failed = 0
    while passes == 0 or campaign.faults.total() < args.faults:
        campaign.delete_results()
        passes += 1
        remaining = args.faults - campaign.faults.total()
        campaign.schedule = sorted(rng.uniform(0, jobs - 1) for _ in range(remaining))
        while (status := _disturbed_run(campaign, args, rng, job_s)) != 0:
            failed += status > 0
            if failed > args.faults + MAX_FAILURES:
                sys.exit(f"resumed runs keep failing; see {log}")
        differences |= _compare(campaign.hashes(), expected)
        console.print(f"pass {passes}: {campaign.faults.total()} faults, {len(differences)} files differ")
    return _report(campaign, differences, passes, len(expected))


def _report(campaign: Campaign, differences: set[str], passes: int, files: int) -> int:
    """Print the result of the campaign, audit the last results, and return the exit status."""
    for kind, count in campaign.faults.items():
        console.print(f"{count:4} {kind}")
    console.print(f"{campaign.refused} runs were refused because jobs of a killed one were running")
    console.print("jobs hit: " + ", ".join(f"{rule} {count}" for rule, count in campaign.hit_jobs.most_common()))
    for line in sorted(differences):
        console.print(line)
    verify = [sys.executable, "-m", "jointseg.cli.main", "audit", "verify", str(campaign.local_results("audited"))]
    audit = subprocess.call(verify, cwd=campaign.folder.root)
    result = f"{len(differences)} files differ" if differences else "all bytes are equal"
    console.print(f"{campaign.faults.total()} faults, {passes} pass(es), {files} files each: {result}; {_machine()}")
    return int(bool(differences or audit))


def _job_times(results: Path) -> tuple[int, float]:
    """Return the number of jobs and their mean time, s, from the manifests."""
    seconds = [json.loads(path.read_text())["seconds"] for path in results.glob("manifests/**/*.json")]
    return len(seconds), sum(seconds) / len(seconds)


def _disturbed_run(campaign: Campaign, args: argparse.Namespace, rng: random.Random, job_s: float) -> int:
    """Run with faults; return the exit status, negative for a run that was killed or refused."""
    run = campaign.start()
    faults = 0
    while campaign.schedule and run.poll() is None:
        jobs = [json.loads(path.read_text())["job"] for path in campaign.running_jobs()]
        if not jobs or campaign.finished_jobs() < campaign.schedule[0]:
            time.sleep(POLL_SECONDS)
            continue
        time.sleep(rng.uniform(0, 2 * job_s))
        kind = rng.choice(args.kinds)
        if run.poll() is not None or (kind == "job" and not campaign.running_jobs()):
            continue
        FAULTS[kind](campaign, run, rng)
        faults += 1
        campaign.schedule.pop(0)
        campaign.faults[kind] += 1
        campaign.hit_jobs.update({job.partition(" ")[0] for job in jobs})
        if kind in LETHAL:
            run.wait()
            campaign.last_group = run.pid
            return -1
    status = run.wait()
    if status == IN_USE:
        campaign.refused += 1
        time.sleep(1)
        if rng.random() < KILL_ORPHANS:
            with suppress(ProcessLookupError):
                os.killpg(campaign.last_group, signal.SIGKILL)
        return -1
    campaign.last_group = run.pid
    if status and not faults:
        console.print(f"a run without a fault failed with status {status}")
    return status


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode:
        sys.exit("mounting a tmpfs for the fault `disk` needs root; leave `disk` out of --kinds")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=10, help="number of faults (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=FAULTS, default=["run", "scheduler", "job"], metavar="KIND")
    parser.add_argument("--store", action="store_true", help="inputs and results in S3 on the loopback interface")
    expected = "results of an undisturbed run of this code (default: run it first)"
    parser.add_argument("--expected", type=Path, metavar="RESULTS", help=expected)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if ("store" in args.kinds) != args.store:
        parser.error("pass both --store and the kind `store`, or neither")
    return args


def _compare(found: dict[str, str], expected: dict[str, str]) -> set[str]:
    differences = {f"missing: {path}" for path in expected.keys() - found.keys()}
    differences |= {f"unexpected: {path}" for path in found.keys() - expected.keys()}
    return differences | {
        f"differs: {path}" for path in expected.keys() & found.keys() if expected[path] != found[path]
    }


def _machine() -> str:
    from jointseg.provenance.machine import processor

    return f"{processor()}, {len(os.sched_getaffinity(0))} CPUs"


if __name__ == "__main__":
    sys.exit(main())
