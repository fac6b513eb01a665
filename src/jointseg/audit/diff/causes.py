"""Why two runs differ: the first jobs at which they part, and all in which the two records of a job differ."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jointseg.audit.lineage import Lineage, Parent
from jointseg.audit.record_differences import Change, code_changes, setting_changes, version_changes
from jointseg.provenance.digest import Entry
from jointseg.provenance.job_record import recorded_code_parts
from jointseg.provenance.manifest import FOLDER, Manifest

NOT_REPRODUCIBLE = "not reproducible here"
KINDS = {
    "scene": "a Sentinel-2 scene came or went",
    "input": "an input came or went, or one from outside the run is another",
    "setting": "a setting has another value",
    "seed": "the seed is another",
    "code": "a function, method or data file that the step uses is another",
    "package": "another version of a package",
    "threads": "another number of threads",
    "device": "another processor or GPU",
    "commit": "another commit of the repository",
    "folder": "the results folder has another name",
    NOT_REPRODUCIBLE: "the same inputs, settings, code and packages, yet other bytes",
}
# What decides the bytes that a job makes; the rest may do so only through rounding, or by being printed.
DECIDES = {"scene", "input", "setting", "seed", "code", "package"}
# Differ from run to run of the same job.
_TIMES = {"host", "user", "started", "finished", "seconds", "user_seconds", "system_seconds", "peak_memory_bytes"}
_UNSAID = {*_TIMES, "seal", "results", "inputs", "outputs"}
Written = dict[str, Any]
Parts = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Divergence:
    """A job at which two runs part, and all in which its two records differ."""

    job: str
    changes: list[Change]


def declared_files(manifest: Manifest | None) -> dict[str, Entry]:
    """Every file that a job declares in its results folder, by its path in it."""
    made = manifest.declared_outputs() if manifest else ()
    return {entry.path: entry for base, output in made for entry in output.entries(base)}


def condition_changes(before: Written, after: Written, parts: tuple[Parts | None, Parts | None]) -> list[Change]:
    """In what two records of a job differ that is neither input nor setting: code, packages, device, threads.

    Args:
        before, after: the manifests' content.
        parts: what their code digests are made of, None where it was not kept.
    """
    changes = []
    if before["code"] != after["code"]:
        if None in parts:
            changes.append(Change("code", before["step"], before["code"][:12], after["code"][:12]))
        else:
            changes += code_changes(*parts)
    versions = [each.get("versions", {}) | each.get("environment", {}) for each in (before, after)]
    shared = versions[0].keys() & versions[1].keys() - {"jointseg"}  # what is loaded beside does not matter
    changes += version_changes(*({name: each[name] for name in shared} for each in versions))
    devices = [each.get("device", {}) for each in (before, after)]
    for key in ("machine", "processor", "cuda", "torch_threads"):
        old, new = (device.get(key) for device in devices)
        if old != new and (key in devices[0] and key in devices[1]):
            changes.append(Change("threads" if key == "torch_threads" else "device", key, f"{old}", f"{new}"))
    commits = [f"{each.get('commit')}{' with changes' if each.get('dirty') else ''}" for each in (before, after)]
    if commits[0] != commits[1]:
        changes.append(Change("commit", "repository", *commits))
    return changes


class RunPair:
    """Two runs, job by job."""

    def __init__(self, a: Lineage, b: Lineage) -> None:
        self.a, self.b = a, b
        self._changes: dict[str, list[Change]] = {}
        self._partings: dict[str, list[Divergence]] = {}

    def changes(self, name: str) -> list[Change]:
        """In what the two records of a job differ, but for times, host, and inputs that jobs made."""
        if name not in self._changes:
            one, other = self.a.manifests[name], self.b.manifests[name]
            changes = _scenes(one.record, other.record) + self._inputs(name)
            for change in setting_changes(_settings(one), _settings(other)):
                last = change.what.rpartition(".")[2]
                kind = last if last in ("seed", "threads") else "setting"
                changes.append(Change(kind, change.what, change.before, change.after))
            codes = tuple(
                recorded_code_parts(run.results, each.record["code"]) for run, each in ((self.a, one), (self.b, other))
            )
            changes += condition_changes(one.record, other.record, codes)  # type: ignore[arg-type]
            self._changes[name] = changes
        return self._changes[name]

    def divergences(self, name: str) -> list[Divergence]:
        """The first jobs behind a job, itself included, at which the runs part.

        A job none of whose inputs from other jobs differ is where they part. Further on the way only jobs are named
        that would part the runs by themselves.
        """
        if name in self._partings:
            return self._partings[name]
        self._partings[name] = []  # no job is behind itself; a record that says so must not end this
        makers = self._differing(name)
        found = {parting.job: parting for maker in makers for parting in self.divergences(maker)}
        changes = self.changes(name)
        if not makers:
            found[name] = Divergence(name, changes + self._here(name))
        elif any(change.kind in DECIDES for change in changes):
            found[name] = Divergence(name, changes)
        self._partings[name] = list(found.values())
        return self._partings[name]

    def _here(self, name: str) -> list[Change]:
        """What to say of a job that made other bytes of the same."""
        one, other = self.a.manifests[name], self.b.manifests[name]
        if declared_files(one) == declared_files(other) or any(change.kind in DECIDES for change in self.changes(name)):
            return []
        if one.record["results"] != other.record["results"] and not self.changes(name):
            return [
                Change("folder", "results", one.record["results"], other.record["results"]),
                Change(NOT_REPRODUCIBLE, name, _machine(one), _machine(other)),
            ]
        return [Change(NOT_REPRODUCIBLE, name, _machine(one), _machine(other))]

    def _differing(self, name: str) -> list[str]:
        """Jobs of both runs that made inputs of a job which differ."""
        before, after = (_made(run.parents(run.manifests[name]), run.manifests[name]) for run in (self.a, self.b))
        found = []
        for place in before.keys() & after.keys():
            one, other = before[place], after[place]
            same = one.artefact.sha256 == other.artefact.sha256
            if place[1].startswith(f"{FOLDER}/"):
                same = self._alike(one, other)
            if not same and one.producer and other.producer and one.producer.name == other.producer.name:
                found.append(one.producer.name)
        return sorted(set(found))

    def _alike(self, one: Parent, other: Parent) -> bool:
        """Whether two manifests that a job took say the same, but for times and places."""
        if one.producer is None or other.producer is None:
            return False
        return _canonical(one.producer) == _canonical(other.producer)

    def _inputs(self, name: str) -> list[Change]:
        """Inputs that came or went, and inputs from outside that are another."""
        sides = []
        for run in (self.a, self.b):
            manifest = run.manifests[name]
            sides.append({_place(parent, manifest): parent for parent in run.parents(manifest)})
        before, after = sides
        changes = []
        for place in sorted(before.keys() | after.keys()):
            what = f"{place[0]} {place[1]}"
            if place not in after or place not in before:
                sign = ("there", "") if place in before else ("", "there")
                changes.append(Change("input", what, *sign))
                continue
            makers = before[place].producer, after[place].producer
            if makers[0] is None or makers[1] is None:
                changes += _outside(what, before[place], after[place])
            elif makers[0].name != makers[1].name:
                changes.append(Change("input", what, f"by {makers[0].name}", f"by {makers[1].name}"))
        return changes


def _outside(what: str, one: Parent, other: Parent) -> list[Change]:
    """How an input that no job made differs: for folders, which of its files."""
    if one.artefact.sha256 == other.artefact.sha256:
        return []
    if one.artefact.files is None or other.artefact.files is None:
        return [Change("input", what, one.artefact.sha256[:12], other.artefact.sha256[:12])]
    before, after = ({entry.path: entry.sha256[:12] for entry in each.artefact.files or ()} for each in (one, other))
    return [
        Change("input", f"{what}/{path}", before.get(path, ""), after.get(path, ""))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _place(parent: Parent, manifest: Manifest) -> tuple[str, str]:
    """Name of an input, and its path in the results folder, or its own name where it lies elsewhere."""
    inside = manifest.relative_path(parent.artefact.path)
    return parent.artefact.name, inside if inside is not None else Path(parent.artefact.path).name


def _made(parents: Iterable[Parent], manifest: Manifest) -> dict[tuple[str, str], Parent]:
    return {
        _place(parent, manifest): parent
        for parent in parents
        if parent.producer is not None and manifest.relative_path(parent.artefact.path) is not None
    }


def _scenes(before: Written, after: Written) -> list[Change]:
    old, new = (each["facts"].get("scenes") for each in (before, after))
    if not isinstance(old, list) or not isinstance(new, list):
        return []
    gone = [Change("scene", str(scene), "listed", "") for scene in old if scene not in new]
    return gone + [Change("scene", str(scene), "", "listed") for scene in new if scene not in old]


def _settings(manifest: Manifest) -> Written:
    return _placeless(manifest.record["params"], manifest)


def _placeless(value: Any, manifest: Manifest) -> Any:
    """A value with the paths in the results folder as seen from there, so that the name of the folder is no change."""
    if isinstance(value, dict):
        return {_placeless(key, manifest): _placeless(each, manifest) for key, each in value.items()}
    if isinstance(value, list):
        return [_placeless(each, manifest) for each in value]
    if isinstance(value, str) and (inside := manifest.relative_path(value)) is not None:
        return f"(results)/{inside}"
    return value


def _canonical(manifest: Manifest) -> Any:
    """What a manifest says, but for times, places and the bytes of other manifests."""
    said = {key: value for key, value in manifest.record.items() if key not in _UNSAID}
    said["device"] = {key: value for key, value in said.get("device", {}).items() if key != "cpus"}
    for key, artefacts in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        said[key] = [(each.name, each.path, "" if f"/{FOLDER}/" in each.path else each.sha256) for each in artefacts]
        said[key] = [[name, *_placeless([path, sha], manifest)] for name, path, sha in said[key]]
    return _placeless(said, manifest)


def _machine(manifest: Manifest) -> str:
    """Device, threads and the main versions of a job, in a line."""
    device, versions = manifest.record.get("device", {}), manifest.record.get("versions", {})
    parts = [manifest.device]
    if "torch_threads" in device:
        parts.append(f"{device['torch_threads']} threads of torch")
    parts += [
        f"{name} {versions[name]}" for name in ("python", "torch", "numpy", "gdal (rasterio)") if name in versions
    ]
    return ", ".join(parts)
