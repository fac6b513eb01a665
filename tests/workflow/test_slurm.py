"""The workflow on a Slurm cluster of one node yields equal bytes. Needs root, slurm-wlm and munge."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.run_folder import ROOT, hashes

SCRIPT = ROOT / "profiles/slurm/loopback.sh"
CONF = Path("/etc/slurm/slurm.conf")
TOOLS = ("munged", "slurmctld", "slurmd", "squeue")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(tool) is None for tool in TOOLS) or CONF.exists(),
    reason="needs root, slurm-wlm and munge, and a machine without its own Slurm",
)


@pytest.fixture(scope="module")
def options():
    """Options of `jointseg run` for the cluster, which runs during the tests of this module."""
    subprocess.run([SCRIPT, "start"], check=True)
    try:
        yield subprocess.run([SCRIPT, "options"], capture_output=True, text=True, check=True).stdout.split()
    finally:
        subprocess.run([SCRIPT, "stop"], check=True)


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    """A copy of code and config of the finished run, without results."""
    return finished.copy(tmp_path_factory.mktemp("slurm"))


def assert_equal_files(finished, folder, at_least: int) -> None:
    found, expected = hashes(folder.results), hashes(finished.results)
    assert len(found) >= at_least
    assert {path: digest for path, digest in found.items() if expected.get(path) != digest} == {}


def test_composites_from_a_cluster_are_equal(finished, folder, options):
    done = folder.jointseg("run", "mini.yaml", *options, "all_composites")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert_equal_files(finished, folder, 20)
    manifests = list(folder.results.glob("manifests/composite/*/*.json"))
    assert len(manifests) == len(list(finished.results.glob("manifests/composite/*/*.json")))
    # Scene lists and composites are grouped: fewer jobs of the cluster than of the workflow.
    log = (folder.results / "logs/snakemake.log").read_text()
    assert 0 < log.count("has been submitted with SLURM jobid") < log.count("Finished jobid")


def test_bad_input_on_a_cluster_is_reported_and_not_retried(folder, options):
    scenes = next(folder.results.glob("sentinel2/scenes/2017/*.json"))
    scenes.write_text("{}")
    target = f"{folder.results_name}/sentinel2/composite_quality/2017.csv"
    done = folder.jointseg("run", "mini.yaml", *options, target)
    assert done.returncode == 1
    status = folder.jointseg("status", "mini.yaml", "--json")
    (failure,) = json.loads(status.stdout)["failures"]
    assert failure["job"].startswith("composite [") and failure["cause"] == "input"
    assert f"rule {failure['job']}: {failure['reason']}" in done.stdout
    scenes.unlink()


@pytest.mark.slow
def test_complete_run_on_a_cluster_is_equal(finished, folder, options):
    done = folder.jointseg("run", "mini.yaml", *options)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert_equal_files(finished, folder, len(hashes(finished.results)))
    audit = folder.jointseg("audit", "verify", str(folder.results))
    assert audit.returncode == 0, audit.stdout
