"""The request estimate of a composite, compared with the requests of the step."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.tiny_sentinel2 import TILE, TILE_KM, catalogue, compositing, item, listing, rgb, scl

from jointseg.area.grid import parse_tile
from jointseg.cli.main import main
from jointseg.sentinel2 import composite as compositor
from jointseg.sentinel2 import earthengine, request_estimate
from jointseg.sentinel2.cloudless import HALO_M
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.request_estimate import RequestEstimate, estimate_composite
from jointseg.sentinel2.scene import load_scenes
from jointseg.sentinel2.scene_windows import FileReader
from jointseg.sentinel2.scenes import scenes

SYNTHETIC = Path(__file__).parents[2] / "examples" / "synthetic" / "config.yaml"
BANDS = ["B04", "B03", "B02"]
SERVER = {"kind": "earthengine", "project": "p"}


class CountingReader(FileReader):
    """An archive reader that replaces a server and counts its requests."""

    def __init__(self, root):
        super().__init__(root, parse_tile(TILE, TILE_KM).epsg)
        self.requests = self.bytes = 0

    def read(self, scene, keys, bounds, shift_m=(0.0, 0.0)):
        answer = super().read(scene, keys, bounds, shift_m)
        self.requests += 1
        self.bytes += answer.nbytes
        return answer


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Three scenes of 2021 and one of 2019 that cover the tile, which is read in several strips."""
    for module in (compositor, request_estimate):
        monkeypatch.setattr(module, "REMOTE_ROWS", 30)
    root = tmp_path / "archive"
    rng = np.random.default_rng(3)
    for name, when in (("a", "2021-05-01"), ("b", "2021-06-01"), ("c", "2021-07-01"), ("d", "2019-06-01")):
        bands = {key: band + rng.integers(0, 900, band.shape).astype(np.uint16) for key, band in rgb(800).items()}
        item(root, name, bands | {"SCL": scl()}, when=f"{when}T02:50:00Z")
    return catalogue(root)


def write_scene_list(root, path, year="2021"):
    path.parent.mkdir(parents=True, exist_ok=True)
    scenes(scenes=path, archive=root, **listing(year=year))
    return load_scenes(path)


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("year", ["2021", "2019"])
def test_estimate_equals_the_requests_of_the_step(root, tmp_path, monkeypatch, registered, year):
    reader = CountingReader(root)
    monkeypatch.setattr(earthengine, "EarthEngineReader", lambda source, epsg: reader)
    more = {"swath_edge_buffer_m": 20, "mask_dilation_m": 35, "coregister": registered}
    if year != "2021":  # normalised to the map year
        write_scene_list(root, tmp_path / "base.json")
        composite(scenes=tmp_path / "base.json", composite=tmp_path / "base.tif", archive=root, **compositing())
        more |= {"reference": tmp_path / "base.tif"}
    scene_list = write_scene_list(root, tmp_path / "s.json", year)
    arguments = compositing(source=SERVER, year=year, response_cache=str(tmp_path / "responses"), **more)
    composite(scenes=tmp_path / "s.json", composite=tmp_path / "c.tif", **arguments)
    counted = estimate_composite(
        parse_tile(TILE, TILE_KM),
        masks(scene_list),
        BANDS,
        "earthengine",
        swath_edge_buffer_m=20,
        mask_dilation_m=35,
        coregister=registered,
    )
    assert counted == RequestEstimate(reader.requests, reader.bytes)
    assert counted.requests >= len(scene_list) * 2 * 4


def test_scenes_without_mask_request_only_bands(root, tmp_path):
    scene_list = write_scene_list(root, tmp_path / "s.json")
    tile = parse_tile(TILE, TILE_KM)
    with_mask = estimate_composite(
        tile, masks(scene_list), BANDS, "earthengine", swath_edge_buffer_m=0, mask_dilation_m=0, coregister=False
    )
    no_masks = [None for _ in scene_list]
    assert (
        estimate_composite(
            tile, no_masks, BANDS, "earthengine", swath_edge_buffer_m=0, mask_dilation_m=0, coregister=False
        ).requests
        * 2
        == with_mask.requests
    )
    assert (
        estimate_composite(
            tile, no_masks, BANDS, "earthengine", swath_edge_buffer_m=0, mask_dilation_m=0, coregister=False
        ).bytes
        == 3 * 3 * 2 * 100**2
    )


def masks(scenes):
    return [scene.mask for scene in scenes]


def test_stac_source_requests_one_window_per_file(root, tmp_path):
    scene_list = write_scene_list(root, tmp_path / "s.json")
    tile = parse_tile(TILE, TILE_KM)
    earthengine_estimate, stac_estimate = (
        estimate_composite(
            tile, masks(scene_list), BANDS, kind, swath_edge_buffer_m=10, mask_dilation_m=20, coregister=True
        )
        for kind in ("earthengine", "stac")
    )
    assert (
        stac_estimate.bytes == earthengine_estimate.bytes
        and stac_estimate.requests == 2 * earthengine_estimate.requests
    )


