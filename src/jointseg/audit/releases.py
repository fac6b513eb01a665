"""The release history of a results folder: each release holds the sha256 of every manifest and of the release before."""

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

SCHEMA = "jointseg/release/1"
FOLDER = "releases"  # in a results folder
_KEYS = {"number", "date", "message", "previous", "root", "leaves", "key"}


class Defect(NamedTuple):
    """What is wrong with a release: a kind of audit.verify.KINDS, the file in the results folder, and how."""

    kind: str
    path: str
    detail: str


@dataclass(frozen=True)
class Release:
    """A release as read back. `written` is None when it cannot be read; `detail` then says why."""

    number: int
    file: Path
    content: bytes
    record: dict[str, Any] | None
    detail: str = ""

    @property
    def path(self) -> str:
        """Its path in the results folder."""
        return f"{FOLDER}/{self.file.name}"

    @property
    def signed(self) -> Path:
        """Where its signature lies, if it has one."""
        return self.file.with_name(f"{self.file.name}.sig")

    @cached_property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()

    def summary(self) -> dict[str, Any]:
        """What it says, without the leaves, with its path and its sha256."""
        said = {key: value for key, value in (self.record or {}).items() if key != "leaves"}
        return {**said, "file": self.path, "sha256": self.digest}


class ManifestChanges(NamedTuple):
    """How manifests differ from those of a release: their paths in the results folder, sorted."""

    added: list[str]
    changed: list[str]
    removed: list[str]


@dataclass
class ReleaseStatus:
    """The last release, and how the manifests of today differ from it (None where the release has a flaw).

    Attributes:
        signatures: those that hold, by release: {"release", "key", "signer"}; signer None where no signers were given.
        unchecked: signatures that nobody checked, for want of ssh-keygen.
    """

    file: str
    number: int
    date: str
    root: str
    changes: ManifestChanges | None
    signatures: list[dict[str, Any]]
    unchecked: int = 0

    def as_json(self) -> dict[str, Any]:
        changes = None if self.changes is None else self.changes._asdict()
        return {**asdict(self), "changes": changes}


def compare(leaves: dict[str, str], hashes: dict[str, str]) -> ManifestChanges:
    """How manifests, given as sha256 by path, differ from the leaves of a release."""
    return ManifestChanges(
        sorted(hashes.keys() - leaves.keys()),
        sorted(path for path in hashes.keys() & leaves.keys() if hashes[path] != leaves[path]),
        sorted(leaves.keys() - hashes.keys()),
    )


def history(results: Path) -> list[Release]:
    """The releases of a results folder in order, also those that cannot be read."""
    found = [file for file in (results / FOLDER).glob("*.json") if _number(file) and file.is_file()]
    return [_read(file) for file in sorted(found, key=_number)]


