"""Areas, growth and accuracy of change from interpreted points, against a known truth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affine import Affine

from jointseg.accuracy.change import Interpreted, interpreted
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
    """Truth and maps of a town that grows; the maps shift its edge, miss roads and find false specks."""
    folder, rng = tmp_path_factory.mktemp("town"), np.random.default_rng(8)
    away = np.hypot(*np.indices((SIDE, SIDE)) - 250.0)
    roads = np.zeros((SIDE, SIDE), bool)
    roads[120:128], roads[:, 300:306] = True, True
    for year, reach in zip(YEARS, (90, 110, 120)):
        truth = (away < reach) | roads
        mapped = (away < reach + rng.normal(0, 4, truth.shape)) | (roads & (rng.random(truth.shape) < 0.6))
        mapped |= rng.random(truth.shape) < 0.01
        write(folder / f"truth/{year}/plain.tif", truth.astype(np.uint8))
        write(folder / f"maps/{year}/Town.tif", np.where(np.indices(truth.shape)[0] < 4, 255, mapped).astype(np.uint8))
    return folder


def told(town: Path, out: Path, seed: int, count: int = 400) -> Interpreted:
    out.mkdir(parents=True, exist_ok=True)
    paths = {name: out / f"{name}.csv" for name in ("strata", "design", "points")}
    maps = [town / f"maps/{year}/Town.tif" for year in YEARS]
    change_sample(mosaics=maps, city="Town", years=YEARS, number=count, seed=seed, threads=1, **paths)
    label_points(
        points=paths["points"],
        truth=town / "truth",
        reference=out / "told.csv",
        city="Town",
        reach="plain",
        years=YEARS,
    )
    return interpreted(paths["strata"], paths["design"], out / "told.csv", maps, YEARS)


def planes(town: Path, kind: str, name: str) -> dict[int, np.ndarray]:
    """The known ground of every year's map or truth: 496 of 500 rows."""
    return {year: raster_io.read(town / f"{kind}/{year}/{name}.tif")[0][0][4:] for year in YEARS}


def test_the_truth_lies_in_the_intervals_as_often_as_they_claim(town: Path, tmp_path: Path) -> None:
    truth, maps = planes(town, "truth", "plain"), planes(town, "maps", "Town")
    first = told(town, tmp_path / "first", 0)
    pixel = first.km2 / truth[2017].size
    gain = {False: (truth[2021] == 1) & (truth[2017] == 0), True: (maps[2021] == 1) & (maps[2017] == 0)}
    km2 = {year: plane.sum() * pixel for year, plane in truth.items()}
    expected = {
        "area 2017": km2[2017],
        "area 2021": km2[2021],
        "growth": km2[2021] - km2[2017],
        "percent": 100 * ((km2[2021] / km2[2017]) ** 0.25 - 1),
        "lost": 0.0,
        "users": (maps[2019] == truth[2019])[maps[2019] == 1].mean(),
        "producers": (maps[2019] == truth[2019])[truth[2019] == 1].mean(),
        "users of gain": gain[False][gain[True]].mean(),
        "producers of gain": gain[True][gain[False]].mean(),
    }
    hits: dict[str, list[bool]] = {name: [] for name in expected}
    bias: dict[str, list[float]] = {name: [] for name in expected}
    for seed in range(40):
        found = told(town, tmp_path / str(seed), seed)
        scores, gains = found.accuracy(2019), found.accuracy_of_gain(2017, 2021)
        made = {
            "area 2017": found.area(2017),
            "area 2021": found.area(2021),
            "growth": found.growth(2017, 2021),
            "percent": found.yearly_percent(2017, 2021),
            "lost": found.lost(2017, 2021),
            "users": scores["users"],
            "producers": scores["producers"],
            "users of gain": gains["users"],
            "producers of gain": gains["producers"],
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
    assert np.mean([share for inside in hits.values() for share in inside]) > 0.92


def test_growth_is_told_better_by_the_same_points(town: Path, tmp_path: Path) -> None:
    found = told(town, tmp_path, 3)
    apart = (found.area(2021).se ** 2 + found.area(2017).se ** 2) ** 0.5
    assert found.growth(2017, 2021).se < 0.8 * apart
    assert found.growth(2017, 2021).value == pytest.approx(found.area(2021).value - found.area(2017).value)
    cells = found.transitions(2017, 2021)
    assert cells.sum() == pytest.approx(found.km2)
    assert cells[0, 1] == pytest.approx(found.gained(2017, 2021).value) and cells[1, 0] == 0
    spread = found.replicates(seed=1).std(0)
    assert spread == pytest.approx([found.area(year).se for year in YEARS], rel=0.12)


def test_another_map_is_scored_by_the_same_sample(town: Path, tmp_path: Path) -> None:
    told(town, tmp_path, 5)
    perfect = [town / f"truth/{year}/plain.tif" for year in YEARS]
    found = interpreted(tmp_path / "strata.csv", tmp_path / "design.csv", tmp_path / "told.csv", perfect, YEARS)
    assert all(each.value == pytest.approx(1) for each in found.accuracy(2019).values())


def test_points_that_cannot_be_told_are_left_out_and_counted(town: Path, tmp_path: Path) -> None:
    told(town, tmp_path, 6)
    table = pd.read_csv(tmp_path / "told.csv", dtype={"2019": "Int64"})
    table.loc[[3, 77], "2019"] = pd.NA
    table.to_csv(tmp_path / "told.csv", index=False)
    maps = [town / f"maps/{year}/Town.tif" for year in YEARS]
    found = interpreted(tmp_path / "strata.csv", tmp_path / "design.csv", tmp_path / "told.csv", maps, YEARS)
    assert found.untold == 2 and len(found.mapped) == 398


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="2019"), "has no column '2019'"),
        (lambda t: pd.concat([t, t.tail(1)]), "tells point 400 twice"),
        (lambda t: t.assign(x=t["x"] + 1), "is not where the sample has it"),
        (lambda t: t.assign(id=t["id"] + 1), "is not where the sample has it"),
        (lambda t: t.assign(**{"2019": 2}), "point 1, 2019: '2' is no class"),
        (lambda t: t.assign(**{"2019": "yes"}), "point 1, 2019: 'yes' is no class"),
        (lambda t: t.head(5), "in the sample; its spread needs two"),
    ],
)
def test_a_table_that_does_not_fit_is_told(town: Path, tmp_path: Path, spoil: object, message: str) -> None:
    told(town, tmp_path, 7)
    spoil(pd.read_csv(tmp_path / "told.csv")).to_csv(tmp_path / "told.csv", index=False)  # type: ignore[operator]
    maps = [town / f"maps/{year}/Town.tif" for year in YEARS]
    with pytest.raises(DataError, match=message):
        interpreted(tmp_path / "strata.csv", tmp_path / "design.csv", tmp_path / "told.csv", maps, YEARS)
