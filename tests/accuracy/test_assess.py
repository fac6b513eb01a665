"""The accuracy tables of a tiny sample with known errors."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from support import accuracy_world as world

from jointseg.accuracy.assess import assess
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("accuracy")
    made = world.make_with_product(folder)
    return {**made, "folder": folder, **run(folder, made, "a")}


def run(folder: Path, made: dict[str, Path], suffix: str, **changed: object) -> dict[str, Path]:
    out = {name: folder / f"{name}_{suffix}.csv" for name in ("table", "confusion", "paired", "parts")}
    call = {
        "index": made["index"],
        "chips": [made["chips"] / "upstream", made["chips"] / "downstream"],
        "predictions": [folder / "predictions" / name for name in ("superres", "bilinear")],
        "products": [folder / "cover"],
        "methods": ["superres", "bilinear"],
        "product_table": {"cover": world.ENTRY},
        "year": 2021,
        "study_area": made["study_area"],
        **out,
        **changed,
    }
    assess(**call)
    return out


def test_table_has_every_map_by_reach_with_intervals(scored: dict[str, Path]) -> None:
    table = pd.read_csv(scored["table"])
    assert table["name"].unique().tolist() == ["superres", "bilinear", "cover"]
    assert set(table["reach"]) == {"all", "upstream", "downstream"}
    assert table.set_index("name").loc["cover", "map_year"].tolist() == [2020] * 3
    for metric in ("precision", "recall", "f1", "iou", "overall_accuracy", "fraction_mae_10m"):
        assert (table[f"{metric}_lower"] <= table[metric]).all() and (table[metric] <= table[f"{metric}_upper"]).all()
    matrix = table[["both_share", "only_map_share", "only_reference_share", "neither_share"]]
    assert np.allclose(matrix.sum(axis=1), 1) and np.allclose(matrix.iloc[:, :2].sum(axis=1), table["map_share"])
    whole = table[table["reach"] == "all"].set_index("name")
    assert whole["chips"].tolist() == [6, 6, 6]
    assert whole.loc["cover", ["f1", "iou", "fraction_mae_10m"]].tolist() == [1, 1, 0]
    assert whole.loc["superres", "overall_accuracy"] == pytest.approx(0.95, abs=0.01)
    assert whole.loc["bilinear", "overall_accuracy"] == pytest.approx(0.80, abs=0.02)
    assert whole.loc["superres", "unknown_share"] == pytest.approx(5 / 3600)


def test_all_weighs_reaches_by_their_size(scored: dict[str, Path]) -> None:
    chips = pd.read_csv(scored["confusion"]).query("name == 'bilinear'")
    totals = {"upstream": 4 / 0.1, "downstream": 4 / 0.2}  # of the whole sample, not of the test chips
    assert chips.groupby("reach")["weight"].sum().to_dict() == pytest.approx(totals)
    shares = chips.assign(right=chips["tp"] + chips["tn"], n=chips[["tp", "fp", "fn", "tn"]].sum(axis=1))
    expected = (shares["right"] * shares["weight"]).sum() / (shares["n"] * shares["weight"]).sum()
    table = pd.read_csv(scored["table"]).query("name == 'bilinear' and reach == 'all'")
    assert table["overall_accuracy"].item() == pytest.approx(expected)


def test_strata_of_a_reach_weigh_as_in_the_whole_sample(scored: dict[str, Path], tmp_path: Path) -> None:
    """A dense class that was drawn more often than the rest, and one with a single test chip, which joins its neighbour."""
    index = gpd.read_parquet(scored["index"])
    up = index.index[index["reach"] == "upstream"]
    index.loc[up, "stratum"] = ["upstream/1", "upstream/2", "upstream/2", "upstream/2"]
    index.loc[up, "inclusion_probability"] = [0.05, 0.5, 0.25, 0.5]
    index.to_parquet(tmp_path / "index.parquet")
    out = run(scored["folder"], {**scored, "index": tmp_path / "index.parquet"}, "e")
    chips = pd.read_csv(out["confusion"]).query("name == 'bilinear'").set_index("sample_id")
    assert set(chips["stratum"]) == {"downstream/1", "upstream/1"}
    mine = chips[chips["reach"] == "upstream"]["weight"]
    assert mine.sum() == pytest.approx(20 + 2 + 4 + 2)
    assert mine.to_numpy() / mine.iloc[0] == pytest.approx([1, 0.1, 0.2])
    index.loc[up, "split"] = "test"
    index.loc[up, "stratum"] = ["upstream/1", "upstream/1", "upstream/10", "upstream/10"]
    index.to_parquet(tmp_path / "index.parquet")
    with pytest.raises(DataError, match=r"upstream-0007"):  # its maps were not made
        run(scored["folder"], {**scored, "index": tmp_path / "index.parquet"}, "f")


def test_paired_difference_is_that_of_the_table_and_is_narrower(scored: dict[str, Path]) -> None:
    paired = pd.read_csv(scored["paired"]).query("reach == domain == 'all' and metric == 'f1'").set_index("minus")
    table = pd.read_csv(scored["table"]).query("reach == 'all'").set_index("name")
    row = paired.loc["bilinear"]
    assert row["difference"] == pytest.approx(table.loc["superres", "f1"] - table.loc["bilinear", "f1"])
    assert row["lower"] > 0 and row["chips"] == 6
    assert paired.loc["cover", "difference"] < 0


def test_places_and_slopes_are_domains_whose_parts_make_the_whole(scored: dict[str, Path], tmp_path: Path) -> None:
    rise = np.tile(np.arange(40) * 30 * np.tan(np.radians(20)), (20, 1)).astype(np.float32)
    rise[:, :20] = rise[:, 20:21]  # flat in the west, a slope of 20 degrees in the east
    world.write(tmp_path / "dem.tif", rise, world.WEST - 300, world.SOUTH + 300, 30)
    out = run(scored["folder"], scored, "g", dem=tmp_path / "dem.tif")
    table = pd.read_csv(out["parts"]).query("name == 'bilinear'").set_index(["domain", "reach"])
    pixels = table["pixels"].to_dict()
    whole = pd.read_csv(out["table"]).query("name == 'bilinear' and reach == 'all'")["pixels"].item()
    assert pixels["region West", "all"] + pixels["region East", "all"] == whole
    assert table.loc[("city Town", "all"), "chips"] == 2 and ("city Town", "upstream") not in table.index
    steep, flat = (pixels[name, "all"] for name in ("slope from 15°", "slope below 5°"))
    assert 0.3 * whole < steep < 0.6 * whole and 0.4 * whole < flat and steep + flat <= whole
    paired = pd.read_csv(out["paired"]).query("domain == 'region West' and metric == 'f1' and minus == 'bilinear'")
    mine = pd.read_csv(out["parts"]).query("domain == 'region West'").set_index("name")["f1"]
    assert paired["difference"].item() == pytest.approx(mine["superres"] - mine["bilinear"])


def test_the_same_input_gives_the_same_bytes(scored: dict[str, Path]) -> None:
    again = run(scored["folder"], scored, "b")
    for name, path in again.items():
        assert path.read_bytes() == scored[name].read_bytes()


def test_truth_is_a_second_reference(scored: dict[str, Path]) -> None:
    folder = scored["folder"]
    for reach in ("upstream", "downstream"):
        plane = np.zeros((60, 800), dtype=np.uint8)
        for path in (scored["chips"] / reach).glob("*_label.tif"):
            values, transform, _ = raster_io.read(path)
            col = int(transform.c - world.WEST)
            plane[:, col : col + 60] = values[0] == 1
        world.write(folder / "truth" / "2021" / f"{reach}.tif", plane, world.WEST, world.SOUTH + 60)
    out = run(folder, scored, "c", truth=folder / "truth")
    table = pd.read_csv(out["table"]).query("name == 'cover' and reach == 'all'").set_index("reference")
    assert table.loc["truth", "f1"] == pytest.approx(1, abs=0.01) and table.loc["truth", "unknown_share"] == 0
    assert table.loc["labels", "unknown_share"] > 0


def test_a_map_with_another_class_or_size_is_an_error(scored: dict[str, Path], tmp_path: Path) -> None:
    made = world.make(tmp_path)
    path = tmp_path / "predictions" / "superres" / "upstream-0001.tif"
    world.write(path, np.full((60, 60), 7, dtype=np.uint8), *_north_west(1))
    changed = {"products": [scored["folder"] / "cover"]}
    with pytest.raises(DataError, match=r"upstream-0001.tif holds the value 7; expected 0 not ISA"):
        run(tmp_path, made, "d", **changed)
    world.write(path, np.zeros((50, 60), dtype=np.uint8), *_north_west(1))
    with pytest.raises(DataError, match=r"\(50, 60\) pixels but the chip's label has \(60, 60\)"):
        run(tmp_path, made, "d", **changed)


def _north_west(i: int) -> tuple[int, int]:
    west, south = world.chip_corner(i)
    return west, south + world.SIDE_M
