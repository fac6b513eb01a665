"""Areas, growth and accuracy of change from interpreted points, compared with a known truth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affine import Affine

from jointseg.accuracy.change import InterpretedPoints, read_interpreted
from jointseg.accuracy.change_sample import change_sample
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.synthetic.label_points import label_points

YEARS = [2017, 2019, 2021]
AT = Affine(1, 0, 660_000, 0, -1, 3_544_000)
SIDE = 500


def write(path: Path, plane: np.ndarray) -> Path:
    cog.write(path, plane[None], crs="EPSG:32650", transform=AT, nodata=255)
    return path


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Truth and maps of a growing town; the maps have a noisy edge, omit roads and commit single pixels."""
    folder, rng = tmp_path_factory.mktemp("town"), np.random.default_rng(8)
    distance = np.hypot(*np.indices((SIDE, SIDE)) - 250.0)
    roads = np.zeros((SIDE, SIDE), bool)
    roads[120:128], roads[:, 300:306] = True, True
    for year, radius in zip(YEARS, (90, 110, 120)):
        truth = (distance < radius) | roads
        mapped = (distance < radius + rng.normal(0, 4, truth.shape)) | (roads & (rng.random(truth.shape) < 0.6))
        mapped |= rng.random(truth.shape) < 0.01
        write(folder / f"truth/{year}/plain.tif", truth.astype(np.uint8))
        write(folder / f"maps/{year}/Town.tif", np.where(np.indices(truth.shape)[0] < 4, 255, mapped).astype(np.uint8))
    return folder


def interpret(town: Path, out: Path, seed: int, count: int = 400) -> InterpretedPoints:
    out.mkdir(parents=True, exist_ok=True)
    paths = {name: out / f"{name}.csv" for name in ("strata", "design", "points")}
    maps = [town / f"maps/{year}/Town.tif" for year in YEARS]
    change_sample(mosaics=maps, city="Town", years=YEARS, number=count, seed=seed, threads=1, **paths)
    label_points(
        points=paths["points"],
        truth=town / "truth",
        reference=out / "interpreted.csv",
        city="Town",
        reach="plain",
        years=YEARS,
    )
    return read_interpreted(paths["strata"], paths["design"], out / "interpreted.csv", maps, YEARS)


def planes(town: Path, kind: str, name: str) -> dict[int, np.ndarray]:
    """Return every year's map or truth on the valid area: 496 of 500 rows."""
    return {year: raster_io.read(town / f"{kind}/{year}/{name}.tif")[0][0][4:] for year in YEARS}


def test_intervals_have_their_nominal_coverage(town: Path, tmp_path: Path) -> None:
    truth, maps = planes(town, "truth", "plain"), planes(town, "maps", "Town")
    first = interpret(town, tmp_path / "first", 0)
    pixel = first.area_km2 / truth[2017].size
    gain = {False: (truth[2021] == 1) & (truth[2017] == 0), True: (maps[2021] == 1) & (maps[2017] == 0)}
    km2 = {year: plane.sum() * pixel for year, plane in truth.items()}
    expected = {
        "area 2017": km2[2017],
        "area 2021": km2[2021],
        "growth": km2[2021] - km2[2017],
        "percent": 100 * ((km2[2021] / km2[2017]) ** 0.25 - 1),
        "loss": 0.0,
        "users": (maps[2019] == truth[2019])[maps[2019] == 1].mean(),
        "producers": (maps[2019] == truth[2019])[truth[2019] == 1].mean(),
        "users of gain": gain[False][gain[True]].mean(),
        "producers of gain": gain[True][gain[False]].mean(),
    }
    hits: dict[str, list[bool]] = {name: [] for name in expected}
    bias: dict[str, list[float]] = {name: [] for name in expected}
    for seed in range(40):
        points = interpret(town, tmp_path / str(seed), seed)
        accuracy, gain_accuracy = points.accuracy(2019), points.accuracy_of_gain(2017, 2021)
        made = {
            "area 2017": points.area(2017),
            "area 2021": points.area(2021),
            "growth": points.growth(2017, 2021),
            "percent": points.yearly_percent(2017, 2021),
            "loss": points.loss(2017, 2021),
            "users": accuracy["users"],
            "producers": accuracy["producers"],
            "users of gain": gain_accuracy["users"],
            "producers of gain": gain_accuracy["producers"],
        }
        for name, estimate in made.items():
            hits[name].append(estimate.lower <= expected[name] <= estimate.upper)
            bias[name].append(estimate.value - expected[name])
    for name, inside in hits.items():
        assert np.mean(inside) >= 0.85, (
            name,
            np.mean(inside),
        )  # 34 of 40; a 95 % interval falls below once in 200 runs
        assert abs(np.mean(bias[name])) <= 4 * np.std(bias[name]) / 40**0.5 + 1e-12, name
    assert np.mean([hit for inside in hits.values() for hit in inside]) > 0.92


