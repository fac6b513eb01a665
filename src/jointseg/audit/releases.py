"""Release history of a results folder: a release contains the sha256 of every manifest and of the previous release."""

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from jointseg.audit import merkle, signature
from jointseg.audit.signature import AllowedSigners
from jointseg.provenance.manifest import is_sealed, sealed
from jointseg.run import lock
from jointseg.runtime.files import atomic_write

SCHEMA = "jointseg/release/1"
FOLDER = "releases"  # in a results folder
_KEYS = {"number", "date", "message", "previous", "root", "leaves", "key"}


class Defect(NamedTuple):
    """A defect of the release history: a kind of audit.verify.KINDS, the path in the results folder, a description."""

    kind: str
    path: str
    detail: str


@dataclass(frozen=True)
class Release:
    """A release that was read from its file; `record` is None if it is invalid, with the reason in `detail`."""

    number: int
    file: Path
    content: bytes
    record: dict[str, Any] | None
    detail: str = ""

    @property
    def path(self) -> str:
        """Path in the results folder."""
        return f"{FOLDER}/{self.file.name}"

    @property
    def signature_file(self) -> Path:
        return self.file.with_name(f"{self.file.name}.sig")

    @cached_property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()

    def summary(self) -> dict[str, Any]:
        """Return the record without the leaves, with path and sha256."""
        entries = {key: value for key, value in (self.record or {}).items() if key != "leaves"}
        return {**entries, "file": self.path, "sha256": self.digest}


class ManifestChanges(NamedTuple):
    """Manifests that differ from those of a release: sorted paths in the results folder."""

    added: list[str]
    changed: list[str]
    removed: list[str]


@dataclass
class ReleaseStatus:
    """The last release and the changes of manifests since (None if the release has a defect)."""

    file: str
    number: int
    date: str
    root: str
    changes: ManifestChanges | None
    # valid signatures: {"release", "key", "signer"}; signer is None if no signers were passed
    signatures: list[dict[str, Any]]
    unchecked: int = 0  # number of signatures that were not checked because ssh-keygen is not installed

    def as_json(self) -> dict[str, Any]:
        changes = None if self.changes is None else self.changes._asdict()
        return {**asdict(self), "changes": changes}


def compare(leaves: dict[str, str], hashes: dict[str, str]) -> ManifestChanges:
    """Compare manifests, as sha256 by path, with the leaves of a release."""
    return ManifestChanges(
        sorted(hashes.keys() - leaves.keys()),
        sorted(path for path in hashes.keys() & leaves.keys() if hashes[path] != leaves[path]),
        sorted(leaves.keys() - hashes.keys()),
    )


def history(results: Path) -> list[Release]:
    """Return all releases of a results folder in order, including invalid ones."""
    files = [file for file in (results / FOLDER).glob("*.json") if _number(file) and file.is_file()]
    return [_read(file) for file in sorted(files, key=_number)]


def write(results: Path, hashes: dict[str, str], message: str, key: Path | None) -> Release:
    """Write the next release of the manifests, given as sha256 by path in the results folder.

    The caller must have verified the manifests and the earlier releases. The release lists the changes since the last
    one.

    Raises:
        DataError: the release cannot be signed.
        InUseError: a run uses the folder.
    """
    refuse_if_in_use(results)
    earlier = history(results)
    last = earlier[-1] if earlier else None
    changes = compare((last.record or {})["leaves"] if last else {}, hashes)
    number = last.number + 1 if last else 1
    record = {
        "schema": SCHEMA,
        "number": number,
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "message": message,
        "key": signature.fingerprint(key) if key else None,
        "previous": {"file": last.file.name, "sha256": last.digest} if last else None,
        "since": {"added": len(changes.added), "changed": changes.changed, "removed": changes.removed},
        "root": merkle.root(hashes),
        "leaves": hashes,
    }
    content = sealed(record).encode()
    file = results / FOLDER / f"{number:04d}.json"
    release = Release(number, file, content, record)
    file.parent.mkdir(exist_ok=True)
    if key:
        text = signature.sign(content, key)
        with atomic_write(release.signature_file) as part:
            part.write_bytes(text)
    with atomic_write(file) as part:
        part.write_bytes(content)
    return release


