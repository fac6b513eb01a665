"""The flow with inputs and results in an S3 on loopback: the same bytes as on this machine, rasters read by range."""

import json

import pytest
from support.flow_run import final, hashes
from support.loopback_kubernetes import IN_PODS, kubernetes_server
from support.loopback_s3 import PREFIX, object_store_server

S3 = ("--profile", "s3", "--default-storage-prefix", PREFIX, "--cores", "2")


@pytest.fixture(scope="module")
def shared():
    with object_store_server() as made:
        yield made


@pytest.fixture(scope="module")
def composed(flow, shared, tmp_path_factory):
    """A machine that made the composites of the first run's config in the store."""
    machine = flow.beside(tmp_path_factory.mktemp("s3"), shared.environment)
    done = machine.jointseg("run", "mini.yaml", *S3, "all_composites")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return machine


def stored(shared, flow):
    """What the store has of the results, without records of the runs."""
    return final(shared.hashes(flow.results.relative_to(flow.root).as_posix()))


def differing(found, expected):
    return {path for path, digest in found.items() if expected.get(path) != digest}


def test_composites_in_the_store_are_the_same(flow, shared, composed):
    found = stored(shared, flow)
    assert len([path for path in found if path.startswith("sentinel2/composites/")]) == 6
    assert differing(found, hashes(flow.results)) == set()
    # On the machine itself lies what the run needs, and nothing of what it made.
    assert not list(composed.results.rglob("*.tif"))


def test_manifests_call_files_by_the_paths_of_the_flow(flow, shared, composed, tmp_path):
    shared.fetch(flow.results.relative_to(flow.root).as_posix(), tmp_path)
    manifests = list(tmp_path.glob("manifests/**/*.json"))
    assert len(manifests) == 1 + 1 + 1 + 6 + 6
    for path in manifests:
        written, local = (
            json.loads((root / path.relative_to(tmp_path)).read_text()) for root in (tmp_path, flow.results)
        )
        for name in ("inputs", "outputs", "params"):
            assert written[name] == local[name], path


def test_another_machine_reads_them_by_range(flow, shared, composed, tmp_path_factory):
    machine = flow.beside(tmp_path_factory.mktemp("other"), shared.environment)
    shared.requests.clear()
    target = f"{flow.results.relative_to(flow.root)}/sentinel2/composite_quality/2017.csv"
    done = machine.jointseg("run", "mini.yaml", *S3, target)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = stored(shared, flow)
    assert "sentinel2/composite_quality/2017.csv" in found and differing(found, hashes(flow.results)) == set()
    rasters = [each for each in shared.requests if each.endswith(".tif")]
    assert rasters and all(each.startswith("bytes=") for each in rasters)
    assert not list(machine.root.rglob("composites/**/*.tif"))


def test_pods_with_nothing_to_do_leave_no_secret(flow, shared, composed, tmp_path_factory):
    with kubernetes_server(tmp_path_factory.mktemp("pods"), flow.root) as cluster:
        machine = flow.beside(tmp_path_factory.mktemp("idle"), shared.environment | cluster.environment)
        done = machine.jointseg("run", "mini.yaml", *IN_PODS, "all_composites")
        assert done.returncode == 0 and "nothing to do" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]
        assert cluster.requests == {"POST secrets": 1, "DELETE secrets": 1}
        assert cluster.submitted == [] and cluster.secrets == {}


@pytest.mark.slow
def test_the_whole_flow_in_the_store_is_the_same(flow, shared, composed, tmp_path_factory):
    machine = flow.beside(tmp_path_factory.mktemp("whole"), shared.environment)
    done = machine.jointseg("run", "mini.yaml", *S3)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found, expected = stored(shared, flow), hashes(flow.results)
    assert differing(found, expected) == set() and expected.keys() == found.keys()
    again = machine.jointseg("run", "mini.yaml", *S3, "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    fetched = flow.beside(tmp_path_factory.mktemp("fetched"))
    shared.fetch(flow.results.relative_to(flow.root).as_posix(), fetched.results)
    audit = fetched.jointseg("audit", "verify", str(fetched.results))
    assert audit.returncode == 0, audit.stdout


def test_a_store_that_rasters_cannot_be_read_from_is_refused(composed):
    done = composed.jointseg("run", "mini.yaml", "--profile", "s3", "-n")
    assert done.returncode == 1
    assert "--default-storage-prefix left out is none that rasters can be read from" in done.stdout + done.stderr
