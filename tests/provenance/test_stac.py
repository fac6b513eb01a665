"""The STAC catalogue of a release, checked against the core schemas and the specifications of the extensions.

The extensions publish their schemas on the web only, so the requirements for the fields used here are repeated below.
"""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pystac
import pytest
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from support.provenance_release import TILE

TEXT, NUMBER, COUNT = {"type": "string", "minLength": 1}, {"type": "number"}, {"type": "integer", "minimum": 0}
CLASS = {
    "required": ["value", "name"],
    "properties": {
        "value": {"type": "integer"},
        "name": {"type": "string", "pattern": "^[0-9A-Za-z-_]+$"},
        "description": TEXT,
        "nodata": {"type": "boolean"},
        "count": COUNT,
        "percentage": {"type": "number", "minimum": 0, "maximum": 100},
    },
    "additionalProperties": False,
}
CLASSES = {"type": "array", "minItems": 1, "uniqueItems": True, "items": CLASS}
CHECKSUM = {"type": "string", "pattern": "^1220[0-9a-f]{64}$"}  # multihash of sha2-256
STATISTICS = {
    "required": ["minimum", "maximum", "mean", "count", "valid_percent"],
    "additionalProperties": NUMBER,
}
ASSET = {
    "required": ["file:checksum", "file:size", "data_type", "nodata", "raster:spatial_resolution", "bands"],
    "properties": {
        "file:checksum": CHECKSUM,
        "file:size": COUNT,
        "data_type": {"const": "uint8"},
        "nodata": {"const": 255},
        "raster:spatial_resolution": {"type": "number", "exclusiveMinimum": 0},
        "raster:sampling": {"enum": ["area", "point"]},
        "bands": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"required": ["name"]}},
        "statistics": STATISTICS,
        "classification:classes": CLASSES,
    },
}
PROPERTIES = {
    "required": ["proj:code", "proj:bbox", "proj:shape", "proj:transform", "processing:software"],
    "properties": {
        "proj:code": {"type": "string", "pattern": "^EPSG:[0-9]+$"},
        "proj:bbox": {"type": "array", "minItems": 4, "maxItems": 4, "items": NUMBER},
        "proj:shape": {"type": "array", "minItems": 2, "maxItems": 2, "items": COUNT},
        "proj:transform": {"type": "array", "minItems": 6, "maxItems": 6, "items": NUMBER},
        "processing:software": {"type": "object", "minProperties": 1, "additionalProperties": TEXT},
        "processing:lineage": TEXT,
        "processing:level": {"enum": ["RAW", "L0", "L1", "L1A", "L1B", "L1C", "L2", "L2A", "L3", "L4"]},
        "processing:version": TEXT,
    },
    "propertyNames": {
        "not": {"enum": ["processing:datetime", "created", "updated"]}
    },  # times would make releases irreproducible
}
ITEM = {
    "properties": {
        "properties": PROPERTIES,
        "assets": {"required": ["map"], "additionalProperties": ASSET},
        "links": {"items": {"properties": {"file:checksum": CHECKSUM, "file:size": COUNT}}},
    },
}
COLLECTION = {
    "required": ["item_assets", "summaries"],
    "properties": {
        "item_assets": {
            "required": ["map"],
            "properties": {"map": {"properties": {"classification:classes": CLASSES}}},
        },
        "summaries": {"required": ["proj:code", "processing:level", "raster:spatial_resolution"]},
    },
}


@pytest.fixture(scope="module")
def items(released) -> dict[str, pystac.Item]:
    catalogue = pystac.Catalog.from_file(released / "catalog.json")
    return {item.id: item for item in catalogue.get_items(recursive=True)}


def test_catalogue_is_valid_stac(released):
    validator = JsonSchemaSTACValidator()
    catalogue = pystac.Catalog.from_file(released / "catalog.json")
    objects = [catalogue, *catalogue.get_collections(), *catalogue.get_items(recursive=True)]
    assert len(objects) == 1 + 2 + 4
    for stac_object in objects:
        validator.validate_core(stac_object.to_dict(), stac_object.STAC_OBJECT_TYPE, "1.1.0")


def test_extension_fields_match_their_specification(released):
    schemas = {"Feature": ITEM, "Collection": COLLECTION}
    found = [json.loads(path.read_text()) for path in released.rglob("*.json")]
    checked = [each for each in found if each.get("type") in schemas]
    assert len(checked) == 6
    for each in checked:
        jsonschema.Draft7Validator(schemas[each["type"]]).validate(each)
        used = {name.partition(":")[0] for name in _names(each)} & {
            "classification",
            "file",
            "processing",
            "proj",
            "raster",
        }
        declared = {url.split("/")[3].replace("projection", "proj") for url in each["stac_extensions"]}
        assert used == declared, "declared extensions must equal used extensions"


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("properties", "proj:shape"), [2]),
        (("properties", "processing:software"), {"jointseg": 1}),
        (("assets", "map", "file:checksum"), "00"),
        (("assets", "map", "raster:sampling"), "pixel"),
        (("assets", "map", "classification:classes", 0, "name"), "not impervious"),
    ],
)
def test_schemas_reject_invalid_fields(released, keys, value):
    (path,) = released.glob(f"isa/*2021*{TILE}/*.json")
    invalid: Any = copy.deepcopy(json.loads(path.read_text()))
    inner = invalid
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    assert not jsonschema.Draft7Validator(ITEM).is_valid(invalid)


def test_item_describes_its_map(released, items):
    assert sorted(items) == [
        f"isa-2021-{TILE}",
        f"isa-2023-{TILE}",
        "mosaics-2021-Hefei",
        "mosaics-2023-Hefei",
    ]
    item = items[f"isa-2021-{TILE}"]
    asset = item.assets["map"]
    path = Path(asset.get_absolute_href() or "")
    content = path.read_bytes()
    assert path.resolve() == released.parent / f"isa/2021/{TILE}.tif"
    assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    assert asset.extra_fields["file:size"] == len(content)
    assert item.properties["proj:code"] == "EPSG:32650"
    assert item.properties["proj:shape"] == [2, 2]
    assert item.common_metadata.start_datetime and item.common_metadata.start_datetime.year == 2021
    # 660 km east, 3544 km north in zone 50N.
    assert item.bbox == pytest.approx([118.69, 32.02, 118.69, 32.02], abs=0.02)


def test_nodata_pixels_are_counted_and_excluded_from_the_mean(items):
    fields = items[f"isa-2021-{TILE}"].assets["map"].extra_fields
    classes = {each["value"]: (each["count"], each["percentage"]) for each in fields["classification:classes"]}
    assert classes == {0: (1, 25.0), 1: (2, 50.0), 255: (1, 25.0)}
    assert fields["statistics"] == {"minimum": 0, "maximum": 1, "mean": 0.666667, "count": 3, "valid_percent": 75.0}


def test_item_links_its_inputs(released, items):
    links = {link.title: link for link in items[f"isa-2021-{TILE}"].get_links("derived_from")}
    assert sorted(links) == ["composites", "segmentation"]  # the other network is not in the results folder
    composite = Path(links["composites"].get_absolute_href() or "").resolve()
    assert composite == released.parent / f"sentinel2/composites/2021/{TILE}.tif"
    assert links["composites"].extra_fields["file:checksum"][4:] == hashlib.sha256(composite.read_bytes()).hexdigest()
    (parent,) = items["mosaics-2021-Hefei"].get_links("derived_from")
    assert parent.resolve_stac_object().target.id == f"isa-2021-{TILE}"


def _names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for each in value.values() for name in _names(each)}
    return {name for each in value for name in _names(each)} if isinstance(value, list) else set()
