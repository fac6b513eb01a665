"""What differs between two records of a job: settings, code by function, package versions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: "setting", "code", "package", "input", ...
        what: the key, `module:function`, package or path.
        before, after: values as text, "" where there is none.
    """

    kind: str
    what: str
    before: str = ""
    after: str = ""


def setting_changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Settings with another value, nested keys joined by dots."""
    return [Change("setting", key, _text(old), _text(new)) for key, old, new in _leaves("", before, after)]


def version_changes(before: dict[str, str], after: dict[str, str]) -> list[Change]:
    """Packages with another version, or that are used on one side only."""
    return [Change("package", key, _text(old), _text(new)) for key, old, new in _leaves("", before, after)]


def code_changes(before: dict[str, dict[str, str]] | None, after: dict[str, dict[str, str]] | None) -> list[Change]:
    """Functions, methods, data files and rests of modules that differ, as `module:function`.

    Args:
        before, after: as provenance.code.code_parts gives them, None where it was not kept.
    """
    if before is None or after is None:
        return [Change("code", "some function", "not recorded", "another digest")]
    changes = []
    for module in sorted(before.keys() | after.keys()):
        old, new = before.get(module, {}), after.get(module, {})
        for part in sorted(old.keys() | new.keys()):
            if old.get(part) != new.get(part):
                word = "new" if part not in old else "gone" if part not in new else "changed"
                changes.append(Change("code", f"{module}:{part}", "", word))
    return changes


def _leaves(key: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            place = f"{key}.{name}" if key else name
            yield from _leaves(place, before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif before != after:
        yield key, before, after


def _text(value: Any) -> str:
    if value is _ABSENT:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
