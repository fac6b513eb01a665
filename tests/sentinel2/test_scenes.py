import hashlib
import json

import pytest
from support.tiny_sentinel2 import TILE, TILE_KM, catalogue, item, listing, plain, raster, rgb, scl

from jointseg.area.grid import parse_tile
from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import scene as scene_list
from jointseg.sentinel2.items import scene_from_item
from jointseg.sentinel2.scene import Scene, lonlat_box
from jointseg.sentinel2.scenes import scenes, select_scenes


def make(name="S", when="2021-07-01T02:50:00Z", **changes):
    tile = parse_tile(TILE, TILE_KM)
    facts = {"platform": "sentinel-2a", "mgrs": "50RPV", "relative_orbit": 1, "baseline": "05.00", "cloud_percent": 5.0}
    facts |= {"epsg": 32650, "offset_dn": -1000, "scale": 1e-4, "mask": None, "assets": {}, "level": "L2A"}
    facts["footprint"] = lonlat_box(tile.bounds, tile.crs)
    return Scene(id=name, datetime=when, **(facts | changes))


def chosen(candidates, **changes):
    wanted = {"year": 2021, "level": "L2A", "season": ["04-01", "10-31"], "max_cloud_percent": 60} | changes
    kept, rejected = select_scenes(candidates, parse_tile(TILE, TILE_KM), **wanted)
    return [scene.id for scene in kept], dict(rejected)


def test_the_list_is_frozen_with_hashes(tmp_path):
    root = tmp_path / "archive"
    item(root, "later", rgb(800) | {"SCL": scl()}, when="2021-08-01T02:50:00.123Z")
    item(root, "earlier", rgb(800) | {"SCL": scl()}, when="2021-05-01T10:50:00+08:00")
    item(root, "old", rgb(800) | {"SCL": scl()}, when="2020-07-01T02:50:00Z")
    out = tmp_path / "scenes.json"
    facts = scenes(scenes=out, archive=catalogue(root), **listing())
    content = json.loads(out.read_text())
    assert [scene["id"] for scene in content["scenes"]] == ["earlier", "later"]
    assert facts == {"scenes": ["earlier", "later"], "wider": 0, "masks": {"SCL": 2}, "left_out": {"year": 1}}
    first = content["scenes"][0]
    assert (first["datetime"], first["offset_dn"], first["epsg"], first["mask"]) == (
        "2021-05-01T02:50:00Z",
        -1000,
        32650,
        "SCL",
    )
    assert sorted(first["assets"]) == ["B02", "B03", "B04", "SCL"]
    data = (root / "earlier/B04.tif").read_bytes()
    assert first["assets"]["B04"] == {
        "href": "earlier/B04.tif",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert str(tmp_path) not in out.read_text()
    again = scene_list.load_scenes(out)
    assert [scene.record() for scene in again] == content["scenes"]


@pytest.mark.parametrize("text", ["{}", "[", '{"scenes": [{"id": "S2A"}]}', '{"scenes": 3}'])
def test_a_list_that_is_none_is_told(tmp_path, text):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"list\.json is no list of scenes .*; delete it so that it is made again"):
        scene_list.load_scenes(path)


def test_selection_counts_why_scenes_are_left_out():
    candidates = [
        make("kept"),
        make("cloudy", cloud_percent=60.5),
        make("winter", when="2021-12-01T02:50:00Z"),
        make("toa", level="L1C"),
        make("away", footprint=lonlat_box((700_000, 3_540_000, 701_000, 3_541_000), "EPSG:32650")),
        make("touching", footprint=lonlat_box((661_000, 3_540_000, 662_000, 3_541_000), "EPSG:32650")),
    ]
    kept, rejected = chosen(candidates)
    assert kept == ["kept"]
    assert rejected == {"cloud": 1, "season": 1, "level": 1, "footprint": 2}


@pytest.mark.parametrize(
    ("season", "day", "fits"),
    [
        (["04-01", "10-31"], "04-01", True),
        (["04-01", "10-31"], "10-31", True),
        (["04-01", "10-31"], "11-01", False),
        (["11-01", "02-28"], "12-31", True),
        (["11-01", "02-28"], "02-28", True),
        (["11-01", "02-28"], "07-01", False),
    ],
)
def test_season_ends_are_included_and_may_span_new_year(season, day, fits):
    assert (chosen([make(when=f"2021-{day}T02:50:00Z")], season=season)[0] == ["S"]) is fits


def test_a_granule_of_two_baselines_counts_once():
    old, new = make("a", baseline="03.01", offset_dn=0), make("b", baseline="05.00")
    assert chosen([old, new]) == (["b"], {"an older baseline": 1})
    assert chosen([new, old]) == (["b"], {"an older baseline": 1})


def test_unknown_date_counts_for_every_year():
    assert chosen([make(when=None)], year=1999)[0] == ["S"]


def test_year_without_scenes_names_year_tile_source_and_remedy(tmp_path):
    root = tmp_path / "archive"
    item(root, "S", rgb(800) | {"SCL": scl()})
    item(root, "T", rgb(800) | {"SCL": scl()}, when="2023-07-01T02:50:00Z", cloud=90)
    catalogue(root)
    with pytest.raises(DataError) as told:
        scenes(scenes=tmp_path / "s.json", archive=root, **listing(year="2023"))
    for word in ("2023", TILE, str(root), "1 by cloud", "1 by year", "max_cloud_percent"):
        assert word in str(told.value)
    assert not (tmp_path / "s.json").exists()


