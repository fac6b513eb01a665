"""The change sample: strata, random draw and blind interpretation."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from scipy import ndimage

from jointseg.accuracy import block_counts, change_strata
from jointseg.accuracy.change_sample import MIN_POINTS, change_sample
from jointseg.raster import cog
from jointseg.runtime.errors import DataError

YEARS = [2017, 2019, 2021]
AT = Affine(1, 0, 660_000, 0, -1, 3_544_000)
NAMES = ["never", "near", "always", "new 2019", "new 2021", "other"]


def city(folder: Path, shape: tuple[int, int] = (300, 207)) -> list[np.ndarray]:
    """Maps of three years: a growing town, with patches of ISA in single years and nodata."""
    rng = np.random.default_rng(4)
    distance = np.hypot(*np.indices(shape) - np.array([120, 90])[:, None, None]) + rng.normal(0, 3, shape)
    maps = []
    for reach in (30, 45, 55):
        plane = (distance < reach).astype(np.uint8)
        speck = rng.integers(0, shape[0] - 5), rng.integers(0, shape[1] - 5)
        plane[speck[0] : speck[0] + 5, speck[1] : speck[1] + 5] = 1
        plane[rng.integers(0, 250) :, :3] = 255
        maps.append(plane)
    for year, plane in zip(YEARS, maps):
        cog.write(folder / f"{year}/Town.tif", plane[None], crs="EPSG:32650", transform=AT, nodata=255)
    return maps


def expected_strata(maps: list[np.ndarray]) -> np.ndarray:
    """Return the stratum name of every pixel, computed pixel by pixel; "" for nodata in any year."""
    stack = np.stack(maps)
    ever = (stack == 1).any(0)
    rows, cols = (-(-side // 10) for side in ever.shape)
    cells = np.zeros((rows, cols), bool)
    for row, col in np.argwhere(ever):
        cells[row // 10, col // 10] = True
    near = ndimage.binary_dilation(cells, np.ones((3, 3)))
    out = np.empty(ever.shape, dtype=object)
    names = {(0, 0, 0): "never", (1, 1, 1): "always", (0, 1, 1): "new 2019", (0, 0, 1): "new 2021"}
    for row, col in np.ndindex(ever.shape):
        sequence = tuple(stack[:, row, col].tolist())
        name = "" if 255 in sequence else names.get(sequence, "other")
        out[row, col] = "near" if name == "never" and near[row // 10, col // 10] else name
    return out


def call(folder: Path, **overrides: Any) -> dict[str, pd.DataFrame]:
    made = {name: folder / f"{name}.csv" for name in ("strata", "design", "points")}
    arguments = {"mosaics": [folder / f"{year}/Town.tif" for year in YEARS], "city": "Town", "years": YEARS}
    change_sample(**{**arguments, "number": 400, "seed": 1, "threads": 2, **made, **overrides})
    return {name: pd.read_csv(path) for name, path in made.items()}


@pytest.mark.parametrize("block", [2560, 70])  # one block, and many with cut blocks at the edges
def test_strata_agree_with_a_count_pixel_by_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(block_counts, "BLOCK_PX", block)
    maps = city(tmp_path)
    expected = expected_strata(maps)
    made = call(tmp_path)
    counted = {name: int((expected == name).sum()) for name in NAMES}
    assert dict(zip(made["strata"]["stratum"], made["strata"]["pixels"])) == counted
    assert made["strata"]["points"].sum() == 400 and (made["strata"]["points"] >= np.minimum(MIN_POINTS, made["strata"]["pixels"])).all()  # fmt: skip
    assert made["strata"]["km2"].sum() == pytest.approx((expected != "").sum() / 1e6, rel=2e-3)
    joined = made["design"]
    assert joined[["id", "x", "y"]].equals(made["points"][["id", "x", "y"]])
    row, col = (3_544_000 - joined["y"]).astype(int), (joined["x"] - 660_000).astype(int)
    assert expected[row, col].tolist() == joined["stratum"].tolist()
    assert not joined.duplicated(["x", "y"]).any()
    assert dict(joined["stratum"].value_counts()) == {k: v for k, v in zip(made["strata"]["stratum"], made["strata"]["points"]) if v}  # fmt: skip


def test_draw_does_not_depend_on_threads(tmp_path: Path) -> None:
    city(tmp_path)
    one, three, other_seed = call(tmp_path, threads=1), call(tmp_path, threads=3), call(tmp_path, seed=2)
    assert one["design"].equals(three["design"]) and not one["design"].equals(other_seed["design"])


def test_pixels_of_a_stratum_are_equally_likely(tmp_path: Path) -> None:
    maps = city(tmp_path)
    stratum = expected_strata(maps) == "always"
    seen = np.zeros(stratum.shape, int)
    for seed in range(60):
        drawn = call(tmp_path, seed=seed)["design"]
        at = drawn[drawn["stratum"] == "always"]
        seen[(3_544_000 - at["y"]).astype(int), (at["x"] - 660_000).astype(int)] += 1
    north, south = seen[:120].sum() / stratum[:120].sum(), seen[120:].sum() / stratum[120:].sum()
    drawn = seen.sum()
    assert abs(north - south) < 4 * (drawn / stratum.sum()) / drawn**0.5 * 2


def test_table_of_points_does_not_reveal_the_strata(tmp_path: Path) -> None:
    city(tmp_path)
    made = call(tmp_path)
    assert list(made["points"]) == ["id", "lon", "lat", "x", "y", "epsg", "2017", "2019", "2021"]
    assert made["points"][["2017", "2019", "2021"]].isna().all(axis=None)
    runs = (made["design"]["stratum"] != made["design"]["stratum"].shift()).sum()
    assert runs > 200  # strata are in random order


def test_impossible_samples_raise(tmp_path: Path) -> None:
    city(tmp_path)
    with pytest.raises(DataError, match="100 points are fewer than 30 in each of 6 strata"):
        call(tmp_path, number=100)
    with pytest.raises(DataError, match="1 years are mapped"):
        call(tmp_path, years=[2017], mosaics=[tmp_path / "2017/Town.tif"])
    nothing = np.full((1, 40, 40), 255, np.uint8)
    for year in YEARS:
        cog.write(tmp_path / f"{year}/Town.tif", nothing, crs="EPSG:32650", transform=AT, nodata=255)
    with pytest.raises(DataError, match="city Town has no pixel that is valid in all of"):
        call(tmp_path)
    assert change_strata.stratum_names([2017, 2019]) == ["never", "near", "always", "new 2019", "other"]
