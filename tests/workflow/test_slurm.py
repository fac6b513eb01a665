"""The flow on a Slurm of one node: the same bytes as on this machine. Needs root, slurm-wlm and munge."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.flow_run import ROOT, hashes

SCRIPT = ROOT / "profiles/slurm/loopback.sh"
CONF = Path("/etc/slurm/slurm.conf")
TOOLS = ("munged", "slurmctld", "slurmd", "squeue")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(tool) is None for tool in TOOLS) or CONF.exists(),
    reason="needs root, slurm-wlm and munge, and no Slurm of this machine's own",
)


@pytest.fixture(scope="module")
def options():
    """The options of a run on the cluster, which is there as long as this module's tests."""
    subprocess.run([SCRIPT, "start"], check=True)
    try:
        yield subprocess.run([SCRIPT, "options"], capture_output=True, text=True, check=True).stdout.split()
    finally:
        subprocess.run([SCRIPT, "stop"], check=True)


@pytest.fixture(scope="module")
def beside(flow, tmp_path_factory):
    """A second copy of the repository with the config of the first run, and nothing made."""
    return flow.beside(tmp_path_factory.mktemp("slurm"))


def agree(flow, beside, least: int) -> None:
    made, expected = hashes(beside.results), hashes(flow.results)
    assert len(made) >= least
    assert {path: digest for path, digest in made.items() if expected.get(path) != digest} == {}


def test_composites_of_a_cluster_are_the_same(flow, beside, options):
    done = beside.jointseg("run", "mini.yaml", *options, "all_composites")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    agree(flow, beside, 20)
    written = [json.loads(path.read_text()) for path in beside.results.glob("manifests/composite/*/*.json")]
    assert len(written) == len(list(flow.results.glob("manifests/composite/*/*.json")))
    # Lists of scenes and composites travelled together: fewer jobs of the cluster than of the flow.
    log = (beside.results / "logs/snakemake.log").read_text()
    assert 0 < log.count("has been submitted with SLURM jobid") < log.count("Finished jobid")


def test_what_a_job_refused_on_a_cluster_is_told_and_not_tried_again(beside, options):
    victim = next(beside.results.glob("sentinel2/scenes/2017/*.json"))
    victim.write_text("{}")
    done = beside.jointseg(
        "run", "mini.yaml", *options, f"{beside.results.relative_to(beside.root)}/sentinel2/composite_quality/2017.csv"
    )
    assert done.returncode == 1
    told = beside.jointseg("status", "mini.yaml", "--json")
    (failure,) = json.loads(told.stdout)["failures"]
    assert failure["job"].startswith("composite [") and failure["cause"] == "input"
    assert f"rule {failure['job']}: {failure['why']}" in done.stdout
    victim.unlink()


@pytest.mark.slow
def test_the_whole_flow_on_a_cluster_is_the_same(flow, beside, options):
    done = beside.jointseg("run", "mini.yaml", *options)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    agree(flow, beside, len(hashes(flow.results)))
    audit = beside.jointseg("audit", "verify", str(beside.results))
    assert audit.returncode == 0, audit.stdout