def write(results: Path, hashes: dict[str, str], message: str, key: Path | None) -> Release:
    """Writes the next release over manifests, given as sha256 by path in the results folder.

    The manifests must have been verified, and so must the releases before. What differs from the last release is
    told in the new one. Raises DataError when it cannot be signed, InUseError when a run works in the folder.
    """
    from jointseg.runtime.files import atomic_write

    refuse_if_in_use(results)
    before = history(results)
    last = before[-1] if before else None
    changes = compare((last.record or {})["leaves"] if last else {}, hashes)
    number = last.number + 1 if last else 1
    written = {
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
    content = sealed(written).encode()
    file = results / FOLDER / f"{number:04d}.json"
    release = Release(number, file, content, written)
    file.parent.mkdir(exist_ok=True)
    if key:
        signed = signature.sign(content, key)
        with atomic_write(release.signed) as part:
            part.write_bytes(signed)
    with atomic_write(file) as part:
        part.write_bytes(content)
    return release


def refuse_if_in_use(results: Path) -> None:
    """Raises InUseError while a run works in a results folder."""
    with suppress(FileNotFoundError), open(results / lock.NAME, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise lock.InUseError(f"a run works in {results}; wait for it to end or stop it") from None


def check(
    results: Path, hashes: dict[str, str], flawed: set[str], signers: AllowedSigners | None, root: str | None = None
) -> tuple[list[Defect], ReleaseStatus | None]:
    """Checks every release, their chain and their signatures, and compares the last one with the manifests.

    Args:
        results: the results folder.
        hashes: sha256 of every manifest of today, by path in the results folder.
        flawed: manifests of which something was found already, so that nothing is told twice.
        signers: whose signatures count; without, a signature needs only hold for the key in it.
        root: of a release that must be there, as somebody kept it elsewhere.
    """
    found = history(results)
    flaws = [*_strangers(results, found), *_gaps(found), *_cut(found, root)]
    own = [_flaw(release) for release in found]
    for index, release in enumerate(found[1:], start=1):
        # Of a broken link the earlier release is to blame, unless the later one is known to be wrong.
        if own[index] is None and own[index - 1] is None:
            own[index - 1] = _unlinked(found[index - 1], release)
    flaws += [flaw for flaw in own if flaw]
    if not found:
        return [
            *flaws,
            *([Defect("unsigned", FOLDER, "there is no release that anybody signed")] if signers else []),
        ], None
    last = found[-1]
    said = last.record or {}
    whole = own[-1] is None
    changes = compare(said["leaves"], hashes) if whole else None
    standing = ReleaseStatus(last.path, last.number, said.get("date", ""), said.get("root", ""), changes, [])
    for release, flaw in zip(found, own):
        if flaw is None:
            flaws += _signature(release, signers, standing)
    if changes:
        name = f"release {last.number}"
        flaws += [Defect("unreleased", path, f"other than in {name}") for path in changes.changed if path not in flawed]
        flaws += [Defect("unreleased", path, f"in {name}, gone since") for path in changes.removed]
    return flaws, standing


def _number(file: Path) -> int:
    """The number of a release by its name, 0 for any other file."""
    name = file.name.removesuffix(".json")
    return int(name) if name.isascii() and name.isdigit() and file.name == f"{int(name):04d}.json" else 0


def _read(file: Path) -> Release:
    content = file.read_bytes()
    try:
        written = json.loads(content)
        lacking = _KEYS - written.keys() if written["schema"] == SCHEMA else {f"schema {SCHEMA}"}
        if lacking or not isinstance(written["leaves"], dict):
            return Release(_number(file), file, content, None, f"not a release: {', '.join(sorted(lacking))} missing")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Release(_number(file), file, content, None, f"not a release ({type(error).__name__}: {error})")
    return Release(_number(file), file, content, written)


def _flaw(release: Release) -> Defect | None:
    """What is wrong with a release by itself."""
    if release.record is None:
        return Defect("unreadable", release.path, release.detail)
    if not is_sealed(release.content):
        return Defect("edited", release.path, "its seal does not hold")
    if release.record["number"] != release.number:
        return Defect("edited", release.path, f"it says that it is release {release.record['number']}")
    if merkle.root(release.record["leaves"]) != release.record["root"]:
        return Defect("edited", release.path, "its root is not that of its leaves")
    return None


def _unlinked(earlier: Release, later: Release) -> Defect | None:
    said = (later.record or {})["previous"]
    if said == {"file": earlier.file.name, "sha256": earlier.digest} or later.number != earlier.number + 1:
        return None
    return Defect("edited", earlier.path, f"it is not the one that release {later.number} names")


def _gaps(found: list[Release]) -> list[Defect]:
    last = found[-1].number if found else 0
    gone = sorted(set(range(1, last)) - {release.number for release in found})
    return [Defect("missing", f"{FOLDER}/{number:04d}.json", f"release {last} is there") for number in gone]


def _cut(found: list[Release], root: str | None) -> list[Defect]:
    """What says that a release is not there whose root somebody kept: the history was cut at its end, or replaced."""
    if root is None or any((release.record or {}).get("root") == root for release in found):
        return []
    return [Defect("missing", FOLDER, f"no release has the root {root}; restore the history")]


def _strangers(results: Path, found: list[Release]) -> list[Defect]:
    known = {file.name for release in found for file in (release.file, release.signed)}
    folder = results / FOLDER
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [Defect("undeclared", f"{FOLDER}/{name}", "not a release; delete it") for name in names if name not in known]


def _signature(release: Release, signers: AllowedSigners | None, standing: ReleaseStatus) -> list[Defect]:
    """Checks the signature of a release; one that holds is noted in `standing`."""
    inside, key = f"{release.path}.sig", (release.record or {})["key"]
    if not release.signed.is_file():
        if key is None and signers is None:
            return []
        why = f"it was signed with {key}, and the signature is gone" if key else "it was never signed"
        return [Defect("unsigned", release.path, why)]
    try:
        good = signature.check(release.content, release.signed, signers)
    except signature.ToolMissingError:
        if signers:
            raise
        standing.unchecked += 1
        return []
    except signature.BadSignatureError as error:
        return [Defect("bad_signature", inside, f"the signature {error}")]
    if good.key != key:
        return [Defect("bad_signature", inside, f"the signature is by {good.key}, the release says {key or 'nobody'}")]
    standing.signatures.append({"release": release.path, **asdict(good)})
    return []
