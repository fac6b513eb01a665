"""Are the results of a run reproduced: jobs, and blocks of maps, computed again and compared byte by byte."""

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
from jointseg.audit.record_differences import Change
from jointseg.audit.replay.job import Sandbox, StepFailedError, reads_network
from jointseg.provenance.code_digest import code_digest
from jointseg.provenance.job_record import recorded_code_parts
from jointseg.provenance.manifest import Manifest
from jointseg.runtime.errors import DataError

OUTCOMES = {
    "identical": "the same bytes",
    "tolerated": "other pixels within the tolerance, under other conditions",
    "explained": "other bytes, made under other conditions: another device, package version or code",
    "differs": "other bytes under the same conditions",
    "failed": "the step failed under the conditions under which it once succeeded",
    "impossible": "cannot be replayed",
    "skipped": "reads from the network; replayed with --network",
}
FINDINGS = ("differs", "failed")
# Conditions that may change bytes; the commit is told, but what counts of it is the code digest.
_EXPLAIN = ("code", "package", "device", "threads")


@dataclass(frozen=True)
class Replay:
    """One job done again.

    Attributes:
        job: name of its manifest.
        outcome: see OUTCOMES.
        detail: why, or the first file that differs and how.
        files: number of its files; `differing` of them are other bytes.
        changes: what is not as it was recorded: code, packages, device.
        seconds, recorded_seconds: of the step, now and then.
    """

    job: str
    rule: str
    outcome: str
    detail: str = ""
    files: int = 0
    differing: int = 0
    changes: list[Change] = field(default_factory=list)
    seconds: float | None = None
    recorded_seconds: float | None = None
    kept_in: str | None = None


def as_json(results: Path, replays: list[Any]) -> dict[str, Any]:
    """Outcomes and their counts with stable keys."""
    counts = Counter(each.outcome for each in replays)
    return {
        "results": results.as_posix(),
        "replays": [asdict(each) for each in replays],
        "counts": dict(sorted(counts.items())),
        "clean": not any(counts[outcome] for outcome in FINDINGS),
    }


def sample_jobs(lineage: Lineage, count: int | None, seed: int, rules: Collection[str] = ()) -> list[Manifest]:
    """Jobs to replay: a random one of every rule before a second one of any, rules in random order; all when None.

    Raises DataError for a rule that the run does not have.
    """
    by_rule: dict[str, list[Manifest]] = {}
    for name in sorted(lineage.manifests):
        manifest = lineage.manifests[name]
        by_rule.setdefault(manifest.rule, []).append(manifest)
    for rule in rules:
        if rule not in by_rule:
            raise DataError(f"no job of rule {rule} in {lineage.results}; it has {', '.join(sorted(by_rule))}")
    drawn = random.Random(seed)
    queues = [by_rule[rule] for rule in sorted(by_rule) if not rules or rule in rules]
    drawn.shuffle(queues)
    for queue in queues:
        drawn.shuffle(queue)
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
    on_result: Callable[[Replay], None] = lambda replayed: None,
) -> list[Replay]:
    """Does jobs again in a scratch folder and compares what they make with what the run's manifests say.

    Args:
        scratch: a folder for outputs; the results are read only.
        tolerance: share of the pixels of a raster, 0 to 1, that may differ when the conditions do.
        network: whether to do jobs that read from the network.
        keep: whether to keep, in the scratch folder, outputs that differ.
        told: called with each outcome.
    """
    sandbox = Sandbox(scratch, lineage)
    done = []
    for manifest in jobs:
        if reads_network(manifest) and not network:
            found = Replay(manifest.name, manifest.rule, "skipped", "reads from the network")
        else:
            found = _one(sandbox, manifest, tolerance, keep)
        done.append(found)
        on_result(found)
    return done


def _one(sandbox: Sandbox, manifest: Manifest, tolerance: float, keep: bool) -> Replay:
    then = manifest.record.get("seconds")
    about: dict[str, Any] = {"job": manifest.name, "rule": manifest.rule, "recorded_seconds": then}
    try:
        fresh = sandbox.replay(manifest)
    except DataError as error:
        return Replay(**about, outcome="impossible", detail=_reason(sandbox.lineage, manifest, str(error)))
    except StepFailedError as error:
        changes = _other_code(manifest)
        return Replay(**about, outcome="impossible" if changes else "failed", detail=str(error), changes=changes)
    parts = recorded_code_parts(sandbox.lineage.results, manifest.record["code"]), sandbox.code(fresh.record["code"])
    about |= {"seconds": fresh.record["seconds"], "changes": condition_changes(manifest.record, fresh.record, parts)}
    before, after = declared_files(manifest), declared_files(fresh)
    other = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    about |= {"files": len(before), "differing": len(other)}
    if not other:
        return Replay(**about, outcome="identical")
    folder = sandbox.path(manifest, manifest.record["results"])
    detail, tolerated = _details(sandbox.lineage.results, folder, other, tolerance)
    if keep:
        about["kept_in"] = _keep(folder, other, sandbox.scratch / "kept" / manifest.name)
    explained = any(change.kind in _EXPLAIN for change in about["changes"])
    outcome = "differs" if not explained else "tolerated" if tolerated else "explained"
    return Replay(**about, outcome=outcome, detail=detail)


def _details(results: Path, folder: Path, other: list[str], tolerance: float) -> tuple[str, bool]:
    """The first file that differs and how; whether all of them are rasters that differ within the tolerance."""
    detail = f"{other[0]}: {compare_files(results / other[0], folder / other[0]).summary}"
    tolerated = tolerance > 0
    for path in other:
        if not tolerated:
            break
        seen = compare_files(results / path, folder / path) if path.endswith(RASTERS) else None
        raster = seen.raster if seen else None
        tolerated = raster is not None and not raster.grid and raster.share <= tolerance
    return detail, tolerated


def _keep(folder: Path, other: list[str], kept: Path) -> str:
    for path in other:
        if (folder / path).is_file():
            (kept / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / path, kept / path)
    return kept.as_posix()


def _reason(lineage: Lineage, manifest: Manifest, error: str) -> str:
    """Why a job cannot be replayed; an input that was deleted on purpose is said to be pruned."""
    from jointseg.audit.prune import pruned_paths

    gone = pruned_paths(lineage.results)
    for taken in manifest.inputs:
        inside = manifest.relative_path(taken.path)
        if inside is not None and any(path == inside or path.startswith(f"{inside}/") for path in gone):
            return f"{error}; {inside} was pruned: `jointseg run` makes it again"
    return error


def _other_code(manifest: Manifest) -> list[Change]:
    """Whether a step of this package that failed has another code now, or none any more."""
    step, then = manifest.record["step"], manifest.record["code"]
    if step.partition(".")[0] != __name__.partition(".")[0]:
        return []
    try:
        now = code_digest(step)
    except DataError:
        now = "none"
    return [] if now == then else [Change("code", step, then[:12], now[:12])]
