"""Networks that the workflow trains and maps with, by config; from dry runs of Snakemake."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
JOINT = {"steps": 10, "batch": 2, "learning_rate": 1e-4, "crop_px": 160}
TARGETS = [f"results/synthetic/{name}" for name in ("isa/2021/50N_E0660_N3540.tif", "accuracy/predictions/bilinear")]


def networks(folder: Path, change: dict[str, Any], superres: dict[str, Any]) -> dict[str, set[str]]:
    """Return the checkpoints that each planned job reads, by rule and method."""
    config = yaml.safe_load((ROOT / "examples/synthetic/config.yaml").read_text()) | change
    config["superres"] |= superres
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "net.pth").touch()
    command = [sys.executable, "-m", "jointseg.audit.dry_run", "plan.json", "-n", "--snakefile", f"{ROOT}/Snakefile"]
    command += ["--directory", str(folder), "--configfile", "config.yaml", "--cores", "1", "--", *TARGETS]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    plan = json.loads((folder / "plan.json").read_text())
    return {
        "/".join([job["rule"], *job["wildcards"].values()][: 2 if "method" in job["wildcards"] else 1]): {
            path.removeprefix("results/synthetic/") for path in job["inputs"] if path.endswith((".safetensors", ".pth"))
        }
        for job in plan["jobs"]
    }


def test_adversarial_generator_maps_by_default(tmp_path: Path) -> None:
    plan = networks(tmp_path, {}, {})
    assert plan["predict"] == {"superres/adversarial.safetensors", "segmentation/superres.safetensors"}
    assert plan["superres_chips/superres"] == {"superres/adversarial.safetensors"}
    assert plan["superres_stage1"] == set() and "joint" not in plan


@pytest.mark.parametrize("start", ["stage2", "adversarial"])
def test_jointly_trained_networks_map_if_final_is_joint(tmp_path: Path, start: str) -> None:
    plan = networks(tmp_path, {"joint": {**JOINT, "start": start}}, {"final": "joint", "pretrained": "net.pth"})
    assert plan["predict"] == {"superres/joint.safetensors", "segmentation/joint.safetensors"}
    assert plan["joint"] == {f"superres/{start}.safetensors", "segmentation/superres.safetensors"}
    assert plan["superres_chips/superres"] == {f"superres/{start}.safetensors"}
    assert plan["predict_chips/bilinear"] == {"segmentation/bilinear.safetensors"}
    assert plan["superres_stage1"] == {"net.pth"}
    assert ("superres_adversarial" in plan) is (start == "adversarial")


def test_final_stage2_skips_the_adversarial_step(tmp_path: Path) -> None:
    plan = networks(tmp_path, {}, {"final": "stage2"})
    assert plan["predict"] == {"superres/stage2.safetensors", "segmentation/superres.safetensors"}
    assert plan["superres_chips/superres"] == {"superres/stage2.safetensors"}
    assert "superres_adversarial" not in plan
