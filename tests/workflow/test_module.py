"""The workflow as a module of another one; a year and a city more by one line."""

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
def other(flow, tmp_path):
    """Another workflow in a folder of its own that imports this one; its config holds this one's."""
    config = yaml.safe_load(flow.config.read_text()) | {"results": "maps/results"}
    text = yaml.safe_dump({"maps": config}, sort_keys=False).replace("results/synthetic", "maps/results")
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "Snakefile").write_text(OTHER.format(home=flow.root))

    def snakemake(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--configfile", "config.yaml", "--cores", "2", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(flow.root / "src")},
            capture_output=True,
            text=True,
            check=False,
        )

    return tmp_path, snakemake


def test_as_a_module_it_makes_the_same_files(flow, other):
    root, snakemake = other
    done = snakemake("summary.txt", "maps_all_scenes")
    assert done.returncode == 0, done.stdout + done.stderr
    made = root / "maps/results"
    assert "maps/results/grid/tiles.geojson" in (root / "summary.txt").read_text()
    for path in ("grid/tiles.geojson", "sources/elevation.tif"):
        assert (made / path).read_bytes() == (flow.results / path).read_bytes(), path
    assert {json.loads(path.read_text())["rule"] for path in made.glob("manifests/**/*.json")} == {
        *("synthetic", "study_area", "grid", "scenes")
    }
    audit = flow.jointseg("audit", "verify", str(made))
    assert audit.returncode == 0, audit.stdout
    # All of it can be planned from there, under the other names.
    whole = snakemake("-n", "maps_all")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "maps_release" in whole.stdout and "maps_isa " in whole.stdout
