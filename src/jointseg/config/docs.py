"""JSON schema and Markdown reference of the config, generated from the pydantic models."""

import json
from collections.abc import Iterator
from typing import Any

from jointseg.config.schema import Settings


def json_schema() -> str:
    """Return the JSON schema of the config."""
    return json.dumps(Settings.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def markdown() -> str:
    """Return the Markdown reference page: type, default and description of every key."""
    root = Settings.model_json_schema()
    lines = [
        "# Configuration",
        "",
        "Generated from the models in `src/jointseg/config`; the same text as `jointseg schema --markdown`.",
        "`config.yaml` documents the production run key by key; `examples/` contains smaller configs.",
        "",
        "| key | type | default | description |",
        "|---|---|---|---|",
    ]
    for key, kind, default, description in _rows(root, root, ""):
        cells = [f"`{key}`", kind, default, description]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _rows(root: dict[str, Any], schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        key = f"{prefix}{name}"
        sections = _sections(root, field)
        if sections:
            kind = "section" if len(sections) == 1 else "one of the sections below"
            yield key, kind, _default(name, field, required), ""
            for section in sections:
                yield from _rows(root, section, f"{key}{_tag(section)}.")
        else:
            yield key, _kind(field), _default(name, field, required), field.get("description", "")


def _sections(root: dict[str, Any], field: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of the sections in a field: its alternatives, and the values of a mapping."""
    sections = []
    for choice in (field, *field.get("anyOf", []), *field.get("oneOf", [])):
        for reference in (choice.get("$ref"), _value_reference(choice)):
            if reference:
                sections.append(root["$defs"][reference.rsplit("/", 1)[1]])
    return sections


def _value_reference(choice: dict[str, Any]) -> str | None:
    for values in [choice.get("additionalProperties"), *choice.get("patternProperties", {}).values()]:
        if isinstance(values, dict) and "$ref" in values:
            return values["$ref"]
    return None


def _tag(section: dict[str, Any]) -> str:
    kind = section.get("properties", {}).get("kind", {}).get("const")
    return f"[{kind}]" if kind else ""


def _default(name: str, field: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "required"
    return "" if field.get("default") is None else f"`{json.dumps(field['default'], ensure_ascii=False)}`"


def _kind(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_kind(choice) for choice in field["anyOf"] if choice.get("type") != "null")
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}" if "items" in field else "list"
    if field.get("type") == "object":
        return "mapping"
    return field.get("type", "any") + _limits(field)


def _limits(field: dict[str, Any]) -> str:
    symbols = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "multipleOf": "multiple of"}
    return "".join(f", {symbol} {field[key]:g}" for key, symbol in symbols.items() if key in field)
