"""The in-toto statement of a release, checked against the requirements of in-toto and SLSA."""

import copy
import json
from typing import Any

import jsonschema
import pytest
from support.provenance_release import TILE, make, publish
from support.tree_digest import tree_digest

from jointseg.provenance.digest import file_digest

HEX = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
TYPE_URI = {"type": "string", "pattern": "^[a-z][a-z0-9+.-]*:[^ ]+$"}
RESOURCE = {
    "type": "object",
    "required": ["name", "digest"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "digest": {
            "type": "object",
            "minProperties": 1,
            "properties": {"sha256": HEX, "sha256sumTree": HEX, "gitCommit": {"pattern": "^[0-9a-f]{40}$"}},
            "additionalProperties": False,
        },
        "annotations": {"type": "object"},
    },
    "additionalProperties": False,
}
DEFINITION = {
    "required": ["buildType", "externalParameters"],
    "properties": {
        "buildType": TYPE_URI,
        "externalParameters": {"required": ["workflow", "configuration"], "additionalProperties": {"type": "string"}},
        "internalParameters": {"type": "object"},
        "resolvedDependencies": {"type": "array", "items": RESOURCE},
    },
    "additionalProperties": False,
}
DETAILS = {
    "required": ["builder"],
    "properties": {
        "builder": {
            "required": ["id"],
            "properties": {"id": TYPE_URI, "version": {"additionalProperties": {"type": "string"}}},
        },
        "metadata": {"properties": {"invocationId": {"type": "string"}}, "additionalProperties": False},  # no times
    },
    "additionalProperties": False,
}
STATEMENT = {
    "type": "object",
    "required": ["_type", "subject", "predicateType", "predicate"],
    "properties": {
        "_type": {"const": "https://in-toto.io/Statement/v1"},
        "subject": {"type": "array", "minItems": 1, "items": RESOURCE},
        "predicateType": {"const": "https://slsa.dev/provenance/v1"},
        "predicate": {
            "required": ["buildDefinition", "runDetails"],
            "properties": {"buildDefinition": DEFINITION, "runDetails": DETAILS},
        },
    },
    "additionalProperties": False,
}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make()


def read(results) -> dict[str, Any]:
    return json.loads((publish(results) / "provenance.intoto.json").read_text())


def test_statement_matches_schema(results):
    statement = read(results)
    jsonschema.Draft7Validator(STATEMENT).validate(statement)
    for key in ("subject", "predicateType"):
        incomplete = copy.deepcopy(statement)
        del incomplete[key]
        assert not jsonschema.Draft7Validator(STATEMENT).is_valid(incomplete)


def test_subjects_are_the_maps(results):
    subjects = {each["name"]: each["digest"]["sha256"] for each in read(results)["subject"]}
    maps = [path for kind in ("isa", "mosaics") for path in (results / kind).rglob("*.tif")]
    assert subjects == {path.relative_to(results).as_posix(): file_digest(path) for path in maps}
    assert f"isa/2021/{TILE}.tif" in subjects


def test_dependencies_are_external_inputs(results, tmp_path):
    definition = read(results)["predicate"]["buildDefinition"]
    found = {each["name"]: each["digest"] for each in definition["resolvedDependencies"]}
    assert found["archive"] == {"sha256sumTree": tree_digest(tmp_path / "archive")[1]}
    assert found["superres.safetensors"] == {"sha256": file_digest(tmp_path / "pretrained/superres.safetensors")}
    for parameter in definition["externalParameters"].values():
        assert found[parameter] == {"sha256": file_digest(results / "release" / parameter)}
    assert not any(TILE in name for name in found), "outputs of the run are no dependencies"


def test_invocation_id_depends_on_content_not_on_time(results):
    def invocation() -> str:
        return read(results)["predicate"]["runDetails"]["metadata"]["invocationId"]

    first, path = invocation(), results / f"manifests/predict/2021/{TILE}.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"finished": "2030-01-01T00:00:00Z", "host": "other"}))
    assert invocation() == first
    path.write_text(json.dumps(record | {"params": {"batch": 3}}))
    assert invocation() != first
