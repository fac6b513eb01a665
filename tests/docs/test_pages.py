"""README and documentation name only commands, keys, steps, files and pages that exist."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from jointseg.cli.commands import run
from jointseg.cli.main import build_parser
from jointseg.run.steps import STEPS

ROOT = Path(__file__).parents[2]
GENERATED = {"reference/cli.md", "reference/config.md"}  # made by docs/hooks.py
DOCS = ROOT / "docs"
MANUAL = sorted(path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] != "ablation")
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *MANUAL]
SCHEMA = json.loads((DOCS / "config.schema.json").read_text())
WRITTEN_BY_READER = {"my_area.yaml"}
# A dotted name that ends like this is a file, even where its stem is a section of the config.
SUFFIXES = {"csv", "gpkg", "html", "json", "md", "png", "parquet", "py", "rst", "safetensors", "smk", "tif", "yaml"}

FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
DOTTED = re.compile(r"[a-z]\w*(\.\w+)+")


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[str]:
    """Command lines of the fenced blocks and of code spans, without their comments."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    return [line.partition(" #")[0].strip() for line in [*lines, *SPAN.findall(prose(page))]]


def resolved(part: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives that a part of the schema stands for."""
    if "$ref" in part:
        return resolved(SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[1]])
    choices = [*part.get("anyOf", []), *part.get("oneOf", []), *part.get("allOf", [])]
    return [found for choice in choices for found in resolved(choice)] if choices else [part]


def in_schema(key: str) -> bool:
    """Whether a dotted key is one of the config; a segment may be any name where the config has a free mapping."""
    parts = [SCHEMA]
    for name in key.split("."):
        below = []
        for part in parts:
            if name in part.get("properties", {}):
                below += resolved(part["properties"][name])
            for values in [part.get("additionalProperties"), *part.get("patternProperties", {}).values()]:
                if isinstance(values, dict):
                    below += resolved(values)
        parts = below
    return bool(parts)


def keys(page: Path) -> set[str]:
    """Config keys that a page names: dotted names in a section of the config, and first cells of tables of keys."""
    found = set()
    for span in SPAN.findall(prose(page)):
        section, suffix = span.partition(".")[0], span.rpartition(".")[2]
        if DOTTED.fullmatch(span) and section in SCHEMA["properties"] and suffix not in SUFFIXES:
            found.add(span)
    for table in re.findall(r"^\| key \|.*\n\|-.*\n((?:\|.*\n)+)", prose(page), re.MULTILINE):
        found |= {span for row in table.splitlines() for span in SPAN.findall(row.split("|")[1])}
    return found


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(prose(page)) if "://" not in link]
    broken = [link for link in links if link and not (page.parent / link).exists()]
    assert [link for link in broken if os.path.relpath(page.parent / link, DOCS) not in GENERATED] == []


def test_navigation_lists_every_page() -> None:
    listed = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {path.relative_to(DOCS).as_posix() for path in MANUAL} | GENERATED


@pytest.mark.parametrize("part", ["how-to", "explanation"])
def test_index_of_a_part_lists_its_pages(part: str) -> None:
    linked = set(LINK.findall(prose(DOCS / part / "index.md")))
    assert {path.name for path in (DOCS / part).glob("*.md")} - {"index.md"} <= linked


def test_every_step_has_a_reference_page() -> None:
    index = prose(DOCS / "reference/steps/index.md")
    rows = [row.split("|") for row in index.splitlines() if row.startswith("| [")]
    page_of = {step: LINK.findall(row[1])[0] for row in rows for step in SPAN.findall(row[2])}
    assert set(page_of) == set(STEPS)
    for step, page in page_of.items():
        text = (DOCS / "reference/steps" / page).read_text(encoding="utf-8")
        assert f"`{step}`" in text, f"{page} does not describe {step}"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_config_keys_exist(page: Path) -> None:
    assert sorted(key for key in keys(page) if not in_schema(key)) == []


@pytest.mark.parametrize(
    ("key", "there"),
    [
        ("sentinel2.method", True),
        ("sentinel2.source.path", True),
        ("superres.presets.NAME.adversarial.l1", True),
        ("accuracy.products.NAME.isa.range", True),
        ("sentinel2.methods", False),
        ("sentinel2.method.median", False),
        ("superres.presets.NAME.l1", False),
    ],
)
def test_a_wrong_key_is_seen(key: str, there: bool) -> None:
    assert in_schema(key) is there


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_commands_are_understood(page: Path, capsys: pytest.CaptureFixture) -> None:
    parser = build_parser()
    for line in commands(page):
        words = shlex.split(line.partition(" > ")[0]) if line.startswith(("jointseg ", "snakemake ")) else []
        if not words:
            continue
        configs = [word for word in words if word.endswith(".yaml") and word not in WRITTEN_BY_READER]
        assert all((ROOT / word).exists() for word in configs), line
        if words == ["jointseg", "run"]:  # the verb itself, not a command line
            words.append("config.yaml")
        if words[0] == "jointseg":
            given, rest = parser.parse_known_args(words[1:])
            assert not rest or given.handler is run.run, line


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for line in commands(page) if re.match(r"make [a-z]", line)}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_named_files_of_the_repository_exist(page: Path) -> None:
    spans = SPAN.findall(prose(page))
    named = [span for span in spans if re.match(r"(src|rules|docs|tests|examples|profiles|envs)/", span)]
    assert [span for span in named if not (ROOT / span).exists()] == []
