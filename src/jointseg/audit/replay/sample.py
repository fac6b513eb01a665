"""Replay of recorded jobs: rerun a sample of jobs in a sandbox and compare their outputs byte by byte."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jointseg.audit.diff.causes import condition_changes, declared_files
from jointseg.audit.diff.files import RASTERS, compare_files
from jointseg.audit.lineage import Lineage
from jointseg.audit.prune import pruned_paths
from jointseg.audit.record_differences import Change
from jointseg.audit.replay.job import Sandbox, StepFailedError, reads_network
from jointseg.provenance.code_digest import code_digest
from jointseg.provenance.job_record import recorded_code_parts
from jointseg.provenance.manifest import Manifest
from jointseg.runtime.errors import DataError

OUTCOMES = {
    "identical": "identical bytes",
    "tolerated": "pixel differences within the tolerance, under different conditions",
    "explained": "different bytes under different conditions: device, package version or code",
    "differs": "different bytes under the same conditions",
    "failed": "the step failed under the conditions under which it succeeded before",
    "impossible": "cannot be replayed",
    "skipped": "uses the network; use --network to replay it",
}
FINDINGS = ("differs", "failed")
# Conditions that may change bytes. The commit is reported, but the code digest covers its relevant part.
_EXPLAINING = ("code", "package", "device", "threads")


@dataclass(frozen=True)
class Replay:
    """Result of one replayed job."""

    job: str
    rule: str
    outcome: str
    detail: str = ""  # the reason, or the first differing file and its difference
    files: int = 0  # number of its files; `differing` of them have different bytes
    differing: int = 0
    # conditions that differ from the recorded ones: code, packages, device
    changes: list[Change] = field(default_factory=list)
    # seconds, recorded_seconds: duration of the step in the replay and in the run
    seconds: float | None = None
    recorded_seconds: float | None = None
    kept_in: str | None = None  # folder of the kept outputs, None if none were kept


def as_json(results: Path, replays: list[Any]) -> dict[str, Any]:
    """Return outcomes and their counts."""
    counts = Counter(replay.outcome for replay in replays)
    return {
        "results": results.as_posix(),
        "replays": [asdict(replay) for replay in replays],
        "counts": dict(sorted(counts.items())),
        "clean": not any(counts[outcome] for outcome in FINDINGS),
    }


def sample_jobs(lineage: Lineage, count: int | None, seed: int, rules: Collection[str] = ()) -> list[Manifest]:
    """Draw jobs to replay, rules in random order: one random job per rule, then a second one, and so on; all if None.

    Raises DataError if the run has no job of one of `rules`.
    """
    by_rule: dict[str, list[Manifest]] = {}
    for name in sorted(lineage.manifests):
        manifest = lineage.manifests[name]
        by_rule.setdefault(manifest.rule, []).append(manifest)
    for rule in rules:
        if rule not in by_rule:
            raise DataError(f"no job of rule {rule} in {lineage.results}; its rules are {', '.join(sorted(by_rule))}")
    rng = random.Random(seed)
    queues = [by_rule[rule] for rule in sorted(by_rule) if not rules or rule in rules]
    rng.shuffle(queues)
    for queue in queues:
        rng.shuffle(queue)
    order = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return order[:count]


def replay_jobs(
    lineage: Lineage,
    jobs: list[Manifest],
    scratch: Path,
    *,
    tolerance: float = 0.0,
    network: bool = False,
    keep: bool = False,
    on_result: Callable[[Replay], None] = lambda replay: None,
) -> list[Replay]:
    """Rerun jobs in a scratch folder and compare their outputs with the manifests of the run.

    Args:
        scratch: a folder for outputs; the results folder is not modified.
        tolerance: fraction of the pixels of a raster, 0 to 1, that may differ under different conditions.
    """
    sandbox = Sandbox(scratch, lineage)
    replays = []
    for manifest in jobs:
        if reads_network(manifest) and not network:
            result = Replay(manifest.name, manifest.rule, "skipped", "uses the network")
        else:
            result = _replay(sandbox, manifest, tolerance, keep)
        replays.append(result)
        on_result(result)
    return replays


def _replay(sandbox: Sandbox, manifest: Manifest, tolerance: float, keep: bool) -> Replay:
    seconds = manifest.record.get("seconds")
    common: dict[str, Any] = {"job": manifest.name, "rule": manifest.rule, "recorded_seconds": seconds}
    try:
        fresh = sandbox.replay(manifest)
    except DataError as error:
        return Replay(**common, outcome="impossible", detail=_reason(sandbox.lineage, manifest, str(error)))
    except StepFailedError as error:
        changes = _code_change(manifest)
        return Replay(**common, outcome="impossible" if changes else "failed", detail=str(error), changes=changes)
    results = sandbox.lineage.results
    folder = sandbox.path(manifest, manifest.record["results"])
    parts = recorded_code_parts(results, manifest.record["code"]), recorded_code_parts(folder, fresh.record["code"])
    common |= {"seconds": fresh.record["seconds"], "changes": condition_changes(manifest.record, fresh.record, parts)}
    before, after = declared_files(manifest), declared_files(fresh)
    differing = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    common |= {"files": len(before), "differing": len(differing)}
    if not differing:
        return Replay(**common, outcome="identical")
    detail = f"{differing[0]}: {compare_files(results / differing[0], folder / differing[0]).summary}"
    tolerated = tolerance > 0 and all(_is_tolerated(results / path, folder / path, tolerance) for path in differing)
    if keep:
        common["kept_in"] = _keep(folder, differing, sandbox.scratch / "kept" / manifest.name)
    explained = any(change.kind in _EXPLAINING for change in common["changes"])
    outcome = "differs" if not explained else "tolerated" if tolerated else "explained"
    return Replay(**common, outcome=outcome, detail=detail)


def _is_tolerated(recorded: Path, fresh: Path, tolerance: float) -> bool:
    raster = compare_files(recorded, fresh).raster if recorded.name.endswith(RASTERS) else None
    return raster is not None and not raster.grid and raster.fraction <= tolerance


def _keep(folder: Path, differing: list[str], kept: Path) -> str:
    for path in differing:
        if (folder / path).is_file():
            (kept / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / path, kept / path)
    return kept.as_posix()


def _reason(lineage: Lineage, manifest: Manifest, error: str) -> str:
    """The reason why a job cannot be replayed, with a hint if an input was pruned."""
    pruned = pruned_paths(lineage.results)
    for artefact in manifest.inputs:
        path = manifest.relative_path(artefact.path)
        if path is not None and any(name == path or name.startswith(f"{path}/") for name in pruned):
            return f"{error}; {path} was pruned: `jointseg run` rebuilds it"
    return error


def _code_change(manifest: Manifest) -> list[Change]:
    """The code change of a failed step of this package, empty if its code is unchanged."""
    step, recorded = manifest.record["step"], manifest.record["code"]
    if step.partition(".")[0] != __name__.partition(".")[0]:
        return []
    try:
        current = code_digest(step)
    except DataError:
        current = "none"
    return [] if current == recorded else [Change("code", step, recorded[:12], current[:12])]
