"""Every rule says what it does, where it logs, what it runs in, and matches the step of its name."""

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
# Inputs that a function of the rule adds where the config asks for them.
UNPACKED = re.compile(r"unpack\(|\*\*\w")


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
        *RECORD_PARAMS,
    }
    given |= set(re.findall(r"\{\{(\w+)\}\}", block(rule, "output")))
    needed = {name for name, parameter in takes.items() if parameter.default is parameter.empty}
    assert given <= set(takes), "names that the step does not know"
    assert UNPACKED.search(block(rule, "input")) or needed <= given, "names that the step needs"


def test_merged_dates_are_an_output_only_where_the_config_asks_for_them(tmp_path):
    target = "results/synthetic/sentinel2/merged/2017/50N_E0660_N3540.tif"
    for folder in ("rules", "envs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    config = yaml.safe_load((ROOT / "examples/synthetic/config.yaml").read_text())
    told = {}
    for dates in (0, 2):
        config["sentinel2"]["merged_dates"] = dates
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "-n", "--configfile", "config.yaml", "--cores", "1", target],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        told[dates] = done.returncode, done.stdout + done.stderr
    assert told[0][0] != 0 and "MissingRuleException" in told[0][1]
    assert told[2][0] == 0, told[2][1]
    # The other year's composite is made from the map year's, whose dates are merged in the same job.
    assert re.search(r"^composite +2$", told[2][1], re.M), told[2][1]
