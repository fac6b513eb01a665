"""What a run would make again, and why: settings, code by function, packages, inputs, missing files."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jointseg.audit.record_differences import Change, code_changes, setting_changes, version_changes
from jointseg.config.load import read_config
from jointseg.provenance.code_digest import code_parts, locate
from jointseg.provenance.hash_cache import HashCache
from jointseg.provenance.job_record import RECORD_PARAMS, STATE_FOLDER, recorded_code_parts
from jointseg.provenance.manifest import FOLDER, Manifest, read
from jointseg.runtime.errors import DataError

KINDS = {
    "new": "was never made, or its manifest is gone",
    "output": "a file that it made is gone",
    "unfinished": "its last run was stopped half-way",
    "setting": "a setting has another value",
    "code": "a function, method or data file that it uses is another",
    "package": "the lock file has another version of a package that it uses",
    "input": "an input came, went or changed",
    "other": "a reason that Snakemake gives",
}


@dataclass
class OutdatedJob:
    """A job that would run.

    Attributes:
        name: as its manifest's, such as "isa/2021/50N_E0660_N3540".
        changes: why the job itself is stale; empty when it only follows other jobs.
        follows: names of the stale jobs with changes of their own from which it takes something, at any distance.
        seconds: what its last run took, None where there is no record.
        device: on what its last run ran.
    """

    name: str
    rule: str
    wildcards: dict[str, str]
    changes: list[Change] = field(default_factory=list)
    follows: list[str] = field(default_factory=list)
    seconds: float | None = None
    device: str = "unknown"


@dataclass
class Plan:
    """All jobs that would run.

    Attributes:
        jobs: in the order in which they may run.
        open: whether the tiles are cut anew, after which more jobs may turn out stale.
    """

    jobs: list[OutdatedJob]
    open: bool

    def hours(self) -> dict[str, float]:
        """Hours by device that the jobs took when they last ran."""
        found: dict[str, float] = {}
        for job in self.jobs:
            found[job.device] = found.get(job.device, 0) + (job.seconds or 0) / 3600
        return {device: hours for device, hours in sorted(found.items()) if hours}

    def unmeasured(self) -> int:
        """Jobs that never ran, so that nobody knows what they take."""
        return sum(job.seconds is None for job in self.jobs)

    def as_json(self) -> dict[str, Any]:
        return {
            "jobs": [asdict(job) for job in self.jobs],
            "open": self.open,
            "hours": self.hours(),
            "unmeasured": self.unmeasured(),
        }


def find_outdated(config: Path, rest: Iterable[str] = ()) -> Plan:
    """What `jointseg run CONFIG` would make again. Nothing runs.

    The plan is Snakemake's own; why a job is in it is found by comparing its manifest with what is there now.

    Args:
        config: the config, as given to a run.
        rest: further arguments for Snakemake, such as targets.

    Raises DataError when the config is not valid or Snakemake cannot plan, with its words.
    """
    results = Path(read_config(config).results)
    planned = dry_run(config, rest)
    hashes = HashCache(results / STATE_FOLDER / "hashes.sqlite") if results.is_dir() else None
    jobs = {}
    for job in planned["jobs"]:
        file = Path(job["manifest"])
        name = file.relative_to(results / FOLDER).with_suffix("").as_posix()
        made = OutdatedJob(name, job["rule"], job["wildcards"])
        try:
            last = read(file) if file.is_file() else None
        except DataError:
            last = None
        if last is not None:
            made.seconds, made.device = last.record["seconds"], last.device
        made.changes = _changes(job, last, results, hashes, planned["open"])
        jobs[job["manifest"]] = made
    before = {job["manifest"]: job["after"] for job in planned["jobs"]}
    ordered = _ordered(before)
    for manifest in ordered:
        roots = {root for each in before[manifest] for root in _roots(jobs[each])}
        jobs[manifest].follows = sorted(roots)
        if not jobs[manifest].changes and not roots:
            reasons = next(job["reasons"] for job in planned["jobs"] if job["manifest"] == manifest)
            jobs[manifest].changes = [Change("other", "; ".join(reasons))]
    return Plan([jobs[manifest] for manifest in ordered], planned["open"])


def dry_run(config: Path, rest: Iterable[str] = ()) -> dict[str, Any]:
    """Snakemake's plan, as `jointseg.audit.dry_run` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "plan.json")
        command = [sys.executable, "-m", "jointseg.audit.dry_run", str(plan), "--configfile", str(config)]
        command += ["-n", "--quiet", "all", "--rerun-incomplete", *rest]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if not plan.is_file():
            words = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            raise DataError(f"Snakemake cannot plan {config}: {' '.join(words[-12:]) or 'it said nothing'}")
        return json.loads(plan.read_text(encoding="utf-8"))


def _roots(job: OutdatedJob) -> list[str]:
    return [job.name] if job.changes else job.follows


def _ordered(before: dict[str, list[str]]) -> list[str]:
    """The jobs, each after those that it waits for."""
    done: dict[str, None] = {}

    def visit(manifest: str) -> None:
        for each in before[manifest]:
            if each not in done:
                visit(each)
        done[manifest] = None

    for manifest in sorted(before):
        if manifest not in done:
            visit(manifest)
    return list(done)


def _changes(
    job: dict[str, Any], last: Manifest | None, results: Path, hashes: HashCache | None, unresolved: bool
) -> list[Change]:
    """Why a job is stale by itself; `unresolved` when its inputs depend on tiles that are cut anew."""
    gone = [Change("output", path, "there", "gone") for path in job["missing"] if path != job["manifest"]]
    if last is None:
        return [*([] if len(gone) == len(job["missing"]) else [Change("new", job["manifest"])]), *gone]
    written = last.record
    changes = gone + [Change("unfinished", path) for path in job["incomplete"]]
    now = {name: value for name, value in job["params"].items() if name not in RECORD_PARAMS}
    changes += setting_changes(written["params"], now)
    if job["params"]["code"] != written["code"]:
        changes += code_changes(recorded_code_parts(results, written["code"]), code_parts(written["step"]))
    changes += version_changes(written.get("environment") or {}, job["params"]["environment"])
    return changes + _inputs(job, last, hashes, unresolved)


def _inputs(job: dict[str, Any], last: Manifest, hashes: HashCache | None, unresolved: bool) -> list[Change]:
    """Inputs that came, went, or are newer than the outputs."""
    taken = {artefact.path: artefact for artefact in last.inputs}
    listed = taken.keys() if unresolved else set(job["inputs"])
    changes = [Change("input", path, "", "added") for path in sorted(listed - taken.keys())]
    changes += [Change("input", path, "taken", "no longer taken") for path in sorted(taken.keys() - listed)]
    for path in job["updated"]:
        if path in taken and hashes is not None:
            now = hashes.digest(Path(path))
            same = now == taken[path].sha256
            after = "newer, the same bytes" if same else f"sha256 {now[:12]}"
            changes.append(Change("input", path, f"sha256 {taken[path].sha256[:12]}", after))
    return changes


def code_location(change: Change) -> str:
    """Where the code of a change stands, as file:line, "" for other changes and for code that is gone."""
    if change.kind != "code" or ":" not in change.what:
        return ""
    module, _, part = change.what.partition(":")
    found = locate(module, part)
    return f"{os.path.relpath(found[0])}:{found[1]}" if found else ""
