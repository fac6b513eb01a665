"""Hashes a results folder again and names every file that is not what its manifest says."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from jointseg.errors import DataError
from jointseg.provenance.digest import CHUNK_BYTES, TIMESTAMP, Entry, tree_hash
from jointseg.provenance.manifest import FOLDER, Artefact, Manifest, read

# Folders of a results folder that no job declares as output.
UNDECLARED = ("logs", "benchmarks", ".jointseg")
KINDS = {
    "missing": "declared by a manifest, not there",
    "changed": "other bytes than its manifest says",
    "unmade": "made by nobody: no manifest declares it",
    "disputed": "declared by two manifests with other bytes",
    "descended": "made from another version of an input",
    "broken": "a manifest that cannot be read",
}


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is wrong: its kind (see KINDS), the file in the results folder, the manifest, and how."""

    kind: str
    path: str
    manifest: str
    detail: str


@dataclass
class Report:
    """What an audit saw: counts, and the findings in order."""

    results: str
    manifests: int = 0
    files: int = 0
    bytes: int = 0
    outside_inputs: int = 0
    findings: list[Finding] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        counts = Counter(finding.kind for finding in self.findings)
        return {**asdict(self), "counts": dict(sorted(counts.items())), "clean": not self.findings}


@dataclass(frozen=True)
class _Declared:
    entry: Entry
    manifest: str


def audit(
    results: Path,
    workers: int | None = None,
    begun: Callable[[int], None] = lambda total: None,
    advance: Callable[[int], None] = lambda count: None,
) -> Report:
    """Hashes every file of a results folder and compares it with the manifests in it.

    Args:
        results: the folder; it may have been moved or copied since it was made.
        workers: threads that hash; one a CPU when None.
        begun: called once with the number of bytes to hash.
        advance: called, from any thread, with the number of bytes just hashed.
    """
    if not (results / FOLDER).is_dir():
        raise DataError(f"{results} has no folder named {FOLDER}; give the results folder of a run")
    report = Report(results.as_posix())
    manifests, hashes = _manifests(results, report)
    declared = _declared(manifests, report)
    present = dict(_present(results))
    report.files, report.manifests = len(present), len(manifests)
    for path in sorted(declared.keys() - present.keys()):
        report.findings.append(Finding("missing", path, declared[path].manifest, "restore it or run its job again"))
    for path in sorted(present.keys() - declared.keys()):
        report.findings.append(Finding("unmade", path, "", "move it out of the results folder or delete it"))
    report.findings += _changed(results, declared, present, workers, begun, advance)
    report.bytes = sum(present.values())
    report.findings += _descended(manifests, declared, hashes, report)
    report.findings.sort()
    return report


def _manifests(results: Path, report: Report) -> tuple[list[Manifest], dict[str, str]]:
    """The readable manifests, and the sha256 of every manifest file by its path in the results folder."""
    manifests, hashes = [], {}
    for file in sorted((results / FOLDER).rglob("*")):
        own = file.relative_to(results).as_posix()
        if file.is_dir() or file.name == TIMESTAMP:
            continue
        if file.suffix != ".json":
            report.findings.append(Finding("unmade", own, "", "not a manifest; delete it"))
            continue
        hashes[own] = sha256(file.read_bytes()).hexdigest()
        try:
            manifests.append(read(file))
        except DataError as error:
            report.findings.append(Finding("broken", own, own, str(error)))
    return manifests, hashes


def _declared(manifests: list[Manifest], report: Report) -> dict[str, _Declared]:
    """Every file that some manifest says it made, by its path in the results folder."""
    declared: dict[str, _Declared] = {}
    for manifest in manifests:
        for output in manifest.outputs:
            base = manifest.inside(output.path)
            if base is None:
                continue
            for entry in _entries(output, base):
                other = declared.setdefault(entry.path, _Declared(entry, manifest.name))
                if other.entry != entry:
                    detail = f"{other.manifest} says sha256 {other.entry.sha256[:12]}, this one {entry.sha256[:12]}"
                    report.findings.append(Finding("disputed", entry.path, manifest.name, detail))
    return declared


def _entries(output: Artefact, base: str) -> list[Entry]:
    if output.files is None:
        return [Entry(base, output.size, output.sha256)]
    return [Entry(f"{base}/{each.path}", each.size, each.sha256) for each in output.files]


def _present(results: Path) -> Iterator[tuple[str, int]]:
    """Every file of the results folder that a job should have declared, with its size in bytes."""
    for here, folders, names in os.walk(results):
        if Path(here) == results:
            folders[:] = [name for name in folders if name not in (*UNDECLARED, FOLDER)]
        for name in names:
            path = Path(here, name)
            if name != TIMESTAMP:
                yield path.relative_to(results).as_posix(), path.lstat().st_size


def _changed(
    results: Path,
    declared: dict[str, _Declared],
    present: dict[str, int],
    workers: int | None,
    begun: Callable[[int], None],
    advance: Callable[[int], None],
) -> list[Finding]:
    # The largest first, so that the threads end together.
    paths = sorted(declared.keys() & present.keys(), key=lambda path: (-present[path], path))
    begun(sum(present[path] for path in paths))
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        digests = pool.map(lambda path: _hash(results / path, advance), paths)
        findings = []
        for path, digest in zip(paths, digests):
            entry, manifest = declared[path].entry, declared[path].manifest
            if isinstance(digest, OSError):
                findings.append(Finding("changed", path, manifest, f"cannot be read: {digest.strerror}"))
            elif digest != entry.sha256:
                detail = f"sha256 {digest[:12]} instead of {entry.sha256[:12]}"
                if present[path] != entry.size:
                    detail += f", {present[path]} bytes instead of {entry.size}"
                findings.append(Finding("changed", path, manifest, detail))
    return findings


def _hash(path: Path, advance: Callable[[int], None]) -> str | OSError:
    whole = sha256(usedforsecurity=False)
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    try:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                whole.update(view[:count])
                advance(count)
    except OSError as error:  # one bad sector is a finding, not the end of the audit
        return error
    return whole.hexdigest()


def _descended(
    manifests: list[Manifest], declared: dict[str, _Declared], hashes: dict[str, str], report: Report
) -> list[Finding]:
    """Inputs in the results folder that are not what the manifest that made them says."""
    made: dict[str, str] = dict(hashes)
    makers: dict[str, str] = {}
    for manifest in manifests:
        for output in manifest.outputs:
            own = manifest.inside(output.path)
            if own is not None:
                made[own], makers[own] = output.sha256, manifest.name
    findings = []
    for manifest in manifests:
        for taken in manifest.inputs:
            own = manifest.inside(taken.path)
            if own is None:
                report.outside_inputs += 1
                continue
            now = made.get(own) or _made_within(own, declared)
            if now is None:
                detail = "no manifest makes this input"
            elif now != taken.sha256:
                by = makers.get(own, "its manifest")
                detail = f"took sha256 {taken.sha256[:12]}, {by} made {now[:12]}; run the job again"
            else:
                continue
            findings.append(Finding("descended", own, manifest.name, detail))
    return findings


def _made_within(path: str, declared: dict[str, _Declared]) -> str | None:
    """The hash of a file of a declared folder, or of a folder that holds declared files."""
    if path in declared:
        return declared[path].entry.sha256
    below = [
        Entry(name.removeprefix(f"{path}/"), each.entry.size, each.entry.sha256)
        for name, each in declared.items()
        if name.startswith(f"{path}/")
    ]
    return tree_hash(below) if below else None
