"""Every rule says what it does, where it logs, what it runs in, and matches the step of its name."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from jointseg import steps
from jointseg.provenance.record import RECORDED

ROOT = Path(__file__).parents[1]
RULE = re.compile(r"^( *)(?:rule|checkpoint) (\w+):\n(.*?)(?=^(?:\1)?\S|\Z)", re.M | re.S)
RULES = {
    match[2]: (len(match[1]), match[3])
    for path in sorted((ROOT / "rules").glob("*.smk"))
    for match in RULE.finditer(path.read_text())
}
# Inputs that a function of the rule adds where the config asks for them.
UNPACKED = re.compile(r"unpack\(|\*\*\w")


def block(rule: str, directive: str) -> str:
    indent, body = RULES[rule]
    found = re.search(rf"^ {{{indent + 4}}}{directive}:(.*?)(?=^ {{{indent + 4}}}\S|\Z)", body, re.M | re.S)
    return found[1] if found else ""


def names(rule: str, directive: str) -> set[str]:
    indent = RULES[rule][0] + 8
    return set(re.findall(rf"^ {{{indent}}}(\w+)=", block(rule, directive), re.M))


def test_every_step_has_its_rule_and_every_rule_its_step():
    assert set(RULES) == set(steps.STEPS)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rule_has_every_directive(rule):
    for directive in ("output", "log", "benchmark", "threads", "resources", "params", "conda", "message", "script"):
        assert block(rule, directive).strip(), f"rule {rule} has no {directive}"
    assert f'code=code("{rule}")' in block(rule, "params")
    assert f'environment=packages("{rule}")' in block(rule, "params")
    assert "manifest=manifest(" in block(rule, "output")


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rule_gives_the_step_what_it_takes(rule):
    function = getattr(importlib.import_module(steps.module(rule)), rule)
    takes = inspect.signature(function).parameters
    given = set.union(*(names(rule, directive) for directive in ("input", "output", "params"))) - {
        "manifest",
        *RECORDED,
    }
    given |= set(re.findall(r"\{\{(\w+)\}\}", block(rule, "output")))
    needed = {name for name, parameter in takes.items() if parameter.default is parameter.empty}
    assert given <= set(takes), "names that the step does not know"
    assert UNPACKED.search(block(rule, "input")) or needed <= given, "names that the step needs"
