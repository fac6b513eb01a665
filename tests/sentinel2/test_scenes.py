"""Scene lists: selection, STAC items, sidecars, checksums."""

import hashlib
import json

import pytest
from support.tiny_sentinel2 import TILE, TILE_KM, catalogue, item, listing, plain, raster, rgb, scl

from jointseg.area.grid import parse_tile
from jointseg.runtime.errors import DataError
from jointseg.sentinel2.items import scene_from_item
from jointseg.sentinel2.scene import Scene, load_scenes, lonlat_box
from jointseg.sentinel2.scenes import Selection, scenes, select_scenes


def make_scene(name="S", when="2021-07-01T02:50:00Z", **changes):
    tile = parse_tile(TILE, TILE_KM)
    facts = {"platform": "sentinel-2a", "mgrs": "50RPV", "relative_orbit": 1, "baseline": "05.00", "cloud_percent": 5.0}
    facts |= {"epsg": 32650, "offset_dn": -1000, "scale": 1e-4, "mask": None, "assets": {}, "level": "L2A"}
    facts["footprint"] = lonlat_box(tile.bounds, tile.crs)
    return Scene(id=name, datetime=when, **(facts | changes))


def selected(candidates, **changes):
    criteria = {"year": 2021, "level": "L2A", "season": ["04-01", "10-31"], "max_cloud_percent": 60} | changes
    scenes, rejected = select_scenes(candidates, parse_tile(TILE, TILE_KM), Selection(**criteria))
    return [scene.id for scene in scenes], dict(rejected)


def test_scene_list_has_sizes_and_checksums(tmp_path):
    root = tmp_path / "archive"
    item(root, "later", rgb(800) | {"SCL": scl()}, when="2021-08-01T02:50:00.123Z")
    item(root, "earlier", rgb(800) | {"SCL": scl()}, when="2021-05-01T10:50:00+08:00")
    item(root, "old", rgb(800) | {"SCL": scl()}, when="2020-07-01T02:50:00Z")
    out = tmp_path / "scenes.json"
    facts = scenes(scenes=out, archive=catalogue(root), **listing())
    content = json.loads(out.read_text())
    assert [scene["id"] for scene in content["scenes"]] == ["earlier", "later"]
    assert facts == {"scenes": ["earlier", "later"], "in_padding": 0, "masks": {"SCL": 2}, "rejected": {"year": 1}}
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
    loaded = load_scenes(out)
    assert [scene.record() for scene in loaded] == content["scenes"]


@pytest.mark.parametrize("text", ["{}", "[", '{"scenes": [{"id": "S2A"}]}', '{"scenes": 3}'])
def test_invalid_scene_list_is_an_error(tmp_path, text):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"list\.json is not a valid scene list .*; delete it to rebuild it"):
        load_scenes(path)


def test_rejections_are_counted_by_reason():
    candidates = [
        make_scene("good"),
        make_scene("cloudy", cloud_percent=60.5),
        make_scene("winter", when="2021-12-01T02:50:00Z"),
        make_scene("toa", level="L1C"),
        make_scene("away", footprint=lonlat_box((700_000, 3_540_000, 701_000, 3_541_000), "EPSG:32650")),
        make_scene("touching", footprint=lonlat_box((661_000, 3_540_000, 662_000, 3_541_000), "EPSG:32650")),
    ]
    scenes, rejected = selected(candidates)
    assert scenes == ["good"]
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
def test_season_is_inclusive_and_may_span_the_new_year(season, day, fits):
    assert (selected([make_scene(when=f"2021-{day}T02:50:00Z")], season=season)[0] == ["S"]) is fits


def test_newest_baseline_of_a_granule_is_selected():
    old, new = make_scene("a", baseline="03.01", offset_dn=0), make_scene("b", baseline="05.00")
    assert selected([old, new]) == (["b"], {"older baseline": 1})
    assert selected([new, old]) == (["b"], {"older baseline": 1})


def test_scene_without_date_matches_every_year():
    assert selected([make_scene(when=None)], year=1999)[0] == ["S"]


