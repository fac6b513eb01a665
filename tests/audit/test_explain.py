"""An explanation of a pixel is right on a tiny run: one tile, real scenes and composite, a map by hand."""

import argparse
import json
import os
import re
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from support.provenance_flow import job, quiet
from support.tiny_sentinel2 import NORTH, TILE, TILE_KM, WEST, catalogue, compositing, item, listing, plain, rgb, scl

from jointseg.area.grid import parse_tile, transformer
from jointseg.area.study_area import study_area
from jointseg.area.tiles import grid
from jointseg.audit.explain.chips import distances
from jointseg.audit.explain.explainer import Explainer
from jointseg.cli.commands import FINDINGS, OK, add_subcommands, explain
from jointseg.provenance.job_record import run_job
from jointseg.raster import cog
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scene import lonlat_box
from jointseg.sentinel2.scenes import scenes

R = "results/tiny"
MAY, JUNE, JULY, AUGUST = (f"2021-{month:02d}-01T02:50:00Z" for month in (5, 6, 7, 8))


def isa(*, composites, superres, segmentation, isa, year, tile, tile_km, method, window_m, stride_m, batch, threads):
    """Impervious in the northern half, unknown where the composite is."""
    place = parse_tile(tile, tile_km)
    known = raster_io.read(composites[0])[0][3] > 0
    classes = np.zeros(place.shape(1), dtype=np.uint8)
    classes[: classes.shape[0] // 2] = 1
    classes[~known.repeat(10, axis=0).repeat(10, axis=1)] = 255
    cog.write(isa, classes[None], crs=place.crs, transform=place.transform(1), nodata=255)
    return {"windows": 16, "device": "cpu", "threshold": 0.45}


def train(*, index, checkpoint, training, seed, threads):
    """Weights of nothing."""
    checkpoint.write_bytes(index.read_bytes()[:100])
    return {"chips": {"train": 1}}


def chip(sample_id, split, minx, miny, side_m=320):
    square = lonlat_box((minx, miny, minx + side_m, miny + side_m), "EPSG:32650")
    return {"sample_id": sample_id, "reach": "upper", "split": split, "epsg": 32650, "minx": float(minx),
            "miny": float(miny), "geometry": square}  # fmt: skip


CHIPS = [
    chip("upper-1", "train", WEST + 200, NORTH - 400),
    chip("upper-2", "test", WEST + 600, NORTH - 900),
    chip("upper-3", "train", WEST + 5000, NORTH - 320),
]


def index(*, index):
    """Three chips."""
    gpd.GeoDataFrame(CHIPS, crs=4326).to_parquet(index)


def make(archive: Path, level: str = "L2A", **changes) -> None:
    """A run of one tile into results/tiny below the working directory."""
    bounds = parse_tile(TILE, TILE_KM).bounds
    west, south, east, north = bounds
    region = lonlat_box((west + 5, south + 5, east - 5, north - 5), "EPSG:32650")
    city = lonlat_box((west + 5, south + 500, east - 5, north - 5), "EPSG:32650")
    gpd.GeoDataFrame({"name": ["Shang"]}, geometry=[region], crs=4326).to_file("regions.geojson")
    gpd.GeoDataFrame({"name": ["Cheng"]}, geometry=[city], crs=4326).to_file("cities.geojson")
    catalogue(archive)
    asked = listing(level=level) | {"source": {"kind": "archive", "path": str(archive)}}
    made = compositing(**changes) | {"source": asked["source"]}
    here = {"year": asked.pop("year"), "tile": asked.pop("tile")}
    for each in ("year", "tile"):
        made.pop(each)
    area, tiles = f"{R}/study_area/study_area.gpkg", f"{R}/grid/tiles.geojson"
    listed, image = f"{R}/sentinel2/scenes/2021/{TILE}.json", f"{R}/sentinel2/composites/2021/{TILE}.tif"
    chips, weights = f"{R}/dataset/index.parquet", {name: f"{R}/{name}.safetensors" for name in ("superres", "seg")}
    fields = {"region_field": "name", "city_field": "name", "reaches": {"upper": ["Shang"]}}
    lattice = {"method": "superres", "window_m": 320, "stride_m": 280, "batch": 1, "threads": 1}
    learning = {"training": {"steps": 7}, "seed": 3, "threads": 1}
    taken = {"composites": [image], "superres": weights["superres"], "segmentation": weights["seg"]}
    with quiet():
        run_job(
            job("study_area", R, inputs={"regions": "regions.geojson", "cities": "cities.geojson"},
                outputs={"study_area": area}, params={**fields, "city_reach": {"Cheng": "upper"}}), study_area)  # fmt: skip
        run_job(
            job("grid", R, inputs={"study_area": area}, outputs={"tiles": tiles}, params={"tile_km": TILE_KM}), grid
        )
        run_job(job("scenes", R, inputs={"archive": str(archive)}, outputs={"scenes": listed}, wildcards=here,
                    params=asked), scenes)  # fmt: skip
        run_job(job("composite", R, inputs={"archive": str(archive), "scenes": listed}, outputs={"composite": image},
                    wildcards=here, params=made), composite)  # fmt: skip
        run_job(job("dataset", R, outputs={"index": chips}), index)
        for rule, path in zip(("superres_adversarial", "segmentation"), weights.values()):
            run_job(job(rule, R, inputs={"index": chips}, outputs={"checkpoint": path}, params=learning), train)
        run_job(job("predict", R, inputs=taken, outputs={"isa": f"{R}/isa/2021/{TILE}.tif"}, wildcards=here,
                    params={"tile_km": TILE_KM, **lattice}), isa)  # fmt: skip


def four(root: Path) -> Path:
    """Four dates: a clear one, one with a cloud, one with a gap and a saturated pixel, and a bright clear one."""
    item(root, "a", rgb(1000) | {"SCL": scl()}, when=MAY)
    cloudy = scl()[0]
    cloudy[10:15, 10:15] = 9  # rows and columns 20 to 29 at 10 m
    item(root, "b", rgb(1010) | {"SCL": (cloudy, {"res_m": 20})}, when=JUNE)
    gap = rgb(1100)
    gap["B03"][:, 90:] = 0
    gap["B04"][50, 50] = 65535
    item(root, "c", gap | {"SCL": scl()}, when=JULY)
    item(root, "d", rgb(3000) | {"SCL": scl()}, when=AUGUST)
    return root


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The folder of a run, made once."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make(four(Path("archive")), method="medoid", mask_dilation_m=30)
    return folder


@pytest.fixture
def tiny(once, tmp_path, monkeypatch):
    """A copy of it, to be changed; all its paths are relative to the working directory."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path(R)


def seen(told) -> list[tuple[str, bool, str | None, int | None, float | None]]:
    return [
        (look.id, look.clear, look.reason, look.scene_class, look.distance_m) for look in told.composite.observations
    ]


def test_every_reason_is_told(tiny):
    explainer = Explainer(tiny)
    clear = [(name, True, None, 4, None) for name in "abcd"]
    cases = {
        (5, 5): clear,
        (22, 25): [clear[0], ("b", False, "masked", 9, None), *clear[2:]],
        (32, 25): [clear[0], ("b", False, "buffer", 9, 30.0), *clear[2:]],
        (33, 25): clear,
        (31, 31): [clear[0], ("b", False, "buffer", 9, 28.3), *clear[2:]],
        (5, 95): [*clear[:2], ("c", False, "no data", None, None), clear[3]],
        (50, 50): [*clear[:2], ("c", False, "saturated", None, None), clear[3]],
    }
    for (row, col), expected in cases.items():
        told = explainer.pixel(TILE, 10 * row + 3, 10 * col + 7, 2021)
        assert seen(told) == expected
        assert told.composite.clear == sum(each[1] for each in expected)
        assert told.composite.reproduced is True and told.disagreements == [] and told.notes == []


def test_medoid_names_the_scene_it_took(tiny):
    told = Explainer(tiny).pixel(TILE, 55, 55, 2021).composite
    # 1000: 10 + 100 + 2000; 1010: 10 + 90 + 1990; 1100: 100 + 90 + 1900; 3000: 2000 + 1990 + 1900. A tie of 1010 and
    # 1100 goes to the earlier.
    assert told.selected == "b" and [look.selected for look in told.observations] == [False, True, False, False]
    assert told.values == {"B04": 1010, "B03": 1110, "B02": 1210} == told.observations[1].values
    under_cloud = Explainer(tiny).pixel(TILE, 225, 225, 2021).composite
    assert under_cloud.selected == "c" and under_cloud.values["B04"] == 1100


def test_place_by_degrees_is_the_same_pixel(tiny):
    explainer = Explainer(tiny)
    told = explainer.pixel(TILE, 123, 456, 2021)
    assert (told.pixel.x, told.pixel.y) == (WEST + 456.5, NORTH - 123.5)
    assert (told.pixel.row_10m, told.pixel.col_10m) == (12, 45)
    assert explainer.at(told.pixel.lon, told.pixel.lat, 2021).as_json() == told.as_json()
    assert told.pixel.value == "impervious" and told.pixel.zone == "50N"
    assert told.pixel.reaches == ["upper"] and told.pixel.cities == ["Cheng"]
    south = explainer.pixel(TILE, 900, 456, 2021).pixel
    assert south.value == "not impervious" and south.cities == [] and south.tile_cities == ["Cheng"]


def test_chips_over_and_near_the_pixel(tiny):
    told = Explainer(tiny).pixel(TILE, 100, 250, 2021)  # y = NORTH - 100.5, inside the first chip
    (dataset,) = told.datasets
    assert [(each.sample_id, each.split) for each in dataset.covering] == [("upper-1", "train")]
    assert dataset.splits == {"train": 2, "validation": 0, "test": 1} and dataset.chip_m == 320
    assert [each.sample_id for each in dataset.nearest["train"]] == ["upper-1", "upper-3"]
    assert dataset.nearest["train"][1].distance_m == 5000 - 250.5
    assert dataset.nearest["test"][0].distance_m == pytest.approx(np.hypot(600 - 250.5, 580 - 100.5), abs=0.06)
    outside = Explainer(tiny).pixel(TILE, 100, 199, 2021).datasets[0]
    assert outside.covering == [] and outside.nearest["train"][0].distance_m == 0.5


def test_far_chips_are_measured_on_the_globe():
    """Virginia to Anhui: UTM of the other side of the globe does not hold."""
    squares = pd.DataFrame([{"epsg": 32650, "minx": 660_000.0, "miny": 3_540_000.0}])
    lon, lat = -75.7, 37.7
    there = np.radians(transformer("EPSG:32650", "EPSG:4326").transform(660_000, 3_540_000))
    here = np.radians((lon, lat))
    cosine = np.sin(here[1]) * np.sin(there[1]) + np.cos(here[1]) * np.cos(there[1]) * np.cos(here[0] - there[0])
    assert distances(squares, 320, lon, lat)[0] == pytest.approx(6_371_000 * np.arccos(cosine), rel=0.005)


def test_networks_tell_their_training(tiny):
    told = Explainer(tiny).pixel(TILE, 0, 0, 2021)
    assert [(each.name, each.producer, each.agrees) for each in told.checkpoints] == [
        ("superres", "superres_adversarial", True),
        ("segmentation", "segmentation", True),
    ]
    (training,) = told.checkpoints[1].trainings
    assert (training.job, training.steps, training.seed, training.threads) == ("segmentation", 7, 3, 1)
    assert {each.rule for each in told.jobs} == {
        *("predict", "composite", "scenes", "dataset", "superres_adversarial", "segmentation")
    }
    assert told.jobs[0].name == f"predict/2021/{TILE}" and told.jobs[0].versions["numpy"] == np.__version__


def test_windows_share_the_pixel(tiny):
    explainer = Explainer(tiny)
    for row, col in ((0, 0), (40, 300), (500, 640), (999, 999)):
        told = explainer.pixel(TILE, row, col, 2021)
        for window in told.windows:
            west, south, east, north = window.bounds
            assert west < told.pixel.x < east and south < told.pixel.y < north and west % 280 == south % 280 == 0
            assert window.weight > 0 and window.tiles == [TILE]
        assert sum(window.weight for window in told.windows) == pytest.approx(1, abs=1e-6)


def test_l1c_tells_its_own_mask_or_that_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = np.zeros((3, 17, 17), dtype=np.uint8)
    flags[0, 5, 5] = flags[1, 5, 8] = flags[2, 8, 8] = 1  # opaque, cirrus, snow; 30 to 35, 48 to 53 at 10 m
    item(Path("archive"), "masked", rgb(800) | {"classi": (flags, {"res_m": 60})}, level="L1C", when=MAY)
    item(Path("archive"), "bare", rgb(800), level="L1C", when=JUNE)
    make(Path("archive"), level="L1C", mask_dilation_m=20)
    explainer = Explainer(Path(R))
    told = {place: explainer.pixel(TILE, 10 * place[0], 10 * place[1], 2021) for place in ((33, 33), (37, 33), (33, 50),
                                                                                     (50, 50), (10, 10))}  # fmt: skip
    assert [seen(told[place])[0][1:] for place in told] == [
        (False, "masked", 9, None),
        (False, "buffer", 9, 20.0),
        (False, "masked", 10, None),
        (True, None, 11, None),
        (True, None, 7, None),
    ]
    assert all(seen(each)[1] == ("bare", True, None, None, None) for each in told.values())
    assert "no cloud mask" in told[33, 33].composite.observations[1].detail
    assert [told[place].composite.clear for place in told] == [1, 1, 1, 2, 2]


def test_unknown_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    item(Path("archive"), "a", rgb(1000) | {"SCL": scl(9)}, when=MAY)
    make(Path("archive"))
    told = Explainer(Path(R)).pixel(TILE, 4, 4, 2021)
    assert (told.pixel.isa, told.pixel.value) == (255, "unknown")
    assert told.pixel.nodata_reason == "none of the 1 scenes was clear there"
    assert told.composite.values == {"B04": 0, "B03": 0, "B02": 0} and told.composite.reproduced is True


def test_dark_object_lines_are_applied_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dark = rgb(900)
    dark["B04"][:30] = 1300
    item(Path("archive"), "a", dark, level="L1C", when=MAY)
    make(Path("archive"), level="L1C", dark_object_subtraction=True)
    told = Explainer(Path(R)).pixel(TILE, 4, 4, 2021).composite
    assert told.reproduced is True and told.observations[0].lines[0]["kind"] == "dark object"
    assert told.observations[0].values == told.values and told.values["B04"] == 100  # (1300 - 1000) less 200
    assert told.reference is None


def test_scenes_that_are_gone_are_said_to_be(tiny):
    shutil.move("archive", "attic")
    told = Explainer(tiny).pixel(TILE, 55, 55, 2021)
    assert [(look.clear, look.values) for look in told.composite.observations] == [(None, None)] * 4
    assert told.composite.clear == 4 and told.composite.selected == "b" and told.composite.reproduced is None
    assert told.disagreements == [] and "is not a folder of Sentinel-2 scenes" in told.notes[0]


def test_a_replaced_scene_file_is_a_disagreement(tiny):
    with open("archive/c/B02.tif", "ab") as file:
        file.write(b"more")
    told = Explainer(tiny).pixel(TILE, 55, 55, 2021)
    assert told.composite.reproduced is None
    assert [(each.job, "B02" in each.detail) for each in told.disagreements] == [(f"composite/2021/{TILE}", True)]


def test_other_pixels_of_the_same_size_are_found_by_reading_again(tiny):
    path = Path("archive/b/B04.tif")
    content = bytearray(path.read_bytes())
    value = np.uint16(2010).tobytes()
    place = content.index(value * 100)
    content[place : place + 20_000] = np.uint16(2050).tobytes() * 10_000
    path.write_bytes(content)
    told = Explainer(tiny).pixel(TILE, 55, 55, 2021)
    assert told.composite.reproduced is False
    assert [(each.path, each.detail.startswith("its scenes, read again")) for each in told.disagreements] == [
        (f"{R}/sentinel2/composites/2021/{TILE}.tif", True)
    ]


def test_a_changed_checkpoint_and_a_remade_input_disagree(tiny):
    (tiny / "seg.safetensors").write_bytes(b"other")
    (tiny / "manifests/superres_adversarial.json").write_text(
        re.sub(r'"sha256": "\w', '"sha256": "x', (tiny / "manifests/superres_adversarial.json").read_text())
    )
    told = Explainer(tiny).pixel(TILE, 55, 55, 2021)
    assert [each.agrees for each in told.checkpoints] == [False, True]
    found = {(each.job, Path(each.path).name) for each in told.disagreements}
    assert found == {
        (f"predict/2021/{TILE}", "seg.safetensors"),
        (f"predict/2021/{TILE}", "superres.safetensors"),
        ("superres_adversarial", "superres_adversarial.json"),
        ("superres_adversarial", "index.parquet"),
    }


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda e: e.at(10, 20, 2021), r"longitude 10, latitude 20 lies in no tile .* 50N_E0660_N3540, from 118\.69"),
        (lambda e: e.at(200, 20, 2021), "not a place on Earth"),
        (lambda e: e.pixel("50N_E0661_N3540", 0, 0, 2021), "no tile 50N_E0661_N3540; its tiles are 50N_E0660_N3540"),
        (lambda e: e.pixel(TILE, 1000, 0, 2021), "row 1000, col 0 is not in tile .* from 0 to 999"),
        (lambda e: e.pixel(TILE, 0, -1, 2021), "col -1"),
        (lambda e: e.pixel(TILE, 0, 0, 2017), "no map of tile 50N_E0660_N3540 in 2017; it is mapped in 2021"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(tiny, asked, says):
    with pytest.raises(DataError, match=says):
        asked(Explainer(tiny))


@pytest.mark.parametrize("gone", [f"predict/2021/{TILE}", f"composite/2021/{TILE}", "grid"])
def test_a_missing_manifest_is_named(tiny, gone):
    (tiny / f"manifests/{gone}.json").unlink()
    with pytest.raises(DataError, match="manifest"):
        Explainer(tiny).pixel(TILE, 0, 0, 2021)


def verb(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    explain.add(add_subcommands(parser))
    given = parser.parse_args(["explain", *map(str, arguments)])
    return given.handler(given)


def test_the_verb_prints_text_json_and_a_figure(tiny, capsys):
    assert verb(tiny, "--tile", TILE, "--row", 225, "--col", 225, "--year", 2021, "--figure", "one.png") == OK
    text = capsys.readouterr().out
    for said in ("impervious, 2021", "medoid of 3 clear of 4", "masked: cloud, high probability (SCL 9)", "training"):
        assert said in text
    assert Path("one.png").read_bytes()[:4] == b"\x89PNG"
    place = Explainer(tiny).pixel(TILE, 225, 225, 2021).pixel
    assert verb(tiny, "--lon", place.lon, "--lat", place.lat, "--year", 2021, "--json") == OK
    told = json.loads(capsys.readouterr().out)
    assert list(told) == sorted(told) and told["pixel"]["row"] == 225 and len(told["composite"]["observations"]) == 4
    (tiny / "seg.safetensors").write_bytes(b"other")
    assert verb(tiny, "--lon", place.lon, "--lat", place.lat, "--year", 2021) == FINDINGS
    assert "Does not agree: 1" in capsys.readouterr().out


def test_the_figure_is_drawn_without_the_scenes_and_at_the_edge(tiny, capsys):
    shutil.move("archive", "attic")
    assert verb(tiny, "--tile", TILE, "--row", 999, "--col", 999, "--year", 2021, "--figure", "two.png") == OK
    assert "cannot be read any more" in capsys.readouterr().out and Path("two.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--lon", 1],
        ["--lon", 118.7, "--lat", 31.9, "--row", 0],
        ["--tile", TILE, "--row", 0],
        ["--lon", 118.7, "--lat", 31.9, "--tile", TILE, "--row", 0, "--col", 0],
    ],
)
def test_not_one_pixel_is_refused(given):
    with pytest.raises(DataError, match="not exactly one pixel"):
        verb("results", "--year", 2021, *given)


def test_weights_of_another_run_are_followed_there(tiny):
    """The same map, whose weights another run made."""
    shutil.copytree(R, "results/other")
    for name in ("superres_adversarial", "segmentation", "dataset"):
        (tiny / f"manifests/{name}.json").unlink()
        other = Path(f"results/other/manifests/{name}.json")
        other.write_text(other.read_text().replace(R, "results/other"))
    mapped = tiny / f"manifests/predict/2021/{TILE}.json"
    text = mapped.read_text()
    for name in ("superres", "seg"):
        text = text.replace(f"{R}/{name}.safetensors", f"results/other/{name}.safetensors")
    mapped.write_text(text)
    told = Explainer(tiny).pixel(TILE, 100, 250, 2021)
    assert [(each.path, each.run, each.agrees) for each in told.checkpoints] == [
        ("results/other/superres.safetensors", "results/other", True),
        ("results/other/seg.safetensors", "results/other", True),
    ]
    assert told.datasets[0].path == "results/other/dataset/index.parquet" and told.datasets[0].covering
    assert {each.run for each in told.jobs} == {R, "results/other"}


def test_weights_of_no_known_run_tell_their_header(tiny, monkeypatch):
    os.makedirs("elsewhere")
    from safetensors.numpy import save_file

    trained = {"steps": 12, "seed": 1}
    save_file({"x": plain(1)}, "elsewhere/superres.safetensors", {"jointseg": json.dumps({"trained": trained})})
    Path("elsewhere/seg.safetensors").write_bytes(b"nothing")
    mapped = tiny / f"manifests/predict/2021/{TILE}.json"
    text = mapped.read_text()
    for name in ("superres", "seg"):
        text = text.replace(f"{R}/{name}.safetensors", f"elsewhere/{name}.safetensors")
    mapped.write_text(text)
    told = Explainer(tiny).pixel(TILE, 100, 250, 2021)
    assert [(each.producer, each.agrees, each.trained) for each in told.checkpoints] == [
        (None, None, trained),
        (None, None, None),
    ]
    assert told.datasets == []
