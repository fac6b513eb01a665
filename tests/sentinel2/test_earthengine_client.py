"""Credentials, project and connection of the Earth Engine client, against a test server."""

import json

import ee
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support.loopback_archive import write_tiny_archive
from support.loopback_earthengine import EarthEngineServer
from support.tiny_sentinel2 import catalogue, listing

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import earthengine, earthengine_client
from jointseg.sentinel2.scenes import scenes

EPSG = 32650


@pytest.fixture
def server(tmp_path):
    with EarthEngineServer(catalogue(write_tiny_archive(tmp_path / "archive"))).serving() as server:
        yield server


def source(server, **more):
    return {"kind": "earthengine", "project": "p", "url": server.url} | more


@pytest.mark.parametrize(
    ("status", "message"), [(401, "rejects the credentials"), (403, "'p' has no access to its alg")]
)
def test_rejected_credentials_and_project_are_errors(tmp_path, status, message):
    server = EarthEngineServer(catalogue(write_tiny_archive(tmp_path / "archive")))
    server.startup_status = status
    earthengine_client._initialized.cache_clear()
    ee.Reset()
    with server.serving(), pytest.raises(DataError, match=message):
        scenes(scenes=tmp_path / "s.json", **listing(source=source(server)))


def test_unreachable_server_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(ee.data._get_state(), "max_retries", 0)
    with pytest.raises(DataError, match=r"does not accept project 'p' at http://127.0.0.1:9 \(the connection broke"):
        earthengine.EarthEngineReader({"project": "p", "url": "http://127.0.0.1:9"}, EPSG)


def test_missing_project_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"source\.project is not set"):
        scenes(scenes=tmp_path / "s.json", **listing(source={"kind": "earthengine"}))


def test_missing_or_invalid_key_file_is_an_error(tmp_path):
    key = {"kind": "earthengine", "project": "p", "service_account": str(tmp_path / "key.json")}
    with pytest.raises(DataError, match=r"key file .*key\.json does not exist"):
        scenes(scenes=tmp_path / "s.json", **listing(source=key))
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(DataError, match=r"key\.json is not a key file of a service account \(.*\); download"):
        scenes(scenes=tmp_path / "s.json", **listing(source=key))


def test_service_account_is_used_and_its_rejection_is_an_error(server, tmp_path):
    secret = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    key = {"type": "service_account", "private_key": pem, "private_key_id": "1", "client_email": "a@p.example"}
    (tmp_path / "key.json").write_text(json.dumps(key | {"token_uri": f"{server.url}/token", "project_id": "p"}))
    settings = source(server, service_account=str(tmp_path / "key.json"))
    server.token = "ya29"
    scenes(scenes=tmp_path / "s.json", **listing(source=settings))
    assert server.requests["/token"] and server.requests["compute"] == 1
    earthengine_client._initialized.cache_clear()
    ee.Reset()
    server.token = None
    with pytest.raises(DataError, match=r"rejects the credentials \(.*account not found.*\); run `earthengine auth"):
        scenes(scenes=tmp_path / "s.json", **listing(source=settings))
    earthengine_client._initialized.cache_clear()
    ee.Reset()
