"""The flow in pods that share nothing but a store: the same bytes as on this machine. Pods fetch packages: needs an index."""

import pytest
from support.flow_run import final, hashes
from support.loopback_kubernetes import IN_PODS, kubernetes_server
from support.loopback_s3 import object_store_server

pytestmark = pytest.mark.slow


def test_composites_of_pods_are_the_same(flow, tmp_path_factory):
    root = tmp_path_factory.mktemp("pods")
    with object_store_server() as shared, kubernetes_server(root, flow.root) as cluster:
        machine = flow.beside(tmp_path_factory.mktemp("kubernetes"), shared.environment | cluster.environment)
        done = machine.jointseg("run", "mini.yaml", *IN_PODS, "all_composites")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        found, expected = final(shared.hashes(flow.results.relative_to(flow.root).as_posix())), hashes(flow.results)
        assert len([path for path in found if path.startswith("sentinel2/composites/")]) == 6
        assert {path for path, digest in found.items() if expected.get(path) != digest} == set()
        assert not list(machine.results.rglob("*.tif")) and cluster.secrets == {}
        # Lists of scenes and composites travelled together: fewer pods than jobs of the flow.
        assert 3 < len(cluster.submitted) < 16
