"""Step `temporal_consistency`: most likely class sequences, and the filtered files."""

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from jointseg.accuracy.temporal_consistency import likeliest_sequences, temporal_consistency
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


def code_of(mapped: tuple[int, ...]) -> int:
    code = 0
    for value in mapped:
        code = 3 * code + min(value, 2)
    return code


@pytest.mark.parametrize(
    ("mapped", "expected"),
    [
        ((0, 0, 0, 0), (0, 0, 0, 0)),
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((0, 0, 1, 1), (0, 0, 1, 1)),  # gain
        ((1, 0, 1, 1), (1, 1, 1, 1)),  # one omission
        ((0, 1, 0, 0), (0, 0, 0, 0)),  # one commission
        ((1, 1, 1, 0), (1, 1, 1, 1)),  # loss is unlikely
        ((1, 255, 0, 1), (1, 255, 1, 1)),  # nodata stays nodata
        ((255, 255, 255, 255), (255, 255, 255, 255)),
    ],
)
def test_typical_sequences(mapped: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert tuple(likeliest_sequences(YEARS, **MODEL)[code_of(mapped)]) == expected


@given(
    st.floats(0.001, 0.3), st.floats(0.0005, 0.1), st.floats(0.01, 0.45), st.floats(0.01, 0.45), st.floats(0.05, 0.95)
)
@settings(max_examples=25, deadline=None)
def test_sequences_have_maximum_likelihood(
    gain_rate: float, loss_rate: float, omission_rate: float, commission_rate: float, initial_fraction: float
) -> None:
    """Compare the enumeration with the forward recursion of Viterbi."""
    years = [2017, 2018, 2021]
    table = likeliest_sequences(
        years,
        gain_rate=gain_rate,
        loss_rate=loss_rate,
        omission_rate=omission_rate,
        commission_rate=commission_rate,
        initial_fraction=initial_fraction,
    )
    step = np.array([[1 - gain_rate, gain_rate], [loss_rate, 1 - loss_rate]])
    emission = np.array([[1 - commission_rate, commission_rate, 1.0], [omission_rate, 1 - omission_rate, 1.0]])
    for mapped in product((0, 1, 2), repeat=3):
        best = np.log([1 - initial_fraction, initial_fraction]) + np.log(emission[:, mapped[0]])
        for (before, after), value in zip(pairwise(years), mapped[1:]):
            moved = np.log(np.linalg.matrix_power(step, after - before))
            best = (best[:, None] + moved).max(axis=0) + np.log(emission[:, value])
        sequence = table[code_of(mapped)]
        free = [(0, 1) if value == 2 else (int(sequence[at]),) for at, value in enumerate(mapped)]
        chances = []
        for states in product(*free):
            chance = np.log([1 - initial_fraction, initial_fraction][states[0]]) + sum(
                np.log(emission[s, v]) for s, v in zip(states, mapped)
            )
            for (before, after), (a, b) in zip(pairwise(years), pairwise(states)):
                chance += np.log(np.linalg.matrix_power(step, after - before)[a, b])
            chances.append(chance)
        assert max(chances) == pytest.approx(best.max(), abs=1e-9)
        assert [value == 255 for value in sequence] == [value == 2 for value in mapped]


def test_too_many_years_raise() -> None:
    with pytest.raises(DataError, match=r"supports up to 8 years, not 9; remove accuracy\.temporal_consistency"):
        likeliest_sequences(list(range(2015, 2024)), **MODEL)


def test_filtered_files_are_written_and_maps_stay_unchanged(tmp_path: Path) -> None:
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
    table = likeliest_sequences(YEARS, **MODEL)
    expected = np.array([table[code_of(tuple(mapped))] for mapped in planes.reshape(4, -1).T]).T.reshape(planes.shape)
    assert np.array_equal(read, expected) and ((read == 255) == (planes == 255)).all()
    assert (
        facts["changed_pixels"][2019] == (read[1] != planes[1]).sum()
        and facts["valid_pixels"][2019] == (planes[1] != 255).sum()
    )
    assert raster_io.read(made[0])[1] == at


def test_filter_reduces_the_error_of_growing_cities() -> None:
    rng = np.random.default_rng(7)
    birth = rng.integers(0, 20, 40_000)
    truth = np.stack([birth <= year for year in (4, 5, 6, 7)])
    maps = np.where(
        truth, rng.random(truth.shape) >= MODEL["omission_rate"], rng.random(truth.shape) < MODEL["commission_rate"]
    ).astype(int)
    made = likeliest_sequences(YEARS, **MODEL)[[code_of(tuple(mapped)) for mapped in maps.T]].T
    wrong = [(plane != truth).mean() for plane in (maps, made)]
    assert wrong[1] < 0.75 * wrong[0]
    assert ((made[0] == 1) & (made[3] == 0)).sum() < 0.05 * ((maps[0] == 1) & (maps[3] == 0)).sum()
