"""The workflow with inputs and results in an S3 server on the loopback interface: equal bytes, rasters read by range."""

import json

import pytest
from support.loopback_kubernetes import IN_PODS, kubernetes_server
from support.loopback_s3 import PREFIX, object_store_server
from support.run_folder import comparable, hashes

S3 = ("--profile", "s3", "--default-storage-prefix", PREFIX, "--cores", "2")


@pytest.fixture(scope="module")
def store():
    with object_store_server() as server:
        yield server


@pytest.fixture(scope="module")
def composited(finished, store, tmp_path_factory):
    """A machine that built the composites of the finished run in the store."""
    machine = finished.copy(tmp_path_factory.mktemp("s3"), store.environment)
    done = machine.jointseg("run", "mini.yaml", *S3, "all_composites")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return machine


def stored_hashes(store, finished):
    return comparable(store.hashes(finished.results_name))


def differing(stored, expected):
    return {path for path, digest in stored.items() if expected.get(path) != digest}


def test_composites_in_the_store_are_equal(finished, store, composited):
    stored = stored_hashes(store, finished)
    assert len([path for path in stored if path.startswith("sentinel2/composites/")]) == 6
    assert differing(stored, hashes(finished.results)) == set()
    # The machine has the files of the run itself, but no results.
    assert not list(composited.results.rglob("*.tif"))


def test_manifests_have_the_paths_of_the_workflow(finished, store, composited, tmp_path):
    store.fetch(finished.results_name, tmp_path)
    manifests = list(tmp_path.glob("manifests/**/*.json"))
    assert len(manifests) == 1 + 1 + 1 + 6 + 6
    for path in manifests:
        remote, local = (
            json.loads((root / path.relative_to(tmp_path)).read_text()) for root in (tmp_path, finished.results)
        )
        for name in ("inputs", "outputs", "params"):
            assert remote[name] == local[name], path


def test_another_machine_reads_rasters_by_range(finished, store, composited, tmp_path_factory):
    machine = finished.copy(tmp_path_factory.mktemp("other"), store.environment)
    store.requests.clear()
    target = f"{finished.results_name}/sentinel2/composite_quality/2017.csv"
    done = machine.jointseg("run", "mini.yaml", *S3, target)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    stored = stored_hashes(store, finished)
    assert "sentinel2/composite_quality/2017.csv" in stored and differing(stored, hashes(finished.results)) == set()
    rasters = [request for request in store.requests if request.endswith(".tif")]
    assert rasters and all(request.startswith("bytes=") for request in rasters)
    assert not list(machine.root.rglob("composites/**/*.tif"))


def test_run_in_pods_without_jobs_leaves_no_secret(finished, store, composited, tmp_path_factory):
    with kubernetes_server(tmp_path_factory.mktemp("pods"), finished.root) as cluster:
        machine = finished.copy(tmp_path_factory.mktemp("idle"), store.environment | cluster.environment)
        done = machine.jointseg("run", "mini.yaml", *IN_PODS, "all_composites")
        assert done.returncode == 0 and "nothing to do" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]
        assert cluster.requests == {"POST secrets": 1, "DELETE secrets": 1}
        assert cluster.submitted == [] and cluster.secrets == {}


@pytest.mark.slow
def test_complete_run_in_the_store_is_equal(finished, store, composited, tmp_path_factory):
    machine = finished.copy(tmp_path_factory.mktemp("complete"), store.environment)
    done = machine.jointseg("run", "mini.yaml", *S3)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    stored, expected = stored_hashes(store, finished), hashes(finished.results)
    assert differing(stored, expected) == set() and expected.keys() == stored.keys()
    rerun = machine.jointseg("run", "mini.yaml", *S3, "-n")
    assert "Nothing to be done" in rerun.stdout + rerun.stderr
    fetched = finished.copy(tmp_path_factory.mktemp("fetched"))
    store.fetch(finished.results_name, fetched.results)
    audit = fetched.jointseg("audit", "verify", str(fetched.results))
    assert audit.returncode == 0, audit.stdout


def test_store_without_a_prefix_is_refused(composited):
    done = composited.jointseg("run", "mini.yaml", "--profile", "s3", "-n")
    assert done.returncode == 1
    message = "rasters cannot be read from --default-storage-provider s3 with --default-storage-prefix"
    assert message in done.stdout + done.stderr
