"""Resource estimate of a run."""

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
ASSUMPTIONS = plan.Assumptions(scenes=20, mb_s=50.0, devices=2)


def config(**changes: Any) -> schema.Settings:
    """The config of an example with changed keys, each named `key` or `section__key`."""
    settings = yaml.safe_load((ROOT / "examples/eastern_shore/config.yaml").read_text())
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            settings.setdefault(section, {})[name] = value
        else:
            settings[key] = value
    return load_config(settings)


def server_config() -> schema.Settings:
    return config(sentinel2__source=SERVER, sentinel2__level="L2A", sentinel2__dark_object_subtraction=False)


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_tiles_are_those_of_the_grid_and_nothing_is_written(tmp_path: Path) -> None:
    settings = config(results=str(tmp_path / "r"))
    tiles = plan.run_tiles(settings)
    assert tiles and all(tile["reaches"] == ["shore"] for tile in tiles)
    assert not (tmp_path / "r").exists()
    grid = tmp_path / "r/grid/tiles.geojson"
    grid.parent.mkdir(parents=True)
    grid.write_text(json.dumps({"features": [{"properties": tiles[0]}]}))
    assert plan.run_tiles(settings) == tiles[:1]


def test_other_years_than_the_map_year_only_have_tiles_of_cities(tmp_path: Path) -> None:
    settings = config(results=str(tmp_path / "r"), years=[2017, 2019])
    tiles = [{"tile": "18N_E0436_N4172", "cities": ["Onley"]}, {"tile": "18N_E0438_N4172", "cities": []}]
    map_year, other = plan.plan(settings, tiles, ASSUMPTIONS, None)
    assert (map_year.year, map_year.tiles, map_year.km2) == (2017, 2, 8)
    assert (other.year, other.tiles, other.km2) == (2019, 1, 4)
    assert map_year.jobs == 2 * 3 + 2 and other.jobs == 3 + 2
    assert map_year.requests == 0 and map_year.inference_h is None and map_year.disk is None


def test_hours_and_disk_scale_with_the_measurement_and_the_window_overlap() -> None:
    tiles = [{"tile": "18N_E0436_N4172", "cities": ["Onley"]}]
    (same,) = plan.plan(config(), tiles, ASSUMPTIONS, BENCH)
    assert same.inference_h == pytest.approx(4 / 200) and same.disk == 4 * 90_000
    (more_overlap,) = plan.plan(config(inference__stride_m=240), tiles, ASSUMPTIONS, BENCH)
    assert more_overlap.inference_h == pytest.approx(4 / 200 * (440 / 240) ** 2)


def test_requests_scale_with_scenes_and_tiles() -> None:
    server = server_config()
    tiles = [{"tile": f"18N_E{east:04d}_N4172", "cities": []} for east in (436, 438, 440)]
    (one,) = plan.plan(server, tiles[:1], ASSUMPTIONS, None)
    (three,) = plan.plan(server, tiles, ASSUMPTIONS, None)
    (more,) = plan.plan(server, tiles, plan.Assumptions(40, 50.0, 2), None)
    assert one.requests > 0 and three.requests == 3 * one.requests
    assert more.bytes == 2 * three.bytes and more.composite_h == pytest.approx(2 * three.composite_h)


def test_bottleneck_is_the_longest_part() -> None:
    tiles = [{"tile": "18N_E0436_N4172", "cities": []}]
    years = plan.plan(server_config(), tiles, ASSUMPTIONS, BENCH)
    hours = plan.hours_by_part(years, ASSUMPTIONS)
    assert next(iter(hours)) == "inference"
    slow_download = plan.Assumptions(scenes=20, mb_s=0.01, devices=2)
    assert next(iter(plan.hours_by_part(years, slow_download))) == "download"
    assert plan.hours_by_part(years, plan.Assumptions(20, 50.0, 4))["inference"] == hours["inference"] / 2


@pytest.mark.parametrize(("season", "cloud", "scenes"), [(["01-01", "12-31"], 100, 73), (["12-01", "02-28"], 50, 9)])
def test_expected_scenes_follow_from_season_and_cloud_cover(season: list[str], cloud: int, scenes: int) -> None:
    assert plan.expected_scenes(config(sentinel2__season=season, sentinel2__max_cloud_percent=cloud)) == scenes


def test_error_names_a_missing_measurement(tmp_path: Path) -> None:
    assert plan.measurement([], None, tmp_path) is None
    fast = {**BENCH, "name": "fast", "km2_per_hour": 900.0}
    assert plan.measurement([BENCH, fast], None, tmp_path) == fast
    with pytest.raises(DataError, match=r"no measurement named 'paper' \(it has fast, small\)"):
        plan.measurement([BENCH, fast], "paper", tmp_path)


def test_command_prints_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = tmp_path / "b.json"
    bench.write_text(json.dumps([BENCH]))
    arguments = ["plan", "examples/eastern_shore/config.yaml", "--bench", str(bench), "--scenes", "7"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "bottleneck: inference" in text and "assumed: 7 scenes" in text and "measured: small" in text
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["years"][0]["tiles"] >= 1 and report["measured"]["name"] == "small"
    assert main([*arguments[:2], "--bench", str(tmp_path / "none.json")]) == 0
    assert "measure them with jointseg bench inference" in capsys.readouterr().out
    bench.write_text("[1]")
    assert main(arguments) == 2
