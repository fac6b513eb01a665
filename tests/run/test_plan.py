"""What a run will take is told before anything is spent."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jointseg.cli.main import main
from jointseg.config import schema
from jointseg.config.load import load_config
from jointseg.run import plan
from jointseg.runtime.errors import DataError

ROOT = Path(__file__).parents[2]
BENCH = {
    "name": "small",
    "device": "a processor",
    "threads": 2,
    "precision": "fp32",
    "kind": "cpu",
    "lattice": [480, 440],
    "km2_per_hour": 200.0,
    "map_bytes_per_km2": 30_000.0,
    "composite_bytes_per_km2": 60_000.0,
}
SERVER = {"kind": "earthengine", "project": "p"}
ASSUMED = plan.Assumptions(scenes=20, mb_s=50.0, devices=2)


def config(**changed: Any) -> schema.Settings:
    given = yaml.safe_load((ROOT / "examples/eastern_shore/config.yaml").read_text())
    for key, value in changed.items():
        section, _, name = key.partition("__")
        if name:
            given.setdefault(section, {})[name] = value
        else:
            given[key] = value
    return load_config(given)


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_tiles_are_those_of_the_grid_and_nothing_is_kept(tmp_path: Path) -> None:
    wanted = config(results=str(tmp_path / "r"))
    tiles = plan.run_tiles(wanted)
    assert tiles and all(tile["reaches"] == ["shore"] for tile in tiles)
    assert not (tmp_path / "r").exists()
    cut = tmp_path / "r/grid/tiles.geojson"
    cut.parent.mkdir(parents=True)
    cut.write_text(json.dumps({"features": [{"properties": tiles[0]}]}))
    assert plan.run_tiles(wanted) == tiles[:1]


def test_a_year_of_cities_maps_their_tiles_alone(tmp_path: Path) -> None:
    wanted = config(results=str(tmp_path / "r"), years=[2017, 2019])
    tiles = [{"tile": "18N_E0436_N4172", "cities": ["Onley"]}, {"tile": "18N_E0438_N4172", "cities": []}]
    older, newer = plan.plan(wanted, tiles, ASSUMED, None)
    assert (older.year, older.tiles, older.km2) == (2017, 2, 8)
    assert (newer.year, newer.tiles, newer.km2) == (2019, 1, 4)
    assert older.jobs == 2 * 3 + 2 and newer.jobs == 3 + 2
    assert older.requests == 0 and older.map_h is None and older.disk is None


def test_hours_and_disk_follow_the_measurement_and_the_lattice() -> None:
    tiles = [{"tile": "18N_E0436_N4172", "cities": ["Onley"]}]
    (same,) = plan.plan(config(), tiles, ASSUMED, BENCH)
    assert same.map_h == pytest.approx(4 / 200) and same.disk == 4 * 90_000
    (wider,) = plan.plan(config(inference__stride_m=240), tiles, ASSUMED, BENCH)
    assert wider.map_h == pytest.approx(4 / 200 * (440 / 240) ** 2)


def test_requests_grow_with_scenes_and_tiles() -> None:
    server = config(sentinel2__source=SERVER, sentinel2__level="L2A", sentinel2__dark_object_subtraction=False)
    tiles = [{"tile": f"18N_E{east:04d}_N4172", "cities": []} for east in (436, 438, 440)]
    (one,) = plan.plan(server, tiles[:1], ASSUMED, None)
    (three,) = plan.plan(server, tiles, ASSUMED, None)
    (more,) = plan.plan(server, tiles, plan.Assumptions(40, 50.0, 2), None)
    assert one.requests > 0 and three.requests == 3 * one.requests
    assert more.bytes == 2 * three.bytes and more.compose_h == pytest.approx(2 * three.compose_h)


def test_the_bottleneck_is_what_takes_longest() -> None:
    tiles = [{"tile": "18N_E0436_N4172", "cities": []}]
    server = config(sentinel2__source=SERVER, sentinel2__level="L2A", sentinel2__dark_object_subtraction=False)
    years = plan.plan(server, tiles, ASSUMED, BENCH)
    assert next(iter(plan.hours_by_part(years, ASSUMED))) == "mapping"
    slow = plan.Assumptions(scenes=20, mb_s=0.01, devices=2)
    assert next(iter(plan.hours_by_part(years, slow))) == "retrieval"
    assert (
        plan.hours_by_part(years, plan.Assumptions(20, 50.0, 4))["mapping"]
        == plan.hours_by_part(years, ASSUMED)["mapping"] / 2
    )


@pytest.mark.parametrize(("season", "cloud", "scenes"), [(["01-01", "12-31"], 100, 73), (["12-01", "02-28"], 50, 9)])
def test_scenes_are_guessed_from_season_and_cloud(season: list[str], cloud: int, scenes: int) -> None:
    assert plan.expected_scenes(config(sentinel2__season=season, sentinel2__max_cloud_percent=cloud)) == scenes


def test_a_measurement_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert plan.measurement([], None, tmp_path) is None
    fast = {**BENCH, "name": "fast", "km2_per_hour": 900.0}
    assert plan.measurement([BENCH, fast], None, tmp_path) == fast
    with pytest.raises(DataError, match=r"no measurement named 'paper' \(it has fast, small\)"):
        plan.measurement([BENCH, fast], "paper", tmp_path)


def test_the_verb_tells_people_and_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = tmp_path / "b.json"
    bench.write_text(json.dumps([BENCH]))
    arguments = ["plan", "examples/eastern_shore/config.yaml", "--bench", str(bench), "--scenes", "7"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "the bottleneck is mapping" in told and "assumed: 7 scenes" in told and "measured: small" in told
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["years"][0]["tiles"] >= 1 and found["measured"]["name"] == "small"
    assert main([*arguments[:2], "--bench", str(tmp_path / "none.json")]) == 0
    assert "measure them with jointseg bench inference" in capsys.readouterr().out
    bench.write_text("[1]")
    assert main(arguments) == 2
