"""Outdated jobs of a run, with reasons: changed settings, functions, packages and inputs, and missing files."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from graphlib import TopologicalSorter
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
    "new": "the job never ran, or its manifest is missing",
    "output": "an output is missing",
    "unfinished": "the last run of the job was interrupted",
    "setting": "a setting has changed",
    "code": "a function, method or data file of the step has changed",
    "package": "the locked version of a package has changed",
    "input": "an input was added, removed or changed",
    "other": "another reason from Snakemake",
}


@dataclass
class OutdatedJob:
    """A job that would run."""

    name: str  # name of its manifest, such as "predict/2021/50N_E0660_N3540"
    rule: str
    wildcards: dict[str, str]
    # reasons why the job itself is outdated; empty if only upstream jobs have changes
    changes: list[Change] = field(default_factory=list)
    # names of the upstream jobs with changes of their own, at any distance
    follows: list[str] = field(default_factory=list)
    seconds: float | None = None  # duration of its last run, None if not recorded
    device: str = "unknown"


@dataclass
class Plan:
    """All jobs that would run, in execution order."""

    jobs: list[OutdatedJob]
    open: bool  # whether the tile grid is recomputed, after which more jobs may be outdated

    def hours(self) -> dict[str, float]:
        """Return the duration of the last runs in hours, by device."""
        found: dict[str, float] = {}
        for job in self.jobs:
            found[job.device] = found.get(job.device, 0) + (job.seconds or 0) / 3600
        return {device: hours for device, hours in sorted(found.items()) if hours}

    def unmeasured(self) -> int:
        """Return the number of jobs without a recorded duration."""
        return sum(job.seconds is None for job in self.jobs)

    def as_json(self) -> dict[str, Any]:
        return {
            "jobs": [asdict(job) for job in self.jobs],
            "open": self.open,
            "hours": self.hours(),
            "unmeasured": self.unmeasured(),
        }


def find_outdated(config: Path, rest: Iterable[str] = ()) -> Plan:
    """Return the jobs that `jointseg run CONFIG` would run, without running them.

    Snakemake computes the plan. The reasons come from a comparison of each manifest with the current settings, code,
    packages and inputs.

    `rest` has further arguments for Snakemake, such as targets. Raises DataError if the config is invalid, or if Snakemake
    cannot plan the run; the message contains Snakemake's output.
    """
    results = Path(read_config(config).results)
    planned = dry_run(config, rest)
    hashes = HashCache(results / STATE_FOLDER / "hashes.sqlite") if results.is_dir() else None
    jobs = {}
    by_manifest = {job["manifest"]: job for job in planned["jobs"]}
    for manifest, job in by_manifest.items():
        file = Path(manifest)
        name = file.relative_to(results / FOLDER).with_suffix("").as_posix()
        outdated = OutdatedJob(name, job["rule"], job["wildcards"])
        try:
            last = read(file) if file.is_file() else None
        except DataError:
            last = None
        if last is not None:
            outdated.seconds, outdated.device = last.record["seconds"], last.device
        outdated.changes = _changes(job, last, results, hashes, planned["open"])
        jobs[manifest] = outdated
    ordered = list(TopologicalSorter({name: by_manifest[name]["after"] for name in sorted(by_manifest)}).static_order())
    for manifest in ordered:
        upstream = [jobs[parent] for parent in by_manifest[manifest]["after"]]
        roots = {root for parent in upstream for root in ([parent.name] if parent.changes else parent.follows)}
        jobs[manifest].follows = sorted(roots)
        if not jobs[manifest].changes and not roots:
            jobs[manifest].changes = [Change("other", "; ".join(by_manifest[manifest]["reasons"]))]
    return Plan([jobs[manifest] for manifest in ordered], planned["open"])


def dry_run(config: Path, rest: Iterable[str] = ()) -> dict[str, Any]:
    """Return Snakemake's plan in the format of `jointseg.audit.dry_run`."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "plan.json")
        command = [sys.executable, "-m", "jointseg.audit.dry_run", str(plan), "--configfile", str(config)]
        command += ["-n", "--quiet", "all", "--rerun-incomplete", *rest]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if not plan.is_file():
            lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            raise DataError(f"Snakemake cannot plan {config}: {' '.join(lines[-12:]) or 'no output'}")
        return json.loads(plan.read_text(encoding="utf-8"))


def _changes(
    job: dict[str, Any], last: Manifest | None, results: Path, hashes: HashCache | None, unresolved: bool
) -> list[Change]:
    """Reasons why a job itself is outdated; `unresolved` if its inputs depend on a grid that is recomputed."""
    missing = [Change("output", path, "exists", "missing") for path in job["missing"] if path != job["manifest"]]
    if last is None:
        return [*([] if len(missing) == len(job["missing"]) else [Change("new", job["manifest"])]), *missing]
    record = last.record
    changes = missing + [Change("unfinished", path) for path in job["incomplete"]]
    now = {name: value for name, value in job["params"].items() if name not in RECORD_PARAMS}
    changes += setting_changes(record["params"], now)
    if job["params"]["code"] != record["code"]:
        changes += code_changes(recorded_code_parts(results, record["code"]), code_parts(record["step"]))
    changes += version_changes(record.get("environment") or {}, job["params"]["environment"])
    return changes + _inputs(job, last, hashes, unresolved)


def _inputs(job: dict[str, Any], last: Manifest, hashes: HashCache | None, unresolved: bool) -> list[Change]:
    """Inputs that were added, removed, or are newer than the outputs."""
    recorded = {artefact.path: artefact for artefact in last.inputs}
    planned = recorded.keys() if unresolved else set(job["inputs"])
    changes = [Change("input", path, "", "added") for path in sorted(planned - recorded.keys())]
    changes += [Change("input", path, "used", "removed") for path in sorted(recorded.keys() - planned)]
    for path in job["updated"]:
        if path in recorded and hashes is not None:
            now = hashes.digest(Path(path))
            unchanged = now == recorded[path].sha256
            after = "newer, identical content" if unchanged else f"sha256 {now[:12]}"
            changes.append(Change("input", path, f"sha256 {recorded[path].sha256[:12]}", after))
    return changes


def code_location(change: Change) -> str:
    """Return the location of changed code as file:line, "" for other changes and for removed code."""
    if change.kind != "code" or ":" not in change.what:
        return ""
    module, _, part = change.what.partition(":")
    found = locate(module, part)
    return f"{os.path.relpath(found[0])}:{found[1]}" if found else ""
