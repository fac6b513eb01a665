"""Single flipped bits and edited manifests, and the findings that an audit may report for them."""

import json
import random
from collections import Counter
from pathlib import Path

from jointseg.audit.hashing import scan
from jointseg.audit.verify import UNDECLARED, Finding, verify_results
from jointseg.provenance.manifest import parse, sealed

EXCLUDED = tuple(name for name in UNDECLARED if name != "releases")


def flip(path: Path, rng: random.Random) -> bytes:
    """Flip one bit of a file and return the original content."""
    original = path.read_bytes()
    position = rng.randrange(len(original))
    changed = bytearray(original)
    changed[position] ^= 1 << rng.randrange(8)
    path.write_bytes(changed)
    return original


def findings(results: Path, **options) -> list[tuple[str, str, str]]:
    return [(finding.kind, finding.path, finding.manifest) for finding in verify_results(results, **options).findings]


def kind_of(path: str) -> str:
    """Top-level folder of a path."""
    return path.rpartition("/")[0].partition("/")[0] if "/" in path else "."


def flip_many(results: Path, count: int, seed: int) -> Counter:
    """Flip one bit at a time, equally often in each kind of file, and audit the folder after each flip.

    Asserts that the audit reports the changed file, and otherwise only consequences of the change.

    Returns:
        The number of flips by kind of file.
    """
    rng = random.Random(seed)
    kinds: dict[str, list[str]] = {}
    for path, size in sorted(scan(results, EXCLUDED).items()):
        if size:
            kinds.setdefault(kind_of(path), []).append(path)
    flips: Counter = Counter()
    for number in range(count):
        kind = sorted(kinds)[number % len(kinds)]
        path = rng.choice(kinds[kind])
        original = flip(results / path, rng)
        try:
            assert_reported(results, path, original)
        finally:
            (results / path).write_bytes(original)
        flips[kind] += 1
    assert findings(results) == []
    return flips


def assert_reported(results: Path, path: str, original: bytes) -> None:
    """Assert that an audit reports a changed file correctly."""
    found = verify_results(results).findings
    own = [finding for finding in found if finding.path == path]
    others = [finding for finding in found if finding.path != path]
    if path.startswith("releases/"):
        allowed = {"bad_signature"} if path.endswith(".sig") else {"edited", "unreadable"}
        assert [finding.kind in allowed for finding in found] == [True] and own, (path, found)
    elif path.startswith("manifests/"):
        assert {"edited", "unreadable"} & {finding.kind for finding in own}, (path, found)
        unexpected = [finding for finding in others if not _is_consequence(results, finding, path, original)]
        assert not unexpected, (path, unexpected)
    else:
        assert [finding.kind for finding in found] == ["changed"] and own, (path, found)


def _is_consequence(results: Path, finding: Finding, path: str, original: bytes) -> bool:
    """Whether a finding concerns the outputs that a changed manifest declared, or jobs that used them."""
    manifest = parse(results / path, original)
    outputs = [manifest.relative_path(output.path) for output in manifest.outputs]
    return finding.manifest == manifest.name or any(
        finding.path == output or finding.path.startswith(f"{output}/") for output in outputs
    )


def edit(manifest: Path, change, seal=json.dumps) -> None:
    """Change the record of a manifest with `change` and write it with `seal`."""
    record = json.loads(manifest.read_text())
    record.pop("seal")
    change(record)
    manifest.write_text(seal(record))


def replace_entries(file: Path, **entries) -> None:
    """Replace entries of a manifest or release and write it with a new seal."""
    edit(file, lambda record: record.update(entries), sealed)
