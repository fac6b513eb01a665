"""Profiles refer to existing rules, and every rule sets the resources that a scheduler needs."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.rule_text import RULES, block

from jointseg.run.plan import PROFILE_REQUESTS

ROOT = Path(__file__).parents[2]
PROFILES = {path.parent.name: yaml.safe_load(path.read_text()) for path in ROOT.glob("profiles/*/config.yaml")}
# Rules that run networks.
GPU_RULES = {
    *("superres_stage1", "superres_stage2", "superres_adversarial", "superres_chips", "segmentation", "joint"),
    *("predict", "predict_chips", "preview", "ablation_generator", "ablation_variant"),
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_resources_increase_with_every_attempt(rule):
    resources = block(rule, "resources")
    assert re.search(r"mem_mb=per_attempt\(\d+\)", resources), rule
    assert re.search(r"runtime=per_attempt\(\d+\)", resources), rule


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_profile_refers_to_existing_rules(name):
    profile = PROFILES[name]
    rules = {entry.partition("=")[0] for entry in profile.get("groups", [])}
    rules |= {entry.partition(":")[0] for entry in profile.get("set-resources", [])}
    assert rules <= set(RULES)
    groups = {entry.partition("=")[2] for entry in profile.get("groups", [])}
    assert groups == {entry.partition("=")[0] for entry in profile.get("group-components", [])}
    # All profiles have the same rerun triggers and the same limit of requests.
    assert profile["rerun-triggers"] == ["mtime", "params", "input"]
    assert f"parallel_requests={PROFILE_REQUESTS}" in profile["resources"]
    assert "parallel_requests=" in block("composite", "resources")


@pytest.mark.parametrize("name", ["kubernetes", "slurm"])
def test_cluster_profiles_request_a_gpu_for_networks(name):
    assert {entry.partition(":")[0] for entry in PROFILES[name]["set-resources"]} == GPU_RULES
    assert all(entry.endswith(":gpu=1") for entry in PROFILES[name]["set-resources"])


def test_loopback_script_prints_usage_and_options():
    script = ROOT / "profiles/slurm/loopback.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    usage = subprocess.run([script], capture_output=True, text=True, check=False)
    assert usage.returncode == 2 and "start" in usage.stdout and "stop" in usage.stdout
    options = subprocess.run([script, "options"], capture_output=True, text=True, check=True).stdout
    assert options.startswith("--profile slurm --set-resources ") and not options.rstrip().endswith("=0")
    assert {word.partition(":")[0] for word in options.split() if ":" in word} <= set(RULES)
