"""A new city, and a new year, is a line of the config: what was mapped stays, only what is new is mapped."""

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
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A production run of which every file is there."""
    folder = tmp_path_factory.mktemp("production")
    production.prepare(folder, 100, (104.0, 29.0, 110.0, 31.0), 0.2)
    production.fill(folder)
    return folder


@pytest.fixture
def changed(whole: Path):
    """What runs, by rule, after a change of the config."""
    before = (whole / "config.yaml").read_text()

    def told(change: Callable[[dict], None]) -> dict[str, int]:
        config = yaml.safe_load(before)
        change(config)
        production.write(whole, config)
        return planned_jobs(production.check(production.snakemake("-n"), whole))

    yield told
    (whole / "config.yaml").write_text(before)


def mapped(whole: Path, year: int) -> int:
    return len(list(whole.glob(f"results/isa/{year}/*.tif")))


def test_nothing_runs_without_a_change(changed):
    assert changed(lambda config: None) == {}


def test_a_new_year_maps_the_cities_in_that_year(whole, changed):
    jobs = changed(lambda config: config["years"].append(2025))
    assert 0 < mapped(whole, 2023) < mapped(whole, 2021)
    assert {rule: jobs[rule] for rule in ("scenes", "composite", "predict", "mosaic")} == {
        **dict.fromkeys(("scenes", "composite", "predict"), mapped(whole, 2023)),
        "mosaic": 6,
    }
    assert not TRAINING & set(jobs)


def test_a_new_city_maps_its_tiles_in_the_other_years(whole, changed):
    def change(config):
        config["study_area"]["city_reach"]["Tongren"] = "midstream"
        config["study_area"]["city_boxes"]["Tongren"] = [106.1, 29.2, 106.3, 29.4]

    # Which tiles it has is known once the grid is cut again: until then Snakemake thinks that all may change.
    changed(change)
    before = {year: mapped(whole, year) for year in (2017, 2021)}
    production.check(production.snakemake("results/grid/tiles.geojson"), whole)
    said = production.check(production.snakemake("-n"), whole)
    jobs = planned_jobs(said)
    assert jobs["mosaic"] == 7 * 4 and not {*TRAINING, "reaches", "reach_grid"} & set(jobs)
    # Three other years; the belt had its tile already in the map year. Maps beside it see over the edge now.
    assert jobs["composite"] == jobs["scenes"] == 3
    again = set(re.findall(r"Mapping ISA at 1 m in (\S+), (\d+)", said))
    assert len(again) == jobs["predict"] and {year for _, year in again} == {"2017", "2019", "2023"}
    (new,) = {tile for tile, year in again if not (whole / f"results/isa/{year}/{tile}.tif").exists()}
    around = {tile.id for tile in neighbours(parse_tile(new, 100))}
    assert {tile for tile, _ in again} <= {new, *around}
    assert before == {year: mapped(whole, year) for year in (2017, 2021)}
