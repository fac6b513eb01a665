"""Verification of a results folder: compare the checksum of every file with its manifest."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from jointseg.audit import prune, releases
from jointseg.audit.descendants import descendants
from jointseg.audit.hashing import HashedFile, HashingPass, hash_files, scan
from jointseg.audit.signature import AllowedSigners
from jointseg.provenance.digest import Entry, tree_hash
from jointseg.provenance.manifest import FOLDER, Manifest, is_sealed, parse, read_contents
from jointseg.runtime.errors import DataError

# Folders of a results folder that no job declares as output.
UNDECLARED = ("logs", "benchmarks", ".jointseg", releases.FOLDER)
PASS = Path(".jointseg", "verify.sqlite")  # in a results folder, during verification
KINDS = {
    "missing": "a declared file or a release that does not exist",
    "changed": "content differs from the checksum in its manifest",
    "swapped": "has the content, or is the manifest, of another file",
    "undeclared": "not declared as output by any manifest",
    "conflicting": "declared by two manifests with different checksums",
    "inconsistent": "the job used another version of this input",
    "unreadable": "a manifest or release that cannot be read",
    "edited": "a manifest or release with a missing or wrong seal",
    "unreleased": "a manifest that was changed or removed since the last release",
    "unsigned": "a release without the required signature",
    "bad_signature": "a signature that is invalid or not by an allowed signer",
}
_TAINTS = {"changed", "swapped", "edited", "inconsistent"}


@dataclass(frozen=True, order=True)
class Finding:
    """One defect: its kind (see KINDS), the path in the results folder, the manifest, and a description."""

    kind: str
    path: str
    manifest: str
    detail: str


@dataclass
class Report:
    """Result of a verification."""

    results: str
    manifests: int = 0
    # files, bytes: number and size of the files in the results folder, without manifests and releases
    files: int = 0
    bytes: int = 0
    pruned: int = 0  # number of files that `jointseg audit prune` deleted
    resumed: int = 0  # number of files that the interrupted pass had already hashed
    outside_inputs: int = 0
    findings: list[Finding] = field(default_factory=list)
    # paths of further outputs that are derived from changed or edited files
    descendants: list[str] = field(default_factory=list)
    release: releases.ReleaseStatus | None = None  # the last release and the changes since, None if there is no release
    # sha256 of every manifest, by path in the results folder; not in the JSON
    hashes: dict[str, str] = field(default_factory=dict, repr=False)

    def add(self, kind: str, path: str, manifest: str, detail: str) -> None:
        self.findings.append(Finding(kind, path, manifest, detail))

    def as_json(self) -> dict[str, Any]:
        counts = Counter(finding.kind for finding in self.findings)
        payload = asdict(self) | {"release": self.release.as_json() if self.release else None}
        del payload["hashes"]
        return {**payload, "counts": dict(sorted(counts.items())), "clean": not self.findings}


@dataclass(frozen=True)
class _Declared:
    entry: Entry
    manifest: Manifest


def verify_results(
    results: Path,
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda total: None,
    advance: Callable[[int], None] = lambda count: None,
    resume: bool = False,
    signers: AllowedSigners | None = None,
    root: str | None = None,
) -> Report:
    """Hash every file of a results folder and compare it with the manifests and the releases.

    Args:
        results: may have been moved or copied since the run.
        on_start: called once with the number of bytes to hash.
        advance: called, from any thread, with the number of bytes just hashed.
        root: root hash of a release that must be in the history.
    """
    if not (results / FOLDER).is_dir():
        raise DataError(f"{results} has no folder named {FOLDER}; pass the results folder of a run")
    if signers and not signers.file.is_file():
        raise DataError(f"allowed signers file {signers.file} does not exist; write one line per signer: NAME KEY")
    report = Report(results.as_posix())
    manifests = read_manifests(results, report)
    with_findings = {finding.path for finding in report.findings}
    defects, report.release = releases.check(results, report.hashes, with_findings, signers, root)
    report.findings += [Finding(defect.kind, defect.path, "", defect.detail) for defect in defects]
    declared = _declared(manifests, report)
    existing = scan(results, (*UNDECLARED, FOLDER))
    existing.pop(prune.PRUNED_LIST, None)
    report.files, report.manifests, report.bytes = len(existing), len(manifests), sum(existing.values())
    missing = declared.keys() - existing.keys()
    pruned = missing & _pruned(results, report)
    report.pruned = len(pruned)
    for path in missing - pruned:
        report.add("missing", path, declared[path].manifest.name, "restore it or rerun its job")
    for path in existing.keys() - declared.keys():
        report.add("undeclared", path, "", "move it out of the results folder or delete it")
    state = HashingPass(results / PASS, resume)
    sizes = {path: existing[path] for path in declared.keys() & existing.keys()}
    on_start(sum(sizes.values()))
    hashed = hash_files(results, sizes, state, workers, advance)
    state.finish()
    report.resumed = state.resumed
    _find_changed(declared, hashed, report)
    _find_inconsistent(manifests, declared, report)
    report.descendants = _descendants(manifests, report)
    report.findings.sort()
    return report


def _pruned(results: Path, report: Report) -> set[str]:
    """Paths of pruned files; an edited list of them is a finding."""
    try:
        return prune.pruned_paths(results)
    except DataError as error:
        report.add("edited", prune.PRUNED_LIST, "", str(error))
        return set()


def read_manifests(results: Path, report: Report) -> list[Manifest]:
    """Return the readable manifests; add the sha256 and the defects of every manifest to the report."""
    names = sorted(f"{FOLDER}/{name}" for name in scan(results / FOLDER))
    for name in names:
        if not name.endswith(".json"):
            report.add("undeclared", name, "", "not a manifest; delete it")
    files = {name: results / name for name in names if name.endswith(".json")}
    manifests = []
    for (name, file), content in zip(files.items(), read_contents(list(files.values()))):
        report.hashes[name] = sha256(content).hexdigest()
        try:
            manifest = parse(file, content)
        except DataError as error:
            report.add("unreadable", name, name, str(error))
            continue
        manifests.append(manifest)
        if defect := _manifest_defect(manifest, content):
            report.add(*defect)
    # Edited manifests come last, so that outputs are attributed to unedited ones.
    edited = _edited(report)
    return sorted(manifests, key=lambda manifest: manifest.name in edited)


def _edited(report: Report) -> set[str]:
    return {finding.manifest for finding in report.findings if finding.kind == "edited"}


def _manifest_defect(manifest: Manifest, content: bytes) -> tuple[str, str, str, str] | None:
    """A defect that is visible in the manifest itself."""
    path = f"{FOLDER}/{manifest.name}.json"
    if not is_sealed(content):
        reason = "its seal does not match its content" if "seal" in manifest.record else "it has no seal"
        return "edited", path, manifest.name, f"{reason}; rerun its job"
    for output in manifest.outputs:
        if output.files is not None and tree_hash(output.files) != output.sha256:
            return "edited", path, manifest.name, f"the checksum of {output.path} does not match its list of files"
    job = [manifest.rule, *map(str, manifest.record["wildcards"].values())]
    if sorted("/".join(job).split("/")) != sorted(manifest.name.split("/")):
        return "swapped", path, manifest.name, f"it is the manifest of {' '.join(job)}"
    return None


def _declared(manifests: list[Manifest], report: Report) -> dict[str, _Declared]:
    """Every declared output file by path in the results folder."""
    declared: dict[str, _Declared] = {}
    for manifest in manifests:
        for folder, output in manifest.declared_outputs():
            for entry in output.entries(folder):
                first = declared.setdefault(entry.path, _Declared(entry, manifest))
                if first.entry != entry:
                    checksums = f"sha256 {first.entry.sha256[:12]} in {first.manifest.name}, {entry.sha256[:12]} here"
                    report.add("conflicting", entry.path, manifest.name, checksums)
    return declared


def _find_changed(declared: dict[str, _Declared], hashed: dict[str, HashedFile], report: Report) -> None:
    """Add files whose checksum differs from the declared one."""
    changed = [path for path, file in hashed.items() if file.sha256 != declared[path].entry.sha256]
    owners: dict[str, str] = {}
    for path in sorted(declared) if changed else ():
        if declared[path].entry.size:  # an emptied file is "changed", although it equals other empty files
            owners.setdefault(declared[path].entry.sha256, path)
    edited = _edited(report)
    for path in changed:
        entry, manifest, file = declared[path].entry, declared[path].manifest, hashed[path]
        if file.error:
            report.add("changed", path, manifest.name, file.error)
            continue
        owner = owners.get(file.sha256)
        details = [f"it has the content of {owner}" if owner else ""]
        details += [f"sha256 {file.sha256[:12]}, expected {entry.sha256[:12]}"]
        details += [f"{file.size} bytes, expected {entry.size}" if file.size != entry.size else ""]
        details += ["its modification time predates the change" if _is_backdated(file, manifest) else ""]
        details += ["its manifest was edited: one of the two is wrong" if manifest.name in edited else ""]
        report.add("swapped" if owner else "changed", path, manifest.name, ", ".join(filter(None, details)))


def _is_backdated(file: HashedFile, manifest: Manifest) -> bool:
    """Whether a changed file has a modification time before the end of its job, so that it was set back."""
    try:
        finished = datetime.fromisoformat(manifest.record["finished"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return False
    return file.mtime_ns / 1e9 < finished + 1  # manifests have times in whole seconds


def _find_inconsistent(manifests: list[Manifest], declared: dict[str, _Declared], report: Report) -> None:
    """Add inputs in the results folder whose checksum differs from that in the manifest of their producer."""
    checksums = dict(report.hashes)
    producers: dict[str, str] = {}
    for manifest in manifests:
        for path, output in manifest.declared_outputs():
            checksums.setdefault(path, output.sha256)
            producers.setdefault(path, manifest.name)
    paths = sorted(declared)
    for manifest in manifests:
        for artefact in manifest.inputs:
            own_path = manifest.relative_path(artefact.path)
            if own_path is None:
                report.outside_inputs += 1
                continue
            checksum = checksums.get(own_path) or _checksum_within(own_path, declared, paths)
            if checksum is None:
                report.add("inconsistent", own_path, manifest.name, "no manifest declares this input as output")
            elif checksum != artefact.sha256:
                producer = producers.get(own_path, "its manifest")
                used = f"used sha256 {artefact.sha256[:12]}, {producer} has {checksum[:12]}; rerun the job"
                report.add("inconsistent", own_path, manifest.name, used)


def _checksum_within(path: str, declared: dict[str, _Declared], paths: list[str]) -> str | None:
    """Checksum of a file in a declared folder, or of a folder of declared files; `paths` is sorted(declared)."""
    if path in declared:
        return declared[path].entry.sha256
    prefix = f"{path}/"
    entries = []
    for name in paths[bisect_left(paths, prefix) :]:
        if not name.startswith(prefix):
            break
        entry = declared[name].entry
        entries.append(Entry(name.removeprefix(prefix), entry.size, entry.sha256))
    return tree_hash(entries) if entries else None


def _descendants(manifests: list[Manifest], report: Report) -> list[str]:
    """Outputs without findings that are derived from changed, swapped, edited or inconsistent files."""
    tainted = {finding.path for finding in report.findings if finding.kind in _TAINTS}
    edited = _edited(report)
    outputs = {path for manifest in manifests if manifest.name in edited for path, _ in manifest.declared_outputs()}
    return sorted(descendants(manifests, tainted | outputs) - tainted)
