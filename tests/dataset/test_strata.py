"""Allocation to strata, assignment of blocks to splits, and the schema of the samples."""

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

FRACTIONS = {"train": 0.6, "validation": 0.15, "test": 0.25}
SIZES = st.lists(st.tuples(st.integers(0, 500), st.floats(0, 0.4)), min_size=1, max_size=9)


def strata(sizes: list[tuple[int, float]]) -> list[Stratum]:
    return [Stratum(f"r{i // 3}/{i % 3}", f"r{i // 3}", n, spread) for i, (n, spread) in enumerate(sizes)]


@given(SIZES, st.sampled_from(["proportional", "neyman", "equal"]), st.integers(60, 3000))
def test_allocation_respects_bounds_and_total(sizes: list, method: str, total: int) -> None:
    created = strata(sizes)
    allocated = allocate(created, total, method, {})
    for stratum in created:
        assert min(MIN_SAMPLES, stratum.candidates) <= allocated[stratum.name] <= stratum.candidates
    available = sum(stratum.candidates for stratum in created)
    if method == "equal":
        reaches = {stratum.reach for stratum in created}
        for reach in reaches:
            in_reach = [stratum for stratum in created if stratum.reach == reach]
            total_of_reach = sum(allocated[stratum.name] for stratum in in_reach)
            candidates = sum(stratum.candidates for stratum in in_reach)
            assert total_of_reach in (
                min(candidates, total // len(reaches)),
                min(candidates, -(-total // len(reaches))),
            )
    else:
        assert sum(allocated.values()) == min(total, available)


@given(SIZES, st.integers(60, 3000))
def test_proportional_allocation_is_within_one(sizes: list, total: int) -> None:
    created = strata(sizes)
    available = sum(stratum.candidates for stratum in created)
    if total < available and all(total * stratum.candidates / available >= MIN_SAMPLES for stratum in created):
        allocated = allocate(created, total, "proportional", {})
        assert all(abs(allocated[stratum.name] - total * stratum.candidates / available) < 1 for stratum in created)


def test_neyman_and_equal_allocation_follow_their_formulas() -> None:
    created = [Stratum("a/1", "a", 900, 0.01), Stratum("a/2", "a", 100, 0.15), Stratum("b/1", "b", 400, 0.1)]
    # Standard deviations of at least 0.05: 45 + 15 + 40 parts.
    assert allocate(created, 100, "neyman", {}) == {"a/1": 45, "a/2": 15, "b/1": 40}
    assert allocate(created, 80, "equal", {}) == {"a/1": 30, "a/2": 10, "b/1": 40}
    assert allocate(created, 140, "proportional", {}) == {"a/1": 90, "a/2": 10, "b/1": 40}


def test_excess_of_a_bounded_stratum_goes_to_the_others() -> None:
    assert apportion(30, [1.0, 1.0, 1.0], [2, 2, 2], [4, 100, 100]) == [4, 13, 13]
    assert apportion(30, [100.0, 1.0, 1.0], [2, 2, 2], [100, 100, 100]) == [26, 2, 2]
    assert apportion(30, [1.0, 1.0], [2, 2], [9, 9]) == [9, 9]
    created = [Stratum("a/1", "a", 4, 0.1), Stratum("a/2", "a", 100, 0.1)]
    assert allocate(created, 24, "equal", {}) == {"a/1": 4, "a/2": 20}
    wanted = allocate(created, 24, "equal", {}, bounded=False)
    assert wanted["a/1"] == 4 and sum(wanted.values()) == 24


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 9, "a/1": 5}, "must contain either reach a or its strata"),
        ({"a/1": 5}, "lacks a/2"),
        ({"a": 9, "c": 5}, "contains c; expected strata or reaches: a, a/1, a/2"),
        ({"a": 3}, "3 samples are fewer than 2 per stratum for a/1, a/2"),
    ],
)
def test_error_for_counts_that_do_not_match_the_strata(counts: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        allocate([Stratum("a/1", "a", 40, 0.1), Stratum("a/2", "a", 100, 0.1)], 24, "fixed", counts)


BLOCKS = st.dictionaries(
    st.text(min_size=1, max_size=4), st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=3, max_size=40
)


@given(BLOCKS, st.integers(0, 5))
def test_splits_approximate_their_fractions(blocks: dict, seed: int) -> None:
    allocated = assign_blocks(blocks, FRACTIONS, np.random.default_rng(seed))
    assert set(allocated) == set(blocks) and set(allocated.values()) == set(SPLITS)
    for split, fraction in FRACTIONS.items():
        number = sum(allocated[block] == split for block in blocks)
        assert abs(number - fraction * len(blocks)) < 2
    if len(blocks) >= 12:
        largest = max(map(sum, blocks.values()))
        for split, fraction in FRACTIONS.items():
            chips = sum(sum(sizes) for block, sizes in blocks.items() if allocated[block] == split)
            assert abs(chips - fraction * sum(map(sum, blocks.values()))) <= 4 * largest


@pytest.mark.parametrize("fractions", [FRACTIONS, {"train": 0.5, "validation": 0, "test": 0.5}])
def test_blocks_have_equal_probabilities(fractions: dict[str, float]) -> None:
    blocks = {f"b{i}": (i % 5, i) for i in range(17)}
    draws = 4000
    hits = {split: np.zeros(17) for split in SPLITS}
    for seed in range(draws):
        for block, split in assign_blocks(blocks, fractions, np.random.default_rng(seed)).items():
            hits[split][int(block[1:])] += 1
    for split, fraction in fractions.items():
        se = math.sqrt(draws * fraction * (1 - fraction))
        assert np.abs(hits[split] - draws * fraction).max() <= 4 * se


def test_three_splits_need_three_blocks() -> None:
    for seed in range(50):
        allocated = assign_blocks({"a": (3,), "b": (1,), "c": (2,)}, FRACTIONS, np.random.default_rng(seed))
        assert sorted(allocated.values()) == sorted(SPLITS)
    with pytest.raises(DataError, match="2 blocks contain chips, but 3 splits need one each; lower block_m"):
        assign_blocks({"a": (3,), "b": (1,)}, FRACTIONS, np.random.default_rng(0))


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
    ("column", "values", "message"),
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
def test_error_for_a_table_that_violates_its_schema(column: str, values: list, message: str) -> None:
    assert len(table_schemas.validate(sample(), table_schemas.SAMPLES, "samples.parquet")) == 2
    with pytest.raises(DataError, match=message):
        table_schemas.validate(sample().assign(**{column: values}), table_schemas.SAMPLES, "samples.parquet")


def test_error_for_another_crs_or_an_additional_column() -> None:
    with pytest.raises(DataError, match="expected EPSG:4326"):
        table_schemas.validate(sample().to_crs(32650), table_schemas.SAMPLES, "samples.parquet")
    with pytest.raises(DataError, match=r"samples\.parquet: the table violates its schema"):
        table_schemas.validate(sample().assign(more=1), table_schemas.SAMPLES, "samples.parquet")
