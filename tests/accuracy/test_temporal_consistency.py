"""Maps of several years made consistent: the likeliest courses, and the files."""

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from jointseg.accuracy.temporal_consistency import courses, temporal_consistency
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError

MODEL = {
    "gain_rate": 0.03,
    "loss_rate": 0.001,
    "omission_rate": 0.2,
    "commission_rate": 0.05,
    "initial_fraction": 0.2,
}
YEARS = [2017, 2019, 2021, 2023]


def place(told: tuple[int, ...]) -> int:
    code = 0
    for value in told:
        code = 3 * code + min(value, 2)
    return code


@pytest.mark.parametrize(
    ("told", "made"),
    [
        ((0, 0, 0, 0), (0, 0, 0, 0)),
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((0, 0, 1, 1), (0, 0, 1, 1)),  # grown
        ((1, 0, 1, 1), (1, 1, 1, 1)),  # missed once
        ((0, 1, 0, 0), (0, 0, 0, 0)),  # false once
        ((1, 1, 1, 0), (1, 1, 1, 1)),  # ground seldom turns back
        ((1, 255, 0, 1), (1, 255, 1, 1)),  # unknown stays unknown
        ((255, 255, 255, 255), (255, 255, 255, 255)),
    ],
)
def test_courses_that_can_be_told_by_eye(told: tuple[int, ...], made: tuple[int, ...]) -> None:
    assert tuple(courses(YEARS, **MODEL)[place(told)]) == made


@given(
    st.floats(0.001, 0.3), st.floats(0.0005, 0.1), st.floats(0.01, 0.45), st.floats(0.01, 0.45), st.floats(0.05, 0.95)
)
@settings(max_examples=25, deadline=None)
def test_each_course_is_one_of_the_likeliest(
    gain_rate: float, loss_rate: float, omission_rate: float, commission_rate: float, initial_fraction: float
) -> None:
    """Against the forward recursion of Viterbi, which is not how it is made."""
    years = [2017, 2018, 2021]
    table = courses(
        years,
        gain_rate=gain_rate,
        loss_rate=loss_rate,
        omission_rate=omission_rate,
        commission_rate=commission_rate,
        initial_fraction=initial_fraction,
    )
    step = np.array([[1 - gain_rate, gain_rate], [loss_rate, 1 - loss_rate]])
    seen = np.array([[1 - commission_rate, commission_rate, 1.0], [omission_rate, 1 - omission_rate, 1.0]])
    for told in product((0, 1, 2), repeat=3):
        best = np.log([1 - initial_fraction, initial_fraction]) + np.log(seen[:, told[0]])
        for (before, after), value in zip(pairwise(years), told[1:]):
            moved = np.log(np.linalg.matrix_power(step, after - before))
            best = (best[:, None] + moved).max(axis=0) + np.log(seen[:, value])
        course = table[place(told)]
        free = [(0, 1) if value == 2 else (int(course[at]),) for at, value in enumerate(told)]
        chances = []
        for states in product(*free):
            chance = np.log([1 - initial_fraction, initial_fraction][states[0]]) + sum(
                np.log(seen[s, v]) for s, v in zip(states, told)
            )
            for (before, after), (a, b) in zip(pairwise(years), pairwise(states)):
                chance += np.log(np.linalg.matrix_power(step, after - before)[a, b])
            chances.append(chance)
        assert max(chances) == pytest.approx(best.max(), abs=1e-9)
        assert [value == 255 for value in course] == [value == 2 for value in told]


def test_more_years_than_can_be_told_are_an_error() -> None:
    with pytest.raises(
        DataError, match=r"consistency of 9 years is not told; leave accuracy\.temporal_consistency out above 8"
    ):
        courses(list(range(2015, 2024)), **MODEL)


def test_files_are_filtered_and_the_maps_stay(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    planes = rng.choice(np.array([0, 1, 255], np.uint8), (4, 70, 90))
    at = Affine(1, 0, 660_000, 0, -1, 3_541_000)
    maps = [tmp_path / f"maps/{year}/Town.tif" for year in YEARS]
    for path, plane in zip(maps, planes):
        cog.write(path, plane[None], crs="EPSG:32650", transform=at, nodata=255)
    before = [path.read_bytes() for path in maps]
    made = [tmp_path / f"made/{year}/Town.tif" for year in YEARS]
    facts = temporal_consistency(mosaics=maps, filtered=made, city="Town", years=YEARS, model=MODEL, threads=2)
    assert [path.read_bytes() for path in maps] == before
    read = np.stack([raster_io.read(path)[0][0] for path in made])
    table = courses(YEARS, **MODEL)
    wanted = np.array([table[place(tuple(told))] for told in planes.reshape(4, -1).T]).T.reshape(planes.shape)
    assert np.array_equal(read, wanted) and ((read == 255) == (planes == 255)).all()
    assert facts["changed"][2019] == (read[1] != planes[1]).sum() and facts["known"][2019] == (planes[1] != 255).sum()
    assert raster_io.read(made[0])[1] == at


def test_it_brings_maps_nearer_to_a_truth_that_only_grows() -> None:
    rng = np.random.default_rng(7)
    birth = rng.integers(0, 20, 40_000)
    truth = np.stack([birth <= year for year in (4, 5, 6, 7)])
    maps = np.where(
        truth, rng.random(truth.shape) >= MODEL["omission_rate"], rng.random(truth.shape) < MODEL["commission_rate"]
    ).astype(int)
    made = courses(YEARS, **MODEL)[[place(tuple(told)) for told in maps.T]].T
    wrong = [(plane != truth).mean() for plane in (maps, made)]
    assert wrong[1] < 0.75 * wrong[0]
    assert ((made[0] == 1) & (made[3] == 0)).sum() < 0.05 * ((maps[0] == 1) & (maps[3] == 0)).sum()
