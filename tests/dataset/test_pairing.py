"""Pairing of samples with scenes on the synthetic scene: shifts, rejections, replacement samples."""

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from support.dataset_workflow import CHIP, CLOUDY_SCENE, NORTH, SCENE, SHIFT, WEST, altered_scene, run_pairing

from jointseg.runtime.errors import DataError


def test_pairing_rejects_the_cloudy_scene_and_finds_the_shift(built: Path) -> None:
    pairs = pd.read_parquet(built / "pairs.parquet")
    assert (pairs["status"] == "ok").all()
    assert (pairs["scene_id"] == SCENE).all()
    error = np.hypot(pairs["shift_x_m"] - SHIFT[0], pairs["shift_y_m"] - SHIFT[1])
    assert error.max() < 0.5
    assert pairs["date"].iloc[0] == "2022-06-23T02:46:20Z"
    assert pairs["registration_correlation"].between(0.8, 1).all()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"max_shift_m": 5}, "no registration|shift too large"),
        ({"min_correlation": 1.0}, "low correlation"),
        ({"max_cloud_percent": 0.5}, "scene too cloudy"),
    ],
)
def test_rejected_pairs_have_a_reason(scene_inputs: Path, tmp_path: Path, change: dict, status: str) -> None:
    scenes = gpd.read_parquet(scene_inputs / "deliveries.parquet")
    scenes[scenes["scene_id"] == SCENE].to_parquet(tmp_path / "deliveries.parquet")
    change = change | {"deliveries": tmp_path / "deliveries.parquet"}
    with pytest.raises(DataError, match=rf"no sample of reach up could be paired: .*({status})"):
        run_pairing(scene_inputs, tmp_path / "pairs.parquet", **change)


@pytest.mark.parametrize("moved_m", [(1.37, 0.52), (-4.21, 2.93), (0.11, -7.9)])
def test_sub_pixel_shifts_of_a_scene_are_found(scene_inputs: Path, tmp_path: Path, moved_m: tuple) -> None:
    pairs = run_pairing(
        scene_inputs, tmp_path / "p.parquet", max_shift_m=16, **altered_scene(scene_inputs, tmp_path, moved_m)
    )
    assert (pairs["status"] == "ok").all()
    error = np.hypot(pairs["shift_x_m"] + moved_m[0] - SHIFT[0], pairs["shift_y_m"] + moved_m[1] - SHIFT[1])
    assert error.max() < 0.3
    assert (pairs["shift_sd_m"] < 0.3).all()


def test_rejected_samples_are_replaced_within_their_stratum(scene_inputs: Path, tmp_path: Path) -> None:
    samples = gpd.read_parquet(scene_inputs / "samples.parquet")
    samples["stratum"] = ["up/1"] * 6 + ["up/2"] * 6
    # The first stratum has 3 replacement samples, the second of which is cloudy too; the second stratum has one.
    samples["replacement"] = [False, False, False, True, True, True, False, False, False, False, False, True]
    samples["rank"] = [1, 2, 3, 5, 4, 6, 1, 2, 3, 4, 5, 6]
    samples.to_parquet(tmp_path / "samples.parquet")
    covers = {"up-0001": "cloud", "up-0002": "cloud", "up-0005": "cloud", "up-0008": "flood", "up-0009": "cloud"}
    covered = samples.set_index("sample_id").loc[list(covers)]

    def paint(image: np.ndarray, transform: Affine) -> np.ndarray:
        for name, row in covered.iterrows():
            left, top = ~transform @ (row.minx - SHIFT[0] - 10, row.miny + CHIP - SHIFT[1] + 10)
            side = int((CHIP + 20) / 0.75)
            part = image[:, max(int(top), 0) : int(top) + side, max(int(left), 0) : int(left) + side]
            noise = np.random.default_rng(0).normal(0, 15, part.shape)
            part[:] = np.rint({"cloud": 4500, "flood": 650}[covers[str(name)]] + noise).astype(np.uint16)
        return image

    pairs = run_pairing(
        scene_inputs,
        tmp_path / "p.parquet",
        samples=tmp_path / "samples.parquet",
        **altered_scene(scene_inputs, tmp_path, paint=paint),
    ).set_index("sample_id")
    assert pairs["status"][pairs["status"] != "ok"].to_dict() == {
        "up-0001": "cloud or haze",
        "up-0002": "cloud or haze",
        "up-0005": "cloud or haze",
        "up-0008": "flooded",
        "up-0009": "cloud or haze",
    }
    # up-0004 and up-0006 replace two samples of the first stratum, up-0012 one of the two of the second.
    assert sorted(pairs.index) == samples["sample_id"].tolist()
    assert pairs.loc["up-0008", "rejected"] == f"{SCENE}: flooded"
    assert pairs.loc["up-0003", "rejected"] == ""


def test_unneeded_replacement_samples_are_not_tried(scene_inputs: Path, tmp_path: Path) -> None:
    samples = gpd.read_parquet(scene_inputs / "samples.parquet")
    samples["replacement"] = samples["rank"] > 8
    samples.to_parquet(tmp_path / "samples.parquet")
    pairs = run_pairing(
        scene_inputs,
        tmp_path / "p.parquet",
        samples=tmp_path / "samples.parquet",
        **altered_scene(scene_inputs, tmp_path),
    )
    assert pairs["sample_id"].tolist() == samples["sample_id"].tolist()[:8]


def test_featureless_composite_is_rejected(scene_inputs: Path, tmp_path: Path) -> None:
    samples = gpd.read_parquet(scene_inputs / "samples.parquet").set_index("sample_id")
    row = samples.loc["up-0007"]
    shutil.copy(scene_inputs / "composites/2021/t.tif", tmp_path / "t.tif")
    with rasterio.open(tmp_path / "t.tif", "r+") as file:
        image = file.read()
        top, left = int((NORTH - row.miny - CHIP) / 10), int((row.minx - WEST) / 10)
        part = image[:3, top : top + 16, left : left + 16]
        part[:] = np.rint(700 + np.random.default_rng(0).normal(0, 20, part.shape)).astype(np.uint16)
        file.write(image)
    pairs = run_pairing(scene_inputs, tmp_path / "p.parquet", composites=[tmp_path / "t.tif"]).set_index("sample_id")
    assert pairs["status"][pairs["status"] != "ok"].to_dict() == {"up-0007": "featureless"}


def test_rejected_scenes_are_listed_with_their_reason(scene_inputs: Path, built: Path) -> None:
    pairs = pd.read_parquet(built / "pairs.parquet")
    assert (pairs["rejected"] == f"{CLOUDY_SCENE}: cloud or haze").all()
    assert (pairs["cloud_percent"] == 4).all() and pairs["view_angle"].isna().all()
    gains = pairs[["gain_B04", "gain_B03", "gain_B02"]].to_numpy()
    assert gains == pytest.approx(np.full_like(gains, 1 / 6000), rel=0.1)


def test_error_for_a_reach_without_samples(scene_inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples of reach 'down'"):
        run_pairing(scene_inputs, tmp_path / "pairs.parquet", reach="down")
