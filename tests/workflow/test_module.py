"""The workflow as a module of another one."""

import json
import os
import subprocess
import sys

import pytest
import yaml

OTHER = """
module maps:
    snakefile:
        "{home}/Snakefile"
    config:
        config["maps"]


use rule * from maps as maps_*


rule summary:
    input:
        rules.maps_grid.output.tiles,
    output:
        "summary.txt",
    default_target: True
    shell:
        "wc -c {{input}} > {{output}}"
"""


@pytest.fixture
def other(finished, tmp_path):
    """Folder and `snakemake` of another workflow that imports this one, with the config of this one in its config."""
    config = yaml.safe_load(finished.config.read_text()) | {"results": "maps/results"}
    text = yaml.safe_dump({"maps": config}, sort_keys=False).replace("results/synthetic", "maps/results")
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "Snakefile").write_text(OTHER.format(home=finished.root))

    def snakemake(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--configfile", "config.yaml", "--cores", "2", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(finished.root / "src")},
            capture_output=True,
            text=True,
            check=False,
        )

    return tmp_path, snakemake


def test_module_builds_equal_files(finished, other):
    root, snakemake = other
    done = snakemake("summary.txt", "maps_all_scenes")
    assert done.returncode == 0, done.stdout + done.stderr
    results = root / "maps/results"
    assert "maps/results/grid/tiles.geojson" in (root / "summary.txt").read_text()
    for path in ("grid/tiles.geojson", "sources/elevation.tif"):
        assert (results / path).read_bytes() == (finished.results / path).read_bytes(), path
    assert {json.loads(path.read_text())["rule"] for path in results.glob("manifests/**/*.json")} == {
        *("synthetic", "study_area", "grid", "scenes")
    }
    audit = finished.jointseg("audit", "verify", str(results))
    assert audit.returncode == 0, audit.stdout
    # The complete workflow can be planned from the other one, with prefixed rule names.
    plan = snakemake("-n", "maps_all")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert "maps_release" in plan.stdout and "maps_predict " in plan.stdout
