"""A new city or year is one line of the config: only its tiles are mapped, existing maps stay."""

import re
from collections.abc import Callable
from pathlib import Path

import production
import pytest
import yaml
from support.planned import planned_jobs

from jointseg.area.grid import neighbours, parse_tile

TRAINING = {"samples", "pairing", "labels", "chips", "dataset", "superres_stage1", "segmentation"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed production run, with empty files."""
    folder = tmp_path_factory.mktemp("production")
    production.prepare(folder, 100, (104.0, 29.0, 110.0, 31.0), 0.2)
    production.create_outputs(folder)
    return folder


@pytest.fixture
def plan_after(run: Path):
    """A function that returns the number of planned jobs by rule after a change of the config."""
    before = (run / "config.yaml").read_text()

    def plan(change: Callable[[dict], None]) -> dict[str, int]:
        config = yaml.safe_load(before)
        change(config)
        production.write_config(run, config)
        return planned_jobs(production.run(production.snakemake_command("-n"), run))

    yield plan
    (run / "config.yaml").write_text(before)


def mapped(run: Path, year: int) -> int:
    return len(list(run.glob(f"results/isa/{year}/*.tif")))


def test_nothing_runs_without_a_change(plan_after):
    assert plan_after(lambda config: None) == {}


def test_a_new_year_maps_the_cities_in_that_year(run, plan_after):
    jobs = plan_after(lambda config: config["years"].append(2025))
    assert 0 < mapped(run, 2023) < mapped(run, 2021)
    assert {rule: jobs[rule] for rule in ("scenes", "composite", "predict", "mosaic")} == {
        **dict.fromkeys(("scenes", "composite", "predict"), mapped(run, 2023)),
        "mosaic": 6,
    }
    assert not TRAINING & set(jobs)


def test_a_new_city_maps_its_tiles_in_the_other_years(run, plan_after):
    def change(config):
        config["study_area"]["city_reach"]["Tongren"] = "midstream"
        config["study_area"]["city_boxes"]["Tongren"] = [106.1, 29.2, 106.3, 29.4]

    # The tiles of the city are unknown until the grid is rebuilt: before, the plan contains all jobs.
    plan_after(change)
    before = {year: mapped(run, year) for year in (2017, 2021)}
    production.run(production.snakemake_command("results/grid/tiles.geojson"), run)
    output = production.run(production.snakemake_command("-n"), run)
    jobs = planned_jobs(output)
    assert jobs["mosaic"] == 7 * 4 and not {*TRAINING, "reaches", "reach_grid"} & set(jobs)
    # Three other years: in the map year, the tile is already mapped. Adjacent maps are rebuilt with the new neighbour.
    assert jobs["composite"] == jobs["scenes"] == 3
    rebuilt = set(re.findall(r"Predicting ISA at 1 m in (\S+), (\d+)", output))
    assert len(rebuilt) == jobs["predict"] and {year for _, year in rebuilt} == {"2017", "2019", "2023"}
    (new,) = {tile for tile, year in rebuilt if not (run / f"results/isa/{year}/{tile}.tif").exists()}
    around = {tile.id for tile in neighbours(parse_tile(new, 100))}
    assert {tile for tile, _ in rebuilt} <= {new, *around}
    assert before == {year: mapped(run, year) for year in (2017, 2021)}
