"""Hashes a results folder again and names every file that is not what its manifest says."""

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
PASS = Path(".jointseg", "verify.sqlite")  # in a results folder, while it is being verified
KINDS = {
    "missing": "declared by a manifest, or named by a later release or a root, not there",
    "changed": "other bytes than its manifest says",
    "swapped": "has the bytes, or is the manifest, of another file",
    "undeclared": "made by nobody: no manifest declares it",
    "conflicting": "declared by two manifests with other bytes",
    "inconsistent": "made from another version of an input",
    "unreadable": "a manifest or a release that cannot be read",
    "edited": "a manifest or a release that is not as it was written: no seal, or one that does not hold",
    "unreleased": "a manifest other than the last release says, or gone since",
    "unsigned": "a release without the signature that it must have",
    "bad_signature": "a signature that does not hold, or by somebody else",
}
_TAINTS = {"changed", "swapped", "edited", "inconsistent"}


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong: its kind (see KINDS), the file in the results folder, the manifest, and how."""

    kind: str
    path: str
    manifest: str
    detail: str


@dataclass
class Report:
    """What an audit saw.

    Attributes:
        files, bytes: what was declared or present, manifests and releases left out.
        pruned: files that are gone because `jointseg audit prune` deleted them.
        resumed: files that this pass had hashed before it was interrupted.
        descendants: further outputs, by path, that descend from what was changed or edited.
        release: the last release and how the manifests stand to it, None where there is none.
        hashes: sha256 of every manifest, by path in the results folder; not in the JSON.
    """

    results: str
    manifests: int = 0
    files: int = 0
    bytes: int = 0
    pruned: int = 0
    resumed: int = 0
    outside_inputs: int = 0
    findings: list[Finding] = field(default_factory=list)
    descendants: list[str] = field(default_factory=list)
    release: releases.ReleaseStatus | None = None
    hashes: dict[str, str] = field(default_factory=dict, repr=False)

    def find(self, kind: str, path: str, manifest: str, detail: str) -> None:
        self.findings.append(Finding(kind, path, manifest, detail))

    def as_json(self) -> dict[str, Any]:
        counts = Counter(finding.kind for finding in self.findings)
        told = asdict(self) | {"release": self.release.as_json() if self.release else None}
        del told["hashes"]
        return {**told, "counts": dict(sorted(counts.items())), "clean": not self.findings}


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
    """Hashes every file of a results folder and compares it with the manifests and the releases in it.

    Args:
        results: the folder; it may have been moved or copied since it was made.
        workers: threads that hash; one a CPU when None.
        on_start: called once with the number of bytes to hash.
        advance: called, from any thread, with the number of bytes just hashed.
        resume: go on with a pass that was interrupted, believing what it had hashed.
        signers: whose signatures on releases count.
        root: of a release that must be in the history.
    """
    if not (results / FOLDER).is_dir():
        raise DataError(f"{results} has no folder named {FOLDER}; give the results folder of a run")
    if signers and not signers.allowed.is_file():
        raise DataError(f"there is no file of allowed signers {signers.allowed}; write one line a signer: NAME KEY")
    report = Report(results.as_posix())
    manifests = read_manifests(results, report)
    flawed = {finding.path for finding in report.findings}
    flaws, report.release = releases.check(results, report.hashes, flawed, signers, root)
    report.findings += [Finding(flaw.kind, flaw.path, "", flaw.detail) for flaw in flaws]
    declared = _declared(manifests, report)
    present = scan(results, (*UNDECLARED, FOLDER))
    present.pop(prune.PRUNED_LIST, None)
    report.files, report.manifests, report.bytes = len(present), len(manifests), sum(present.values())
    gone = declared.keys() - present.keys()
    pruned = gone & _pruned(results, report)
    report.pruned = len(pruned)
    for path in gone - pruned:
        report.find("missing", path, declared[path].manifest.name, "restore it or run its job again")
    for path in present.keys() - declared.keys():
        report.find("undeclared", path, "", "move it out of the results folder or delete it")
    done = HashingPass(results / PASS, resume)
    sizes = {path: present[path] for path in declared.keys() & present.keys()}
    on_start(sum(sizes.values()))
    hashed = hash_files(results, sizes, done, workers, advance)
    done.end()
    report.resumed = done.believed
    _changed(declared, hashed, report)
    _descended(manifests, declared, report)
    report.descendants = _descendants(manifests, report)
    report.findings.sort()
    return report


def _pruned(results: Path, report: Report) -> set[str]:
    """Files that were deleted on purpose; notes a list of them that is not what its seal says."""
    try:
        return prune.pruned_paths(results)
    except DataError as error:
        report.find("edited", prune.PRUNED_LIST, "", str(error))
        return set()


def read_manifests(results: Path, report: Report) -> list[Manifest]:
    """The readable manifests; notes the sha256 of every manifest in the report, and what is wrong with it."""
    names = sorted(f"{FOLDER}/{name}" for name in scan(results / FOLDER))
    for name in names:
        if not name.endswith(".json"):
            report.find("undeclared", name, "", "not a manifest; delete it")
    files = {name: results / name for name in names if name.endswith(".json")}
    manifests = []
    for (name, file), content in zip(files.items(), read_contents(list(files.values()))):
        report.hashes[name] = sha256(content).hexdigest()
        try:
            manifest = parse(file, content)
        except DataError as error:
            report.find("unreadable", name, name, str(error))
            continue
        manifests.append(manifest)
        if flaw := _flaw(manifest, content):
            report.find(*flaw)
    # What an edited manifest claims comes last, so that it does not speak for the files of others.
    edited = _edited(report)
    return sorted(manifests, key=lambda manifest: manifest.name in edited)


def _edited(report: Report) -> set[str]:
    return {finding.manifest for finding in report.findings if finding.kind == "edited"}


def _flaw(manifest: Manifest, content: bytes) -> tuple[str, str, str, str] | None:
    """What is wrong with a manifest by itself."""
    own = f"{FOLDER}/{manifest.name}.json"
    if not is_sealed(content):
        why = "its seal does not hold" if "seal" in manifest.record else "it has no seal"
        return "edited", own, manifest.name, f"{why}; run its job again"
    for output in manifest.outputs:
        if output.files is not None and tree_hash(output.files) != output.sha256:
            return "edited", own, manifest.name, f"the hash of {output.path} is not that of its files"
    job = [manifest.rule, *map(str, manifest.record["wildcards"].values())]
    if sorted("/".join(job).split("/")) != sorted(manifest.name.split("/")):
        return "swapped", own, manifest.name, f"it is the manifest of {' '.join(job)}"
    return None


def _declared(manifests: list[Manifest], report: Report) -> dict[str, _Declared]:
    """Every file that some manifest says it made, by its path in the results folder."""
    declared: dict[str, _Declared] = {}
    for manifest in manifests:
        for base, output in manifest.declared_outputs():
            for entry in output.entries(base):
                other = declared.setdefault(entry.path, _Declared(entry, manifest))
                if other.entry != entry:
                    said, here = other.entry.sha256[:12], entry.sha256[:12]
                    detail = f"{other.manifest.name} says sha256 {said}, this one {here}"
                    report.find("conflicting", entry.path, manifest.name, detail)
    return declared


def _changed(declared: dict[str, _Declared], hashed: dict[str, HashedFile], report: Report) -> None:
    """Notes files whose bytes are not those that were declared."""
    wrong = [path for path, now in hashed.items() if now.sha256 != declared[path].entry.sha256]
    owners: dict[str, str] = {}
    for path in sorted(declared) if wrong else ():
        if declared[path].entry.size:  # an emptied file is changed, though it has the bytes of other empty files
            owners.setdefault(declared[path].entry.sha256, path)
    edited = _edited(report)
    for path in wrong:
        entry, manifest, now = declared[path].entry, declared[path].manifest, hashed[path]
        if now.error:
            report.find("changed", path, manifest.name, now.error)
            continue
        owner = owners.get(now.sha256)
        details = [f"its bytes are those of {owner}" if owner else ""]
        details += [f"sha256 {now.sha256[:12]} instead of {entry.sha256[:12]}"]
        details += [f"{now.size} bytes instead of {entry.size}" if now.size != entry.size else ""]
        details += ["its date is older than the change" if _is_older(now, manifest) else ""]
        details += ["its manifest was edited: one of the two is wrong" if manifest.name in edited else ""]
        report.find("swapped" if owner else "changed", path, manifest.name, ", ".join(filter(None, details)))


def _is_older(now: HashedFile, manifest: Manifest) -> bool:
    """Whether a changed file bears a date at which its job had not ended: somebody has set it back."""
    try:
        finished = datetime.fromisoformat(manifest.record["finished"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return False
    return now.mtime_ns / 1e9 < finished + 1  # manifests leave fractions of a second out


def _descended(manifests: list[Manifest], declared: dict[str, _Declared], report: Report) -> None:
    """Notes inputs in the results folder that are not what the manifest that made them says."""
    made = dict(report.hashes)
    makers: dict[str, str] = {}
    for manifest in manifests:
        for inside, output in manifest.declared_outputs():
            made.setdefault(inside, output.sha256)
            makers.setdefault(inside, manifest.name)
    paths = sorted(declared)
    for manifest in manifests:
        for taken in manifest.inputs:
            own = manifest.relative_path(taken.path)
            if own is None:
                report.outside_inputs += 1
                continue
            now = made.get(own) or _made_within(own, declared, paths)
            if now is None:
                report.find("inconsistent", own, manifest.name, "no manifest makes this input")
            elif now != taken.sha256:
                by = makers.get(own, "its manifest")
                detail = f"took sha256 {taken.sha256[:12]}, {by} made {now[:12]}; run the job again"
                report.find("inconsistent", own, manifest.name, detail)


def _made_within(path: str, declared: dict[str, _Declared], paths: list[str]) -> str | None:
    """The hash of a file of a declared folder, or of a folder that holds declared files; `paths` sorts them all."""
    if path in declared:
        return declared[path].entry.sha256
    start = f"{path}/"
    below = []
    for name in paths[bisect_left(paths, start) :]:
        if not name.startswith(start):
            break
        entry = declared[name].entry
        below.append(Entry(name.removeprefix(start), entry.size, entry.sha256))
    return tree_hash(below) if below else None


def _descendants(manifests: list[Manifest], report: Report) -> list[str]:
    """Outputs, not found themselves, that descend from what was found changed, edited or descended."""
    tainted = {finding.path for finding in report.findings if finding.kind in _TAINTS}
    edited = _edited(report)
    outputs = {output for each in manifests if each.name in edited for output, _ in each.declared_outputs()}
    return sorted(descendants(manifests, tainted | outputs) - tainted)
