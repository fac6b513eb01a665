"""The release, checked with the RO-Crate validator and the protobuf messages of in-toto.

The validator requests the JSON-LD context of RO-Crate 1.1 from the web. The tests serve the context of 1.3 from the package
`rocrate` instead, with the four Bioschemas terms of 1.1: the only terms of a release in which the versions differ.
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


class _StaticAdapter(HTTPAdapter):
    """Respond to every request with the same document."""

    def __init__(self, document: bytes) -> None:
        super().__init__()
        self.document = document

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        headers = {"Content-Type": "application/ld+json"}
        body = urllib3.HTTPResponse(io.BytesIO(self.document), headers, 200, preload_content=False)
        return self.build_response(request, body)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """HTTP cache of the validator with the JSON-LD context."""
    document = json.loads(importlib.resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_text())
    document["@context"] |= TERMS
    path = tmp_path_factory.mktemp("cache") / "http"
    with CachedSession(cache_name=str(path), backend="sqlite", expire_after=-1) as session:
        session.mount(CONTEXT, _StaticAdapter(json.dumps(document).encode()))
        session.get(CONTEXT)
    return path


def issues(crate: Path, profile: str, cache: Path) -> list[str]:
    """Violations of the requirements of a profile."""
    settings = services.ValidationSettings(
        rocrate_uri=str(crate),
        profile_identifier=profile,
        requirement_severity=models.Severity.REQUIRED,
        offline=True,
        cache_path=cache,
    )
    return [f"{issue.check.identifier}: {issue.message}" for issue in services.validate(settings).get_issues()]


@pytest.mark.parametrize("profile", PROFILES)
def test_crate_is_valid_for_profile(released, cache, profile):
    assert issues(released, profile, cache) == []


def test_validator_rejects_run_without_workflow(released, cache, tmp_path):
    crate = json.loads((released / "ro-crate-metadata.json").read_text())
    crate["@graph"] = [each for each in crate["@graph"] if each["@id"] != "#run"]
    root = next(each for each in crate["@graph"] if each["@id"] == "./")
    root["mentions"] = [each for each in root["mentions"] if each["@id"] != "#run"]
    (tmp_path / "ro-crate-metadata.json").write_text(json.dumps(crate))
    assert any("mainEntity as its instrument" in each for each in issues(tmp_path, PROFILES[-1], cache))


def test_statement_is_valid_in_toto(released):
    statement = json.loads((released / "provenance.intoto.json").read_text())
    Statement.copy_from_pb(ParseDict(statement, Message())).validate()
    provenance = ParseDict(statement["predicate"], Provenance())
    assert provenance.build_definition.build_type and provenance.run_details.builder.id
    assert f"isa/2021/{TILE}.tif" in {each["name"] for each in statement["subject"]}
    with pytest.raises(ParseError):
        ParseDict({**statement["predicate"], "started": "2030"}, Provenance())
