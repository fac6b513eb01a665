"""The workflow in pods that share only an object store yields equal bytes. Pods install packages: needs a package index."""

import pytest
from support.loopback_kubernetes import IN_PODS, kubernetes_server
from support.loopback_s3 import object_store_server
from support.run_folder import comparable, hashes

pytestmark = pytest.mark.slow


def test_composites_from_pods_are_equal(finished, tmp_path_factory):
    root = tmp_path_factory.mktemp("pods")
    with object_store_server() as store, kubernetes_server(root, finished.root) as cluster:
        machine = finished.copy(tmp_path_factory.mktemp("kubernetes"), store.environment | cluster.environment)
        done = machine.jointseg("run", "mini.yaml", *IN_PODS, "all_composites")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        stored, expected = comparable(store.hashes(finished.results_name)), hashes(finished.results)
        assert len([path for path in stored if path.startswith("sentinel2/composites/")]) == 6
        assert {path for path, digest in stored.items() if expected.get(path) != digest} == set()
        assert not list(machine.results.rglob("*.tif")) and cluster.secrets == {}
        # Scene lists and composites are grouped: fewer pods than jobs.
        assert 3 < len(cluster.submitted) < 16
