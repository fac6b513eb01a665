"""Profiles name rules that there are, and every rule says what a scheduler must know."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.rule_text import RULES, block

from jointseg.run.plan import PROFILE_REQUESTS

ROOT = Path(__file__).parents[2]
PROFILES = {path.parent.name: yaml.safe_load(path.read_text()) for path in ROOT.glob("profiles/*/config.yaml")}
# What computes networks, by the module of its step.
ON_A_GPU = {
    *("superres_stage1", "superres_stage2", "superres_adversarial", "superres_chips", "segmentation", "joint"),
    *("predict", "predict_chips", "preview", "ablation_generator", "ablation_variant"),
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_asks_for_more_when_it_is_tried_again(rule):
    asked = block(rule, "resources")
    assert re.search(r"mem_mb=more\(\d+\)", asked) and re.search(r"runtime=more\(\d+\)", asked), rule


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_profile_names_rules_that_there_are(name):
    profile = PROFILES[name]
    named = {entry.partition("=")[0] for entry in profile.get("groups", [])}
    named |= {entry.partition(":")[0] for entry in profile.get("set-resources", [])}
    assert named <= set(RULES)
    groups = {entry.partition("=")[2] for entry in profile.get("groups", [])}
    assert groups == {entry.partition("=")[0] for entry in profile.get("group-components", [])}
    # The same triggers and the same bound on requests wherever a run is made.
    assert profile["rerun-triggers"] == ["mtime", "params", "input"]
    assert f"requests={PROFILE_REQUESTS}" in profile["resources"]


@pytest.mark.parametrize("name", ["kubernetes", "slurm"])
def test_a_cluster_gives_a_gpu_to_what_computes_networks(name):
    assert {entry.partition(":")[0] for entry in PROFILES[name]["set-resources"]} == ON_A_GPU
    assert all(entry.endswith(":gpu=1") for entry in PROFILES[name]["set-resources"])


def test_the_loopback_cluster_says_how_it_is_used():
    script = ROOT / "profiles/slurm/loopback.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    told = subprocess.run([script], capture_output=True, text=True, check=False)
    assert told.returncode == 2 and "start" in told.stdout and "stop" in told.stdout
    options = subprocess.run([script, "options"], capture_output=True, text=True, check=True).stdout
    assert options.startswith("--profile slurm --set-resources ") and not options.rstrip().endswith("=0")