def test_error_for_a_year_without_scenes_names_year_tile_source_and_remedy(tmp_path):
    root = tmp_path / "archive"
    item(root, "S", rgb(800) | {"SCL": scl()})
    item(root, "T", rgb(800) | {"SCL": scl()}, when="2023-07-01T02:50:00Z", cloud=90)
    catalogue(root)
    with pytest.raises(DataError) as error:
        scenes(scenes=tmp_path / "s.json", archive=root, **listing(year="2023"))
    for word in ("2023", TILE, str(root), "1 by cloud", "1 by year", "max_cloud_percent"):
        assert word in str(error.value)
    assert not (tmp_path / "s.json").exists()


def test_missing_band_is_an_error(tmp_path):
    root = tmp_path / "archive"
    item(root, "S", {"B04": plain(1800), "B03": plain(1800), "SCL": scl()})
    with pytest.raises(DataError, match=r"scene S has no B02 \(it has: B03, B04, SCL\)"):
        scenes(scenes=tmp_path / "s.json", archive=catalogue(root), **listing())


def test_missing_file_is_an_error(tmp_path):
    root = tmp_path / "archive"
    item(root, "S", rgb(800) | {"SCL": scl()})
    (root / "S/B03.tif").unlink()
    with pytest.raises(DataError, match=r"S/B03\.tif, band B03 of scene S, cannot be read"):
        scenes(scenes=tmp_path / "s.json", archive=catalogue(root), **listing())


def test_checksum_mismatch_is_an_error(tmp_path):
    root = tmp_path / "archive"
    content = item(root, "S", rgb(800) | {"SCL": scl()})
    content["assets"]["B03"]["file:checksum"] = "1220" + "0" * 64
    (root / "S/S.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"S/B03\.tif, band B03 of scene S, has sha256 .* its catalogue lists 000"):
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
def test_offset_of_an_item(tmp_path, baseline, properties, bands, offset):
    content = item(tmp_path, "S", rgb(800) | {"SCL": scl()}, baseline=baseline, **properties)
    for key in ("B04", "B03", "B02"):
        content["assets"][key] |= bands
    assert scene_from_item(content, "S").offset_dn == offset


def test_items_without_radiometry_mask_or_level_are_errors(tmp_path):
    content = item(tmp_path, "S", rgb(800) | {"SCL": scl()}, baseline=None)
    with pytest.raises(DataError, match="neither a radiometric offset nor a processing baseline"):
        scene_from_item(content, "S")
    content = item(tmp_path, "T", rgb(800))
    with pytest.raises(DataError, match="L2A without the asset SCL"):
        scene_from_item(content, "T")
    del content["properties"]["s2:product_type"], content["collection"]
    with pytest.raises(DataError, match="has no product level"):
        scene_from_item(content, "T")


def test_asset_names_of_other_catalogues(tmp_path):
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


def test_sidecar_describes_plain_band_files(tmp_path):
    arguments = listing(level="L1C", sidecar=sidecar(tmp_path))
    scenes(scenes=tmp_path / "out.json", archive=tmp_path / "files", **arguments)
    (scene,) = load_scenes(tmp_path / "out.json")
    assert (scene.id, scene.datetime, scene.epsg, scene.mask) == ("one", None, 32650, None)
    assert scene.assets["B04"].href == "red.tif"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "L3"}, "level 'L3'; allowed are L1C, L2A"),
        ({"offset_dn": "absent"}, "has no 'offset_dn'"),
        ({"bands": {"B04": "purple.tif"}}, r"purple\.tif"),
    ],
)
def test_invalid_sidecars_are_errors(tmp_path, changes, message):
    path = sidecar(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        scenes(scenes=tmp_path / "o.json", archive=tmp_path / "files", **listing(level="L1C", sidecar=path))


def test_invalid_archives_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"has no catalog\.json, no scene\.json and no SAFE"):
        scenes(scenes=tmp_path / "o.json", archive=tmp_path, **listing())
    with pytest.raises(DataError, match="not a folder"):
        scenes(scenes=tmp_path / "o.json", archive=tmp_path / "nowhere", **listing())
    with pytest.raises(DataError, match="the package no_such_package is not installed"):
        scenes(
            scenes=tmp_path / "o.json",
            **listing(source={"kind": "archive", "path": "package:no_such_package/data"}),
        )