def test_missing_band_is_named(tmp_path):
    root = tmp_path / "archive"
    item(root, "S", {"B04": plain(1800), "B03": plain(1800), "SCL": scl()})
    with pytest.raises(DataError, match=r"scene S has no B02 \(it has: B03, B04, SCL\)"):
        scenes(scenes=tmp_path / "s.json", archive=catalogue(root), **listing())


def test_missing_file_is_named(tmp_path):
    root = tmp_path / "archive"
    item(root, "S", rgb(800) | {"SCL": scl()})
    (root / "S/B03.tif").unlink()
    with pytest.raises(DataError, match=r"S/B03\.tif, band B03 of scene S, cannot be read"):
        scenes(scenes=tmp_path / "s.json", archive=catalogue(root), **listing())


def test_file_that_differs_from_its_checksum_is_named(tmp_path):
    root = tmp_path / "archive"
    content = item(root, "S", rgb(800) | {"SCL": scl()})
    content["assets"]["B03"]["file:checksum"] = "1220" + "0" * 64
    (root / "S/S.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"S/B03\.tif, band B03 of scene S, has sha256 .* its catalogue says 000"):
        scenes(scenes=tmp_path / "s.json", archive=catalogue(root), **listing())


@pytest.mark.parametrize(
    ("baseline", "properties", "bands", "offset"),
    [
        ("03.01", {}, {}, 0),
        ("04.00", {}, {}, -1000),
        ("05.09", {}, {}, -1000),
        ("05.09", {"earthsearch:boa_offset_applied": True}, {}, 0),
        ("05.09", {"earthsearch:boa_offset_applied": True}, {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}, 0),
        ("05.09", {"earthsearch:boa_offset_applied": False}, {}, -1000),
        (None, {}, {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}, -1000),
        (None, {}, {"raster:scale": 1e-4, "raster:offset": 0}, 0),
    ],
)
def test_offset_is_told_once(tmp_path, baseline, properties, bands, offset):
    content = item(tmp_path, "S", rgb(800) | {"SCL": scl()}, baseline=baseline, **properties)
    for key in ("B04", "B03", "B02"):
        content["assets"][key] |= bands
    assert scene_from_item(content, "S").offset_dn == offset


def test_items_that_leave_radiometry_or_level_open_are_refused(tmp_path):
    content = item(tmp_path, "S", rgb(800) | {"SCL": scl()}, baseline=None)
    with pytest.raises(DataError, match="neither its radiometric offset nor its processing baseline"):
        scene_from_item(content, "S")
    content = item(tmp_path, "T", rgb(800))
    with pytest.raises(DataError, match="L2A without the asset SCL"):
        scene_from_item(content, "T")
    del content["properties"]["s2:product_type"], content["collection"]
    with pytest.raises(DataError, match="does not tell its product level"):
        scene_from_item(content, "T")


def test_names_of_other_catalogues(tmp_path):
    content = item(tmp_path, "S", {"red": plain(1800), "green": plain(1800), "blue": plain(1800), "scl": scl()})
    content["assets"]["red-jp2"] = {"href": "s3://elsewhere/B04.jp2"}
    content["assets"]["green"]["href"] = "https://elsewhere/B03.tif"
    scene = scene_from_item(content, "S")
    assert {key: asset.href for key, asset in scene.assets.items()} == {
        "B04": "S/red.tif",
        "B03": "https://elsewhere/B03.tif",
        "B02": "S/blue.tif",
        "SCL": "S/scl.tif",
    }


def sidecar(tmp_path, **changes):
    for band in ("red", "green", "blue"):
        raster(tmp_path / f"files/{band}.tif", plain(900))
    entry = {
        "id": "one",
        "datetime": None,
        "level": "L1C",
        "offset_dn": 0,
        "bands": {"B04": "red.tif", "B03": "green.tif", "B02": "blue.tif"},
    } | changes
    path = tmp_path / "scene.json"
    path.write_text(json.dumps({"scenes": [{k: v for k, v in entry.items() if v != "absent"}]}))
    return path


def test_sidecar_describes_a_folder(tmp_path):
    arguments = listing(level="L1C", sidecar=sidecar(tmp_path))
    scenes(scenes=tmp_path / "out.json", archive=tmp_path / "files", **arguments)
    (scene,) = scene_list.load_scenes(tmp_path / "out.json")
    assert (scene.id, scene.datetime, scene.epsg, scene.mask) == ("one", None, 32650, None)
    assert scene.assets["B04"].href == "red.tif"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"level": "L3"}, "level 'L3'; allowed are L1C, L2A"),
        ({"offset_dn": "absent"}, "has no 'offset_dn'"),
        ({"bands": {"B04": "purple.tif"}}, r"purple\.tif"),
    ],
)
def test_bad_sidecars_are_told(tmp_path, changes, words):
    described = sidecar(tmp_path, **changes)
    with pytest.raises(DataError, match=words):
        scenes(scenes=tmp_path / "o.json", archive=tmp_path / "files", **listing(level="L1C", sidecar=described))


def test_archive_that_is_none_is_told(tmp_path):
    with pytest.raises(DataError, match="holds neither"):
        scenes(scenes=tmp_path / "o.json", archive=tmp_path, **listing())
    with pytest.raises(DataError, match="not a folder"):
        scenes(scenes=tmp_path / "o.json", archive=tmp_path / "nowhere", **listing())
    with pytest.raises(DataError, match="the package no_such_package is not installed"):
        scenes(
            scenes=tmp_path / "o.json",
            **listing(source={"kind": "archive", "path": "package:no_such_package/data"}),
        )
