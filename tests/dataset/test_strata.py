"""Allocation of points to strata, blocks to splits, and the schema of the sample."""

import math

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from jointseg.dataset import table_schemas
from jointseg.dataset.allocation import MIN_SAMPLES, Stratum, allocate, apportion
from jointseg.dataset.splits import SPLITS, assign_blocks
from jointseg.runtime.errors import DataError

SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
SIZES = st.lists(st.tuples(st.integers(0, 500), st.floats(0, 0.4)), min_size=1, max_size=9)


def strata(sizes: list[tuple[int, float]]) -> list[Stratum]:
    return [Stratum(f"r{i // 3}/{i % 3}", f"r{i // 3}", n, spread) for i, (n, spread) in enumerate(sizes)]


@given(SIZES, st.sampled_from(["proportional", "neyman", "equal"]), st.integers(60, 3000))
def test_an_allocation_keeps_its_bounds_and_its_sum(sizes: list, how: str, total: int) -> None:
    made = strata(sizes)
    found = allocate(made, total, how, {})
    for stratum in made:
        assert min(MIN_SAMPLES, stratum.candidates) <= found[stratum.name] <= stratum.candidates
    there = sum(stratum.candidates for stratum in made)
    if how == "equal":
        reaches = {stratum.reach for stratum in made}
        for reach in reaches:
            mine = [stratum for stratum in made if stratum.reach == reach]
            got = sum(found[stratum.name] for stratum in mine)
            room = sum(stratum.candidates for stratum in mine)
            assert got in (min(room, total // len(reaches)), min(room, -(-total // len(reaches))))
    else:
        assert sum(found.values()) == min(total, there)


@given(SIZES, st.integers(60, 3000))
def test_proportional_shares_are_within_one(sizes: list, total: int) -> None:
    made = strata(sizes)
    there = sum(stratum.candidates for stratum in made)
    if total < there and all(total * stratum.candidates / there >= MIN_SAMPLES for stratum in made):
        found = allocate(made, total, "proportional", {})
        assert all(abs(found[stratum.name] - total * stratum.candidates / there) < 1 for stratum in made)


def test_neyman_and_roots_are_those_of_the_formulas() -> None:
    made = [Stratum("a/1", "a", 900, 0.01), Stratum("a/2", "a", 100, 0.15), Stratum("b/1", "b", 400, 0.1)]
    # Standard deviations of at least 0.05: 45 + 15 + 40 parts.
    assert allocate(made, 100, "neyman", {}) == {"a/1": 45, "a/2": 15, "b/1": 40}
    assert allocate(made, 80, "equal", {}) == {"a/1": 30, "a/2": 10, "b/1": 40}
    assert allocate(made, 140, "proportional", {}) == {"a/1": 90, "a/2": 10, "b/1": 40}


def test_what_one_stratum_has_no_room_for_goes_to_the_others() -> None:
    assert apportion(30, [1.0, 1.0, 1.0], [2, 2, 2], [4, 100, 100]) == [4, 13, 13]
    assert apportion(30, [100.0, 1.0, 1.0], [2, 2, 2], [100, 100, 100]) == [26, 2, 2]
    assert apportion(30, [1.0, 1.0], [2, 2], [9, 9]) == [9, 9]
    made = [Stratum("a/1", "a", 4, 0.1), Stratum("a/2", "a", 100, 0.1)]
    assert allocate(made, 24, "equal", {}) == {"a/1": 4, "a/2": 20}
    wanted = allocate(made, 24, "equal", {}, bounded=False)
    assert wanted["a/1"] == 4 and sum(wanted.values()) == 24


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"a": 9, "a/1": 5}, "must contain either reach a or its strata"),
        ({"a/1": 5}, "lacks a/2"),
        ({"a": 9, "c": 5}, "contains c; expected strata or reaches: a, a/1, a/2"),
        ({"a": 3}, "3 samples are fewer than 2 per stratum for a/1, a/2"),
    ],
)
def test_counts_that_do_not_fit_the_strata_are_named(counts: dict[str, int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        allocate([Stratum("a/1", "a", 40, 0.1), Stratum("a/2", "a", 100, 0.1)], 24, "fixed", counts)


BLOCKS = st.dictionaries(
    st.text(min_size=1, max_size=4), st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=3, max_size=40
)


@given(BLOCKS, st.integers(0, 5))
def test_every_split_gets_whole_blocks_near_its_share(blocks: dict, seed: int) -> None:
    found = assign_blocks(blocks, SHARES, np.random.default_rng(seed))
    assert set(found) == set(blocks) and set(found.values()) == set(SPLITS)
    for split, share in SHARES.items():
        number = sum(found[block] == split for block in blocks)
        assert abs(number - share * len(blocks)) < 2
    if len(blocks) >= 12:
        largest = max(map(sum, blocks.values()))
        for split, share in SHARES.items():
            chips = sum(sum(sizes) for block, sizes in blocks.items() if found[block] == split)
            assert abs(chips - share * sum(map(sum, blocks.values()))) <= 4 * largest


@pytest.mark.parametrize("shares", [SHARES, {"train": 0.5, "validation": 0, "test": 0.5}])
def test_every_block_is_dealt_to_a_split_with_the_same_probability(shares: dict[str, float]) -> None:
    blocks = {f"b{i}": (i % 5, i) for i in range(17)}
    draws = 4000
    hits = {split: np.zeros(17) for split in SPLITS}
    for seed in range(draws):
        for block, split in assign_blocks(blocks, shares, np.random.default_rng(seed)).items():
            hits[split][int(block[1:])] += 1
    for split, share in shares.items():
        se = math.sqrt(draws * share * (1 - share))
        assert np.abs(hits[split] - draws * share).max() <= 4 * se


def test_three_blocks_serve_three_splits_and_two_do_not() -> None:
    for seed in range(50):
        found = assign_blocks({"a": (3,), "b": (1,), "c": (2,)}, SHARES, np.random.default_rng(seed))
        assert sorted(found.values()) == sorted(SPLITS)
    with pytest.raises(DataError, match="2 blocks contain chips, but 3 splits need one each; lower block_m"):
        assign_blocks({"a": (3,), "b": (1,)}, SHARES, np.random.default_rng(0))


def sample() -> gpd.GeoDataFrame:
    rows = {
        "sample_id": ["up-0001", "up-0002"],
        "reach": ["up", "up"],
        "stratum": ["up/1", "up/1"],
        "rank": [1, 2],
        "replacement": [False, True],
        "inclusion_probability": [0.1, 0.1],
        "split": ["train", "train"],
        "block": ["b", "b"],
        "tile": ["50N_E0660_N3540"] * 2,
        "epsg": np.array([32650, 32650], dtype=np.int32),
        "minx": [660000.0, 661000.0],
        "miny": [3540000.0, 3540000.0],
    }
    return gpd.GeoDataFrame(rows, geometry=shapely.points([[118.7, 32.0], [118.8, 32.0]]), crs=4326)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("sample_id", ["up-0001", "up-0001"], "sample_id violates"),
        ("rank", [1, 3], "ranks of a stratum are 1, 2"),
        ("replacement", [True, False], "replacement samples follow the main sample"),
        ("inclusion_probability", [0.1, 1.2], "inclusion_probability violates .* found 1.2"),
        ("inclusion_probability", [0.1, 0.0], "inclusion_probability violates"),
        ("split", ["train", "test"], "one split per block"),
        ("split", ["train", "dev"], "split violates .* found dev"),
        ("minx", [660000.0, 660005.0], "minx violates .*10 m lattice"),
        ("epsg", np.array([32650, 4326], dtype=np.int32), "epsg violates"),
        ("tile", ["50N_E0660_N3540", "x"], "tile violates"),
    ],
)
def test_a_table_that_breaks_its_schema_is_named(column: str, values: list, words: str) -> None:
    assert len(table_schemas.validate(sample(), table_schemas.SAMPLES, "samples.parquet")) == 2
    with pytest.raises(DataError, match=words):
        table_schemas.validate(sample().assign(**{column: values}), table_schemas.SAMPLES, "samples.parquet")


def test_a_table_in_another_crs_or_with_another_column_is_named() -> None:
    with pytest.raises(DataError, match="expected EPSG:4326"):
        table_schemas.validate(sample().to_crs(32650), table_schemas.SAMPLES, "samples.parquet")
    with pytest.raises(DataError, match=r"samples\.parquet: the table violates its schema"):
        table_schemas.validate(sample().assign(more=1), table_schemas.SAMPLES, "samples.parquet")
