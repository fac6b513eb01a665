"""Every rule has all directives and passes the parameters of the step with its name."""

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.rule_text import RULES, block

from jointseg.provenance.job_record import RECORD_PARAMS
from jointseg.run import steps

ROOT = Path(__file__).parents[2]
# Inputs that a function adds depending on the config.
UNPACKED = re.compile(r"unpack\(|\*\*\w")


def names(rule: str, directive: str) -> set[str]:
    indent = RULES[rule][0] + 8
    return set(re.findall(rf"^ {{{indent}}}(\w+)=", block(rule, directive), re.M))


def step_parameters(rule: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(importlib.import_module(steps.module(rule)), rule)).parameters)


def test_rules_and_steps_have_the_same_names():
    assert set(RULES) == set(steps.STEPS)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rule_has_every_directive(rule):
    for directive in ("output", "log", "benchmark", "threads", "resources", "params", "conda", "message", "script"):
        assert block(rule, directive).strip(), f"rule {rule} has no {directive}"
    assert f'code=code("{rule}")' in block(rule, "params")
    assert f'environment=packages("{rule}")' in block(rule, "params")
    assert "manifest=manifest(" in block(rule, "output")


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rule_passes_the_parameters_of_its_step(rule):
    parameters = step_parameters(rule)
    passed = set.union(*(names(rule, directive) for directive in ("input", "output", "params"))) - {
        "manifest",
        *RECORD_PARAMS,
    }
    passed |= set(re.findall(r"\{\{(\w+)\}\}", block(rule, "output")))
    required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    assert passed <= set(parameters), "the step has no such parameter"
    assert UNPACKED.search(block(rule, "input")) or required <= passed, "a parameter of the step is missing"


def test_merged_dates_are_an_output_only_if_the_config_enables_them(tmp_path):
    target = "results/synthetic/sentinel2/merged/2017/50N_E0660_N3540.tif"
    for folder in ("rules", "envs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    config = yaml.safe_load((ROOT / "examples/synthetic/config.yaml").read_text())
    results = {}
    for dates in (0, 2):
        config["sentinel2"]["merged_dates"] = dates
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        process = subprocess.run(
            [sys.executable, "-m", "snakemake", "-n", "--configfile", "config.yaml", "--cores", "1", target],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        results[dates] = process.returncode, process.stdout + process.stderr
    assert results[0][0] != 0 and "MissingRuleException" in results[0][1]
    assert results[2][0] == 0, results[2][1]
    # The composite of the other year needs that of the map year, and the same job merges the dates.
    assert re.search(r"^composite +2$", results[2][1], re.M), results[2][1]