def refuse_if_in_use(results: Path) -> None:
    """Raise InUseError if a run uses a results folder."""
    with suppress(FileNotFoundError), open(results / lock.NAME, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise lock.InUseError(f"a run uses {results}; wait until it ends or stop it") from None


def check(
    results: Path,
    hashes: dict[str, str],
    with_findings: set[str],
    signers: AllowedSigners | None,
    root: str | None = None,
) -> tuple[list[Defect], ReleaseStatus | None]:
    """Check all releases, their chain and signatures, and compare the last release with the manifests.

    Args:
        hashes: sha256 of every manifest, by path in the results folder.
        with_findings: manifests that already have a finding and are not reported again.
        signers: accepted signers; None accepts any key with a valid signature.
    """
    found = history(results)
    defects = [*_unexpected_files(results, found), *_gaps(found), *_missing_root(found, root)]
    own = [_defect(release) for release in found]
    for index, release in enumerate(found[1:], start=1):
        # A broken link is attributed to the earlier release, unless the later one has a defect itself.
        if own[index] is None and own[index - 1] is None:
            own[index - 1] = _broken_link(found[index - 1], release)
    defects += [defect for defect in own if defect]
    if not found:
        return [*defects, *([Defect("unsigned", FOLDER, "there is no signed release")] if signers else [])], None
    last = found[-1]
    record = last.record or {}
    changes = compare(record["leaves"], hashes) if own[-1] is None else None
    status = ReleaseStatus(last.path, last.number, record.get("date", ""), record.get("root", ""), changes, [])
    for release, defect in zip(found, own):
        if defect is None:
            defects += _check_signature(release, signers, status)
    if changes:
        changed = [path for path in changes.changed if path not in with_findings]
        defects += [Defect("unreleased", path, f"differs from release {last.number}") for path in changed]
        defects += [Defect("unreleased", path, f"removed since release {last.number}") for path in changes.removed]
    return defects, status


def _number(file: Path) -> int:
    """Release number of a file name, 0 for any other file."""
    name = file.name.removesuffix(".json")
    return int(name) if name.isascii() and name.isdigit() and file.name == f"{int(name):04d}.json" else 0


def _read(file: Path) -> Release:
    content = file.read_bytes()
    try:
        record = json.loads(content)
        missing = _KEYS - record.keys() if record["schema"] == SCHEMA else {f"schema {SCHEMA}"}
        if missing or not isinstance(record["leaves"], dict):
            return Release(_number(file), file, content, None, f"not a release: {', '.join(sorted(missing))} missing")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Release(_number(file), file, content, None, f"not a release ({type(error).__name__}: {error})")
    return Release(_number(file), file, content, record)


def _defect(release: Release) -> Defect | None:
    """A defect that is visible in the release itself."""
    if release.record is None:
        return Defect("unreadable", release.path, release.detail)
    if not is_sealed(release.content):
        return Defect("edited", release.path, "its seal does not match its content")
    if release.record["number"] != release.number:
        return Defect("edited", release.path, f"its number is {release.record['number']}")
    if merkle.root(release.record["leaves"]) != release.record["root"]:
        return Defect("edited", release.path, "its root does not match its leaves")
    return None


def _broken_link(earlier: Release, later: Release) -> Defect | None:
    previous = (later.record or {})["previous"]
    if previous == {"file": earlier.file.name, "sha256": earlier.digest} or later.number != earlier.number + 1:
        return None
    return Defect("edited", earlier.path, f"it is not the release that release {later.number} refers to")


def _gaps(found: list[Release]) -> list[Defect]:
    last = found[-1].number if found else 0
    missing = sorted(set(range(1, last)) - {release.number for release in found})
    return [Defect("missing", f"{FOLDER}/{number:04d}.json", f"release {last} exists") for number in missing]


def _missing_root(found: list[Release], root: str | None) -> list[Defect]:
    """A defect if no release has an expected root: the history was truncated or replaced."""
    if root is None or any((release.record or {}).get("root") == root for release in found):
        return []
    return [Defect("missing", FOLDER, f"no release has the root {root}; restore the history")]


def _unexpected_files(results: Path, found: list[Release]) -> list[Defect]:
    expected = {file.name for release in found for file in (release.file, release.signature_file)}
    folder = results / FOLDER
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [
        Defect("undeclared", f"{FOLDER}/{name}", "not a release; delete it") for name in names if name not in expected
    ]


def _check_signature(release: Release, signers: AllowedSigners | None, status: ReleaseStatus) -> list[Defect]:
    """Check the signature of a release and add it to `status` if it is valid."""
    path, key = f"{release.path}.sig", (release.record or {})["key"]
    if not release.signature_file.is_file():
        if key is None and signers is None:
            return []
        reason = f"it was signed with {key}, but the signature is missing" if key else "it was never signed"
        return [Defect("unsigned", release.path, reason)]
    try:
        valid = signature.check(release.content, release.signature_file, signers)
    except signature.ToolMissingError:
        if signers:
            raise
        status.unchecked += 1
        return []
    except signature.BadSignatureError as error:
        return [Defect("bad_signature", path, f"the signature {error}")]
    if valid.key != key:
        return [Defect("bad_signature", path, f"the signature is by {valid.key}, the release has {key or 'no key'}")]
    status.signatures.append({"release": release.path, **asdict(valid)})
    return []
