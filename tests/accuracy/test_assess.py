"""Step `assess` on a small sample with known errors."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from support import accuracy_sample as sample_data

from jointseg.accuracy.assess import assess
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("accuracy")
    made = sample_data.make_with_product(folder)
    return {**made, "folder": folder, **run(folder, made, "a")}


def run(folder: Path, made: dict[str, Path], suffix: str, **overrides: object) -> dict[str, Path]:
    out = {name: folder / f"{name}_{suffix}.csv" for name in ("table", "confusion", "paired", "domains")}
    call = {
        "index": made["index"],
        "chips": [made["chips"] / "upstream", made["chips"] / "downstream"],
        "predictions": [folder / "predictions" / name for name in ("superres", "bilinear")],
        "products": [folder / "cover"],
        "methods": ["superres", "bilinear"],
        "product_table": {"cover": sample_data.ENTRY},
        "year": 2021,
        "study_area": made["study_area"],
        **out,
        **overrides,
    }
    assess(**call)
    return out


def test_table_has_a_row_with_intervals_per_map_and_reach(scored: dict[str, Path]) -> None:
    table = pd.read_csv(scored["table"])
    assert table["name"].unique().tolist() == ["superres", "bilinear", "cover"]
    assert set(table["reach"]) == {"all", "upstream", "downstream"}
    assert table.set_index("name").loc["cover", "map_year"].tolist() == [2020] * 3
    for metric in ("precision", "recall", "f1", "iou", "overall_accuracy", "fraction_mae_10m"):
        assert (table[f"{metric}_lower"] <= table[metric]).all() and (table[metric] <= table[f"{metric}_upper"]).all()
    matrix = table[["tp_fraction", "fp_fraction", "fn_fraction", "tn_fraction"]]
    assert np.allclose(matrix.sum(axis=1), 1) and np.allclose(matrix.iloc[:, :2].sum(axis=1), table["map_fraction"])
    whole = table[table["reach"] == "all"].set_index("name")
    assert whole["chips"].tolist() == [6, 6, 6]
    assert whole.loc["cover", ["f1", "iou", "fraction_mae_10m"]].tolist() == [1, 1, 0]
    assert whole.loc["superres", "overall_accuracy"] == pytest.approx(0.95, abs=0.01)
    assert whole.loc["bilinear", "overall_accuracy"] == pytest.approx(0.80, abs=0.02)
    assert whole.loc["superres", "nodata_fraction"] == pytest.approx(5 / 3600)


def test_all_reaches_are_weighted_by_their_size(scored: dict[str, Path]) -> None:
    chips = pd.read_csv(scored["confusion"]).query("name == 'bilinear'")
    totals = {"upstream": 4 / 0.1, "downstream": 4 / 0.2}  # of the full sample, not of the test chips
    assert chips.groupby("reach")["weight"].sum().to_dict() == pytest.approx(totals)
    cells = chips.assign(right=chips["tp"] + chips["tn"], n=chips[["tp", "fp", "fn", "tn"]].sum(axis=1))
    expected = (cells["right"] * cells["weight"]).sum() / (cells["n"] * cells["weight"]).sum()
    table = pd.read_csv(scored["table"]).query("name == 'bilinear' and reach == 'all'")
    assert table["overall_accuracy"].item() == pytest.approx(expected)


def test_strata_of_a_reach_are_weighted_as_in_the_full_sample(scored: dict[str, Path], tmp_path: Path) -> None:
    """One density class is oversampled; another has only one test chip and is merged with its neighbour."""
    index = gpd.read_parquet(scored["index"])
    up = index.index[index["reach"] == "upstream"]
    index.loc[up, "stratum"] = ["upstream/1", "upstream/2", "upstream/2", "upstream/2"]
    index.loc[up, "inclusion_probability"] = [0.05, 0.5, 0.25, 0.5]
    index.to_parquet(tmp_path / "index.parquet")
    out = run(scored["folder"], {**scored, "index": tmp_path / "index.parquet"}, "e")
    chips = pd.read_csv(out["confusion"]).query("name == 'bilinear'").set_index("sample_id")
    assert set(chips["stratum"]) == {"downstream/1", "upstream/1"}
    weights = chips[chips["reach"] == "upstream"]["weight"]
    assert weights.sum() == pytest.approx(20 + 2 + 4 + 2)
    assert weights.to_numpy() / weights.iloc[0] == pytest.approx([1, 0.1, 0.2])
    index.loc[up, "split"] = "test"
    index.loc[up, "stratum"] = ["upstream/1", "upstream/1", "upstream/10", "upstream/10"]
    index.to_parquet(tmp_path / "index.parquet")
    with pytest.raises(DataError, match=r"upstream-0007"):  # it has no maps
        run(scored["folder"], {**scored, "index": tmp_path / "index.parquet"}, "f")


def test_paired_difference_agrees_with_the_table_and_is_significant(scored: dict[str, Path]) -> None:
    paired = pd.read_csv(scored["paired"]).query("reach == domain == 'all' and metric == 'f1'").set_index("minus")
    table = pd.read_csv(scored["table"]).query("reach == 'all'").set_index("name")
    row = paired.loc["bilinear"]
    assert row["difference"] == pytest.approx(table.loc["superres", "f1"] - table.loc["bilinear", "f1"])
    assert row["lower"] > 0 and row["chips"] == 6
    assert paired.loc["cover", "difference"] < 0


def test_regions_and_slopes_partition_the_whole_area(scored: dict[str, Path], tmp_path: Path) -> None:
    rise = np.tile(np.arange(40) * 30 * np.tan(np.radians(20)), (20, 1)).astype(np.float32)
    rise[:, :20] = rise[:, 20:21]  # flat in the west, a slope of 20 degrees in the east
    sample_data.write(tmp_path / "dem.tif", rise, sample_data.WEST - 300, sample_data.SOUTH + 300, 30)
    out = run(scored["folder"], scored, "g", dem=tmp_path / "dem.tif")
    table = pd.read_csv(out["domains"]).query("name == 'bilinear'").set_index(["domain", "reach"])
    pixels = table["pixels"].to_dict()
    whole = pd.read_csv(out["table"]).query("name == 'bilinear' and reach == 'all'")["pixels"].item()
    assert pixels["region West", "all"] + pixels["region East", "all"] == whole
    assert table.loc[("city Town", "all"), "chips"] == 2 and ("city Town", "upstream") not in table.index
    steep, flat = (pixels[name, "all"] for name in ("slope from 15°", "slope below 5°"))
    assert 0.3 * whole < steep < 0.6 * whole and 0.4 * whole < flat and steep + flat <= whole
    paired = pd.read_csv(out["paired"]).query("domain == 'region West' and metric == 'f1' and minus == 'bilinear'")
    f1 = pd.read_csv(out["domains"]).query("domain == 'region West'").set_index("name")["f1"]
    assert paired["difference"].item() == pytest.approx(f1["superres"] - f1["bilinear"])


def test_outputs_are_deterministic(scored: dict[str, Path]) -> None:
    rerun = run(scored["folder"], scored, "b")
    for name, path in rerun.items():
        assert path.read_bytes() == scored[name].read_bytes()


def test_truth_is_a_second_reference(scored: dict[str, Path]) -> None:
    folder = scored["folder"]
    for reach in ("upstream", "downstream"):
        plane = np.zeros((60, 800), dtype=np.uint8)
        for path in (scored["chips"] / reach).glob("*_label.tif"):
            values, transform, _ = raster_io.read(path)
            col = int(transform.c - sample_data.WEST)
            plane[:, col : col + 60] = values[0] == 1
        sample_data.write(folder / "truth" / "2021" / f"{reach}.tif", plane, sample_data.WEST, sample_data.SOUTH + 60)
    out = run(folder, scored, "c", truth=folder / "truth")
    table = pd.read_csv(out["table"]).query("name == 'cover' and reach == 'all'").set_index("reference")
    assert table.loc["truth", "f1"] == pytest.approx(1, abs=0.01) and table.loc["truth", "nodata_fraction"] == 0
    assert table.loc["labels", "nodata_fraction"] > 0


def test_map_with_invalid_class_or_shape_raises(scored: dict[str, Path], tmp_path: Path) -> None:
    made = sample_data.make(tmp_path)
    path = tmp_path / "predictions" / "superres" / "upstream-0001.tif"
    sample_data.write(path, np.full((60, 60), 7, dtype=np.uint8), *_north_west(1))
    products = {"products": [scored["folder"] / "cover"]}
    with pytest.raises(DataError, match=r"upstream-0001.tif contains the value 7; expected 0 \(non-ISA\)"):
        run(tmp_path, made, "d", **products)
    sample_data.write(path, np.zeros((50, 60), dtype=np.uint8), *_north_west(1))
    with pytest.raises(DataError, match=r"\(50, 60\) pixels; the chip's label has \(60, 60\)"):
        run(tmp_path, made, "d", **products)


def _north_west(i: int) -> tuple[int, int]:
    west, south = sample_data.chip_corner(i)
    return west, south + sample_data.SIDE_M
