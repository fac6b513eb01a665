"""Differences between two manifests of a job: settings, code by function, package versions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """One difference."""

    kind: str  # "setting", "code", "package", "input",
    what: str  # the key, `module:function`, package or path
    # before, after: values as text, "" if absent
    before: str = ""
    after: str = ""


def setting_changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Return the settings whose value differs; nested keys are joined by dots."""
    return [Change("setting", *difference) for difference in _leaves("", before, after)]


def version_changes(before: dict[str, str], after: dict[str, str]) -> list[Change]:
    """Return the packages whose version differs or that are on one side only."""
    return [Change("package", *difference) for difference in _leaves("", before, after)]


def code_changes(before: dict[str, dict[str, str]] | None, after: dict[str, dict[str, str]] | None) -> list[Change]:
    """Return the functions, methods, data files and module-level code that differ, as `module:part`.

    Both arguments are from `provenance.code_digest.code_parts`, None if not recorded.
    """
    if before is None or after is None:
        return [Change("code", "unknown function", "not recorded", "other digest")]
    changes = []
    for module in sorted(before.keys() | after.keys()):
        old, new = before.get(module, {}), after.get(module, {})
        for part in sorted(old.keys() | new.keys()):
            if old.get(part) != new.get(part):
                status = "added" if part not in old else "removed" if part not in new else "changed"
                changes.append(Change("code", f"{module}:{part}", "", status))
    return changes


def _leaves(key: str, before: Any, after: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, value before, value after) of the differing values below a key."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            nested = f"{key}.{name}" if key else name
            yield from _leaves(nested, before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif before != after:
        yield key, _text(before), _text(after)


def _text(value: Any) -> str:
    if value is _ABSENT:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
