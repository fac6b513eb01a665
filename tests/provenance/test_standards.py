"""The release, read by what others wrote to check such files: the RO-Crate validator and the messages of in-toto.

The validator asks the web for the JSON-LD context of RO-Crate 1.1. It gets the one of 1.3 that `rocrate` brings along,
with the four Bioschemas terms as 1.1 has them: these are all in which the two differ for the terms of a release.
"""

import importlib.resources
import io
import json
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from google.protobuf.json_format import ParseDict, ParseError
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from rocrate_validator import models, services
from support.provenance_release import TILE

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
BIOSCHEMAS = "https://bioschemas.org/"
TERMS = {
    "ComputationalWorkflow": f"{BIOSCHEMAS}ComputationalWorkflow",
    "FormalParameter": f"{BIOSCHEMAS}FormalParameter",
    "input": f"{BIOSCHEMAS}ComputationalWorkflow#input",
    "output": f"{BIOSCHEMAS}ComputationalWorkflow#output",
}
PROFILES = ["ro-crate-1.1", "process-run-crate-0.5", "workflow-ro-crate-1.0", "workflow-run-crate-0.5"]


class _Shelf(HTTPAdapter):
    """Answers every request with one document."""

    def __init__(self, document: bytes) -> None:
        super().__init__()
        self.document = document

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        headers = {"Content-Type": "application/ld+json"}
        body = urllib3.HTTPResponse(io.BytesIO(self.document), headers, 200, preload_content=False)
        return self.build_response(request, body)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A cache of the validator that holds the context."""
    document = json.loads(importlib.resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_text())
    document["@context"] |= TERMS
    path = tmp_path_factory.mktemp("cache") / "http"
    with CachedSession(cache_name=str(path), backend="sqlite", expire_after=-1) as session:
        session.mount(CONTEXT, _Shelf(json.dumps(document).encode()))
        session.get(CONTEXT)
    return path


def issues(crate: Path, profile: str, cache: Path) -> list[str]:
    """What a crate lacks that a profile requires."""
    settings = services.ValidationSettings(
        rocrate_uri=str(crate),
        profile_identifier=profile,
        requirement_severity=models.Severity.REQUIRED,
        offline=True,
        cache_path=cache,
    )
    return [f"{issue.check.identifier}: {issue.message}" for issue in services.validate(settings).get_issues()]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_crate_has_what_its_profiles_require(released, cache, profile):
    assert issues(released, profile, cache) == []


def test_the_validator_notices_a_run_without_its_workflow(released, cache, tmp_path):
    crate = json.loads((released / "ro-crate-metadata.json").read_text())
    crate["@graph"] = [each for each in crate["@graph"] if each["@id"] != "#run"]
    root = next(each for each in crate["@graph"] if each["@id"] == "./")
    root["mentions"] = [each for each in root["mentions"] if each["@id"] != "#run"]
    (tmp_path / "ro-crate-metadata.json").write_text(json.dumps(crate))
    assert any("mainEntity as its instrument" in each for each in issues(tmp_path, PROFILES[-1], cache))


def test_the_statement_is_one_of_in_toto(released):
    written = json.loads((released / "provenance.intoto.json").read_text())
    Statement.copy_from_pb(ParseDict(written, Message())).validate()
    provenance = ParseDict(written["predicate"], Provenance())
    assert provenance.build_definition.build_type and provenance.run_details.builder.id
    assert f"isa/2021/{TILE}.tif" in {each["name"] for each in written["subject"]}
    with pytest.raises(ParseError):
        ParseDict({**written["predicate"], "started": "2030"}, Provenance())
