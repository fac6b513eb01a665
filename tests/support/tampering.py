"""Single flipped bits, and what an audit may say of one: what the tests on tampering share."""

import json
import random
from collections import Counter
from pathlib import Path

from jointseg.audit.verify import Finding, scan, verify_results
from jointseg.provenance.manifest import parse

UNLOOKED = ("logs", "benchmarks", ".jointseg")


def flip(path: Path, chance: random.Random) -> bytes:
    """Flips one bit of a file and returns what was in it."""
    before = path.read_bytes()
    place = chance.randrange(len(before))
    after = bytearray(before)
    after[place] ^= 1 << chance.randrange(8)
    path.write_bytes(after)
    return before


def told(results: Path, **options) -> list[tuple[str, str, str]]:
    return [(finding.kind, finding.path, finding.manifest) for finding in verify_results(results, **options).findings]


def kind_of(inside: str) -> str:
    """What sort of file lies at a path: the folder that it is in."""
    return inside.rpartition("/")[0].partition("/")[0] if "/" in inside else "."


def flip_many(results: Path, count: int, seed: int) -> Counter:
    """Flips one bit at a time, in each kind of file as often as in any other, and audits after each.

    Asserts that the right file is named, and nothing that is not a consequence. Returns flips by kind of file.
    """
    chance = random.Random(seed)
    kinds: dict[str, list[str]] = {}
    for inside, size in sorted(scan(results, UNLOOKED).items()):
        if size:
            kinds.setdefault(kind_of(inside), []).append(inside)
    flips: Counter = Counter()
    for number in range(count):
        kind = sorted(kinds)[number % len(kinds)]
        inside = chance.choice(kinds[kind])
        before = flip(results / inside, chance)
        try:
            assert_named(results, inside, before)
        finally:
            (results / inside).write_bytes(before)
        flips[kind] += 1
    assert told(results) == []
    return flips


def assert_named(results: Path, inside: str, before: bytes) -> None:
    """Asserts that an audit names a changed file as it should."""
    found = verify_results(results).findings
    own = [finding for finding in found if finding.path == inside]
    others = [finding for finding in found if finding.path != inside]
    if inside.startswith("releases/"):
        allowed = {"bad_signature"} if inside.endswith(".sig") else {"edited", "unreadable"}
        assert [finding.kind in allowed for finding in found] == [True] and own, (inside, found)
    elif inside.startswith("manifests/"):
        assert {"edited", "unreadable"} & {finding.kind for finding in own}, (inside, found)
        strange = [finding for finding in others if not _follows(results, finding, inside, before)]
        assert not strange, (inside, strange)
    else:
        assert [finding.kind for finding in found] == ["changed"] and own, (inside, found)


def _follows(results: Path, finding: Finding, inside: str, before: bytes) -> bool:
    """Whether a finding is about what a manifest declared: its own files, and jobs that took them."""
    manifest = parse(results / inside, before)
    made = [manifest.relative_path(output.path) for output in manifest.outputs]
    return finding.manifest == manifest.name or any(
        finding.path == each or finding.path.startswith(f"{each}/") for each in made
    )


def edit(manifest: Path, change, seal=json.dumps) -> None:
    """Changes what a manifest says, and writes it again by `seal`."""
    written = json.loads(manifest.read_text())
    written.pop("seal")
    change(written)
    manifest.write_text(seal(written))