def test_s2cloudless_requests_ten_bands_once():
    tile = parse_tile(TILE, TILE_KM)
    no_masks, full = (
        estimate_composite(tile, [mask], BANDS, "stac", swath_edge_buffer_m=0, mask_dilation_m=40, coregister=True)
        for mask in (None, "S2C")
    )
    side = 100 + 2 * (4 + HALO_M // 10)
    assert full == no_masks + RequestEstimate(10, 10 * 2 * side**2)


@pytest.mark.parametrize("shape", [(10, 10), (61, 60), (33, 200), (200, 33)])
def test_windows_are_split_by_the_size_limits(monkeypatch, shape):
    monkeypatch.setattr(earthengine, "MAX_BYTES", 3 * 2 * 1000)
    monkeypatch.setattr(earthengine, "MAX_SIDE_PX", 60)
    rows, cols = shape
    width = min(cols, 60)
    height = min(rows, 60, 1000 // width)
    windows = [(top, left) for top in range(0, rows, height) for left in range(0, cols, width)]
    split = earthengine.split_window((rows, cols), 3)
    assert [(rows.start, cols.start) for rows, cols in split] == windows
    assert sum((r.stop - r.start) * (c.stop - c.start) for r, c in split) == rows * cols


def test_requests_of_a_block_and_of_a_full_tile():
    assert len(earthengine.split_window((512, 512), 3)) == 1
    strips = math.ceil(3000 / (earthengine.MAX_BYTES // 18000))
    assert len(earthengine.split_window((3000, 3000), 3)) == strips


@pytest.fixture
def run(root, tmp_path, monkeypatch):
    """The working folder of a run over three tiles: in 2021 one has a composite, one a scene list and one nothing."""
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(SYNTHETIC.read_text())
    config |= {"results": "results/r", "tile_km": TILE_KM, "years": [2019, 2021]}
    config["inference"] = config.get("inference", {}) | {"window_m": 320, "stride_m": 160}
    config["sentinel2"] |= {"source": SERVER, "swath_edge_buffer_m": 20, "mask_dilation_m": 35, "coregister": True}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    results = tmp_path / "results" / "r"
    tiles = [
        {"tile": TILE, "cities": ["Hukou"]},
        {"tile": "50N_E0661_N3540", "cities": []},
        {"tile": "50N_E0662_N3540", "cities": []},
    ]
    (results / "grid").mkdir(parents=True)
    (results / "grid" / "tiles.geojson").write_text(json.dumps({"features": [{"properties": tile} for tile in tiles]}))
    write_scene_list(root, results / "sentinel2" / "scenes" / "2021" / f"{TILE}.json")
    text = (results / "sentinel2" / "scenes" / "2021" / f"{TILE}.json").read_text()
    (results / "sentinel2" / "scenes" / "2021" / "50N_E0661_N3540.json").write_text(text)
    composite_path = results / "sentinel2" / "composites" / "2021" / "50N_E0661_N3540.tif"
    composite_path.parent.mkdir(parents=True)
    composite_path.touch()
    cache_folder = results / ".jointseg" / "responses" / "2021" / TILE
    cache_folder.mkdir(parents=True)
    for name in ("one", "two", ".part-1-three"):
        (cache_folder / name).touch()
    return tmp_path


def command_json(capsys, *more):
    assert main(["estimate", "requests", "config.yaml", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_command_counts_by_year(run, capsys):
    scene_list = load_scenes(run / "results" / "r" / "sentinel2" / "scenes" / "2021" / f"{TILE}.json")
    counted = estimate_composite(
        parse_tile(TILE, TILE_KM),
        masks(scene_list),
        BANDS,
        "earthengine",
        swath_edge_buffer_m=20,
        mask_dilation_m=35,
        coregister=True,
    )
    output = command_json(capsys)
    assert output["source"] == "earthengine"
    assert output["years"] == [
        {
            **{"year": 2019, "tiles": 1, "scene_lists": 0, "unlisted_tiles": [TILE], "composites": 0, "scenes": 0},
            **{"requests": 0, "bytes": 0, "cached_responses": 0},
        },
        {
            **{
                "year": 2021,
                "tiles": 3,
                "scene_lists": 2,
                "unlisted_tiles": ["50N_E0662_N3540"],
                "composites": 1,
                "scenes": 6,
            },
            **{"requests": counted.requests, "bytes": counted.bytes, "cached_responses": 2},
        },
    ]
    assert [year["year"] for year in command_json(capsys, "--year", "2019")["years"]] == [2019]


def test_command_prints_a_summary(run, capsys):
    assert main(["estimate", "requests", "config.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "2021: 1 tiles have no scene list yet: 50N_E0662_N3540" in printed
    assert "2 responses are cached" in printed


def test_archive_source_needs_no_requests(run, capsys):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["sentinel2"]["source"] = {"kind": "archive", "path": "x"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert command_json(capsys) == {"source": "archive", "years": []}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.yaml").write_text("results: x\n"), "the config is not valid"),
        (lambda run: (run / "results/r/grid/tiles.geojson").unlink(), "--until grid"),
        (lambda run: (run / "config.yaml").unlink(), "config.yaml does not exist"),
    ],
)
def test_invalid_config_or_missing_grid_is_an_error(run, capsys, damage, message):
    damage(run)
    assert main(["estimate", "requests", "config.yaml"]) == 2
    assert message in capsys.readouterr().err


def test_year_of_another_run_is_an_error(run, capsys):
    assert main(["estimate", "requests", "config.yaml", "--year", "2020"]) == 2
    assert "year 2020 is not in the config; choose one of 2019, 2021" in capsys.readouterr().err