def test_paired_growth_has_a_smaller_error(town: Path, tmp_path: Path) -> None:
    found = interpret(town, tmp_path, 3)
    unpaired = (found.area(2021).se ** 2 + found.area(2017).se ** 2) ** 0.5
    assert found.growth(2017, 2021).se < 0.8 * unpaired
    assert found.growth(2017, 2021).value == pytest.approx(found.area(2021).value - found.area(2017).value)
    cells = found.transitions(2017, 2021)
    assert cells.sum() == pytest.approx(found.area_km2)
    assert cells[0, 1] == pytest.approx(found.gain(2017, 2021).value) and cells[1, 0] == 0
    spread = found.replicates(seed=1).std(0)
    assert spread == pytest.approx([found.area(year).se for year in YEARS], rel=0.12)


def test_sample_is_valid_for_another_map(town: Path, tmp_path: Path) -> None:
    interpret(town, tmp_path, 5)
    perfect = [town / f"truth/{year}/plain.tif" for year in YEARS]
    found = read_interpreted(
        tmp_path / "strata.csv", tmp_path / "design.csv", tmp_path / "interpreted.csv", perfect, YEARS
    )
    assert all(each.value == pytest.approx(1) for each in found.accuracy(2019).values())


def test_uninterpreted_points_are_left_out_and_counted(town: Path, tmp_path: Path) -> None:
    interpret(town, tmp_path, 6)
    table = pd.read_csv(tmp_path / "interpreted.csv", dtype={"2019": "Int64"})
    table.loc[[3, 77], "2019"] = pd.NA
    table.to_csv(tmp_path / "interpreted.csv", index=False)
    maps = [town / f"maps/{year}/Town.tif" for year in YEARS]
    found = read_interpreted(
        tmp_path / "strata.csv", tmp_path / "design.csv", tmp_path / "interpreted.csv", maps, YEARS
    )
    assert found.unusable == 2 and len(found.mapped) == 398


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda t: t.drop(columns="2019"), "has no column '2019'"),
        (lambda t: pd.concat([t, t.tail(1)]), "has two rows of point 400"),
        (lambda t: t.assign(x=t["x"] + 1), "is not at the sample's location"),
        (lambda t: t.assign(id=t["id"] + 1), "is not at the sample's location"),
        (lambda t: t.assign(**{"2019": 2}), "point 1, 2019: '2' is not a class"),
        (lambda t: t.assign(**{"2019": "yes"}), "point 1, 2019: 'yes' is not a class"),
        (lambda t: t.head(5), "in the sample; a variance needs two"),
    ],
)
def test_invalid_table_of_points_raises(town: Path, tmp_path: Path, corrupt: object, message: str) -> None:
    interpret(town, tmp_path, 7)
    corrupt(pd.read_csv(tmp_path / "interpreted.csv")).to_csv(tmp_path / "interpreted.csv", index=False)  # type: ignore[operator]
    maps = [town / f"maps/{year}/Town.tif" for year in YEARS]
    with pytest.raises(DataError, match=message):
        read_interpreted(tmp_path / "strata.csv", tmp_path / "design.csv", tmp_path / "interpreted.csv", maps, YEARS)
