"""Causes of differences between two runs: the first jobs at which they diverge, and what differs in their manifests."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jointseg.audit.lineage import Lineage, Parent
from jointseg.audit.record_differences import Change, code_changes, setting_changes, version_changes
from jointseg.provenance.digest import Entry
from jointseg.provenance.job_record import recorded_code_parts
from jointseg.provenance.manifest import FOLDER, Manifest

NOT_REPRODUCIBLE = "not reproducible"
KINDS = {
    "scene": "a Sentinel-2 scene was added or removed",
    "input": "an input was added or removed, or an external input differs",
    "setting": "a setting differs",
    "seed": "the seed differs",
    "code": "a function, method or data file of the step differs",
    "package": "a package version differs",
    "threads": "the number of threads differs",
    "device": "the processor or GPU differs",
    "commit": "the commit of the repository differs",
    "folder": "the name of the results folder differs",
    NOT_REPRODUCIBLE: "different output with the same inputs, settings, code and packages",
}
# Kinds that determine the output of a job. The others can affect only rounding or printed text.
DETERMINING = {"scene", "input", "setting", "seed", "code", "package"}
# Entries that differ between runs of the same job.
_TIMES = {"host", "user", "started", "finished", "seconds", "user_seconds", "system_seconds", "peak_memory_bytes"}
_IGNORED = {*_TIMES, "seal", "results", "inputs", "outputs"}
Record = dict[str, Any]
Parts = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Divergence:
    """A job at which two runs diverge, and all differences between its two manifests."""

    job: str
    changes: list[Change]


def declared_files(manifest: Manifest | None) -> dict[str, Entry]:
    """Return every declared output file by its path in the results folder."""
    outputs = manifest.declared_outputs() if manifest else ()
    return {entry.path: entry for path, output in outputs for entry in output.entries(path)}


def condition_changes(before: Record, after: Record, parts: tuple[Parts | None, Parts | None]) -> list[Change]:
    """Compare the conditions of two manifests of a job: code, packages, device, threads and commit.

    `parts` are their `code_parts`, None if not recorded.
    """
    changes = []
    if before["code"] != after["code"]:
        if None in parts:
            changes.append(Change("code", before["step"], before["code"][:12], after["code"][:12]))
        else:
            changes += code_changes(*parts)
    versions = [record.get("versions", {}) | record.get("environment", {}) for record in (before, after)]
    shared = versions[0].keys() & versions[1].keys() - {"jointseg"}  # other loaded packages are irrelevant
    changes += version_changes(*({name: version[name] for name in shared} for version in versions))
    devices = [record.get("device", {}) for record in (before, after)]
    for key in ("machine", "processor", "cuda", "torch_threads"):
        old, new = (device.get(key) for device in devices)
        if old != new and (key in devices[0] and key in devices[1]):
            changes.append(Change("threads" if key == "torch_threads" else "device", key, f"{old}", f"{new}"))
    commits = [f"{record.get('commit')}{' with changes' if record.get('dirty') else ''}" for record in (before, after)]
    if commits[0] != commits[1]:
        changes.append(Change("commit", "repository", *commits))
    return changes


class RunPair:
    """Two runs, compared job by job."""

    def __init__(self, a: Lineage, b: Lineage) -> None:
        self.a, self.b = a, b
        self._changes: dict[str, list[Change]] = {}
        self._divergences: dict[str, list[Divergence]] = {}

    def changes(self, name: str) -> list[Change]:
        """Return the differences between the two manifests of a job, except times, host and outputs of other jobs."""
        if name not in self._changes:
            one, other = self.a.manifests[name], self.b.manifests[name]
            changes = _scenes(one.record, other.record) + self._inputs(name)
            settings = (_without_location(run.record["params"], run) for run in (one, other))
            for change in setting_changes(*settings):
                last = change.what.rpartition(".")[2]
                kind = last if last in ("seed", "threads") else "setting"
                changes.append(Change(kind, change.what, change.before, change.after))
            parts = (
                recorded_code_parts(self.a.results, one.record["code"]),
                recorded_code_parts(self.b.results, other.record["code"]),
            )
            self._changes[name] = changes + condition_changes(one.record, other.record, parts)
        return self._changes[name]

    def divergences(self, name: str) -> list[Divergence]:
        """Return the first jobs, among a job and its ancestors, at which the runs diverge.

        The runs diverge at a job whose inputs from other jobs are all identical. Downstream of it, a job is listed only if
        it has a determining difference of its own.
        """
        if name in self._divergences:
            return self._divergences[name]
        self._divergences[name] = []  # ends the recursion if manifests contain a cycle
        producers = self._differing_producers(name)
        found = {each.job: each for producer in producers for each in self.divergences(producer)}
        changes = self.changes(name)
        if not producers:
            found[name] = Divergence(name, changes + self._unexplained(name))
        elif any(change.kind in DETERMINING for change in changes):
            found[name] = Divergence(name, changes)
        self._divergences[name] = list(found.values())
        return self._divergences[name]

    def _unexplained(self, name: str) -> list[Change]:
        """The change NOT_REPRODUCIBLE if the outputs of a job differ without a determining difference."""
        one, other = self.a.manifests[name], self.b.manifests[name]
        changes = self.changes(name)
        if declared_files(one) == declared_files(other) or any(change.kind in DETERMINING for change in changes):
            return []
        found = [Change(NOT_REPRODUCIBLE, name, _machine(one), _machine(other))]
        if one.record["results"] != other.record["results"] and not changes:
            found.insert(0, Change("folder", "results", one.record["results"], other.record["results"]))
        return found

    def _differing_producers(self, name: str) -> list[str]:
        """Jobs of both runs whose outputs are inputs of a job and differ."""
        before, after = (_produced(run.parents(run.manifests[name]), run.manifests[name]) for run in (self.a, self.b))
        names = set()
        for key in before.keys() & after.keys():
            (old, one), (new, other) = before[key], after[key]
            is_manifest = key[1].startswith(f"{FOLDER}/")
            same = _canonical(one) == _canonical(other) if is_manifest else old == new
            if not same and one.name == other.name:
                names.add(one.name)
        return sorted(names)

    def _inputs(self, name: str) -> list[Change]:
        """Inputs that were added or removed, and external inputs that differ."""
        before, after = (
            {_key(parent, run.manifests[name]): parent for parent in run.parents(run.manifests[name])}
            for run in (self.a, self.b)
        )
        changes = []
        for key in sorted(before.keys() | after.keys()):
            what = f"{key[0]} {key[1]}"
            if key not in after or key not in before:
                values = ("exists", "") if key in before else ("", "exists")
                changes.append(Change("input", what, *values))
                continue
            producers = before[key].producer, after[key].producer
            if producers[0] is None or producers[1] is None:
                changes += _external(what, before[key], after[key])
            elif producers[0].name != producers[1].name:
                changes.append(Change("input", what, f"by {producers[0].name}", f"by {producers[1].name}"))
        return changes


def _external(what: str, one: Parent, other: Parent) -> list[Change]:
    """Differences of an external input; for a folder by file."""
    if one.artefact.sha256 == other.artefact.sha256:
        return []
    if one.artefact.files is None or other.artefact.files is None:
        return [Change("input", what, one.artefact.sha256[:12], other.artefact.sha256[:12])]
    before, after = (
        {entry.path: entry.sha256[:12] for entry in parent.artefact.files or ()} for parent in (one, other)
    )
    return [
        Change("input", f"{what}/{path}", before.get(path, ""), after.get(path, ""))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _key(parent: Parent, manifest: Manifest) -> tuple[str, str]:
    """Name of an input, and its path in the results folder or, for an external input, its file name."""
    path = manifest.relative_path(parent.artefact.path)
    return parent.artefact.name, path if path is not None else Path(parent.artefact.path).name


def _produced(parents: Iterable[Parent], manifest: Manifest) -> dict[tuple[str, str], tuple[str, Manifest]]:
    """Checksum and producer of each input from this run."""
    return {
        _key(parent, manifest): (parent.artefact.sha256, parent.producer)
        for parent in parents
        if parent.producer is not None and manifest.relative_path(parent.artefact.path) is not None
    }


def _scenes(before: Record, after: Record) -> list[Change]:
    old, new = (record["facts"].get("scenes") for record in (before, after))
    if not isinstance(old, list) or not isinstance(new, list):
        return []
    removed = [Change("scene", str(scene), "listed", "") for scene in old if scene not in new]
    return removed + [Change("scene", str(scene), "", "listed") for scene in new if scene not in old]


def _without_location(value: Any, manifest: Manifest) -> Any:
    """A value with paths relative to the results folder, so that the name of the folder is not a difference."""
    if isinstance(value, dict):
        return {_without_location(key, manifest): _without_location(item, manifest) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_location(item, manifest) for item in value]
    if isinstance(value, str) and (path := manifest.relative_path(value)) is not None:
        return f"(results)/{path}"
    return value


def _canonical(manifest: Manifest) -> Any:
    """Content of a manifest without times, locations and the checksums of other manifests."""
    record = {key: value for key, value in manifest.record.items() if key not in _IGNORED}
    record["device"] = {key: value for key, value in record.get("device", {}).items() if key != "cpus"}
    for key, artefacts in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        record[key] = [
            [file.name, *_without_location([file.path, "" if f"/{FOLDER}/" in file.path else file.sha256], manifest)]
            for file in artefacts
        ]
    return _without_location(record, manifest)


def _machine(manifest: Manifest) -> str:
    """Device, threads and main package versions of a job in one line."""
    device, versions = manifest.record.get("device", {}), manifest.record.get("versions", {})
    parts = [manifest.device]
    if "torch_threads" in device:
        parts.append(f"{device['torch_threads']} torch threads")
    main = ("python", "torch", "numpy", "gdal (rasterio)")
    return ", ".join([*parts, *(f"{name} {versions[name]}" for name in main if name in versions)])
