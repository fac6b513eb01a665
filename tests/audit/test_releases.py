"""The release history: tree hash, chain, signatures and unreleased changes."""

import fcntl
import json
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from support.command import run_command
from support.tampering import edit, findings, replace_entries

from jointseg.audit import merkle, releases, signature
from jointseg.audit.signature import AllowedSigners
from jointseg.audit.verify import verify_results
from jointseg.provenance.manifest import is_sealed, sealed
from jointseg.run import lock
from jointseg.runtime.errors import DataError

# Test vectors of Certificate Transparency implementations.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("alice", "mallory"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
        subprocess.run(command, check=True)
    public = (folder / "alice.pub").read_text()
    (folder / "signers").write_text(f"alice@example.org {public}bob@example.org {public}")
    return {path.name: path for path in folder.iterdir()}


def released(results: Path, key: Path | None = None, message: str = "") -> releases.Release:
    return releases.write(results, verify_results(results).hashes, message, key)


@pytest.mark.parametrize("count", range(len(ROOTS)))
def test_tree_hash_of_rfc_6962(count):
    assert merkle.tree_hash([bytes.fromhex(leaf) for leaf in LEAVES[:count]]).hex() == ROOTS[count]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 33, 100])
def test_tree_hash_equals_recursive_definition(count):
    def recursive_hash(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return sha256(b"\0" + leaves[0]).digest()
        split = 1
        while split * 2 < len(leaves):
            split *= 2
        return sha256(b"\1" + recursive_hash(leaves[:split]) + recursive_hash(leaves[split:])).digest()

    leaves = [str(number).encode() for number in range(count)]
    assert merkle.tree_hash(leaves) == recursive_hash(leaves)


def test_root_depends_on_paths_and_hashes():
    own = merkle.root({"b": "1", "a": "2"})
    assert own == merkle.root({"a": "2", "b": "1"}) == merkle.tree_hash([b"a\x002", b"b\x001"]).hex()
    assert own != merkle.root({"a": "1", "b": "2"})


def test_release_records_manifests_and_previous_release(results):
    first = released(results, message="the first")
    assert first.file == results / "releases/0001.json" and is_sealed(first.file.read_bytes())
    record = json.loads(first.file.read_text())
    files = {path.relative_to(results).as_posix(): path.read_bytes() for path in results.glob("manifests/**/*.json")}
    assert record["leaves"] == {path: sha256(content).hexdigest() for path, content in files.items()}
    assert record["root"] == merkle.root(record["leaves"])
    assert (record["number"], record["message"], record["previous"]) == (1, "the first", None)
    second = released(results)
    digest = sha256(first.file.read_bytes()).hexdigest()
    assert second.record["previous"] == {"file": "0001.json", "sha256": digest}
    report = verify_results(results)
    assert report.findings == [] and report.release.number == 2
    assert report.release.as_json()["changes"] == {"added": [], "changed": [], "removed": []}


def test_changes_since_the_last_release(results):
    released(results)
    (results / "manifests/maps/a.json").rename(results / "manifests/maps/b.json")
    edit(results / "manifests/maps/b.json", lambda record: record["wildcards"].update(tile="b"), sealed)
    edit(results / "manifests/total.json", lambda record: record["params"].update(more=1), sealed)
    report = verify_results(results)
    assert [(finding.kind, finding.path) for finding in report.findings] == [
        ("unreleased", "manifests/maps/a.json"),
        ("unreleased", "manifests/total.json"),
    ]
    assert report.release.changes.added == ["manifests/maps/b.json"]
    second = released(results).record["since"]
    assert second == {"added": 1, "changed": ["manifests/total.json"], "removed": ["manifests/maps/a.json"]}
    assert findings(results) == []


@pytest.mark.parametrize("number", [1, 2, 3])
def test_edited_release_with_new_seal(results, number):
    for _ in range(3):
        released(results)
    file = results / f"releases/{number:04d}.json"
    replace_entries(file, root="0" * 64)
    assert findings(results) == [("edited", f"releases/{number:04d}.json", "")]
    replace_entries(file, leaves={}, root=merkle.root({}))
    # No later release refers to the last one; only a signature or its published root reveals the change.
    assert findings(results) == ([("edited", f"releases/{number:04d}.json", "")] if number < 3 else [])


def test_release_with_wrong_number(results):
    for _ in range(2):
        released(results)
    replace_entries(results / "releases/0002.json", number=7)
    assert findings(results) == [("edited", "releases/0002.json", "")]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": "jointseg/release/1"}', "[" * 100_000])
def test_unreadable_release(results, text):
    released(results).file.write_text(text)
    report = verify_results(results)
    assert [(finding.kind, finding.path) for finding in report.findings] == [("unreadable", "releases/0001.json")]
    assert report.release.changes is None and report.as_json()["release"]["changes"] is None


def test_missing_release_and_unexpected_file(results):
    for _ in range(3):
        released(results)
    (results / "releases/0002.json").unlink()
    (results / "releases/note.txt").write_text("note")
    assert findings(results) == [("missing", "releases/0002.json", ""), ("undeclared", "releases/note.txt", "")]


def test_published_root_detects_truncated_history(results, capsys):
    first = released(results)
    edit(results / "manifests/total.json", lambda record: record["params"].update(more=1), sealed)
    last = released(results)
    roots = [each.record["root"] for each in (first, last)]
    assert roots[0] != roots[1] and findings(results, root=roots[0]) == findings(results, root=roots[1]) == []
    last.file.unlink()
    edit(results / "manifests/total.json", lambda record: record["params"].pop("more"), sealed)
    assert findings(results) == []
    assert findings(results, root=roots[1]) == [("missing", "releases", "")]
    with pytest.raises(SystemExit):
        run_command("audit", "verify", results, "--root", "5f1c")
    assert "'5f1c' is not a root" in capsys.readouterr().err
    assert run_command("audit", "verify", results, "--root", roots[1].upper()) == 1


def test_signed_release(results, keys):
    released(results, keys["alice"])
    report = verify_results(results)
    (valid,) = report.release.signatures
    assert report.findings == [] and valid["signer"] is None
    assert valid["key"] == signature.fingerprint(keys["alice"]) and valid["key"].startswith("SHA256:")
    for signer in (None, "alice@example.org", "bob@example.org"):
        report = verify_results(results, signers=AllowedSigners(keys["signers"], signer))
        assert report.findings == []
        assert report.release.signatures[0]["signer"] == (signer or "alice@example.org")
    assert findings(results, signers=AllowedSigners(keys["signers"], "eve@example.org")) == [
        ("bad_signature", "releases/0001.json.sig", "")
    ]


def test_signature_by_another_key(results, keys):
    first = released(results, keys["mallory"])
    assert findings(results) == []
    assert findings(results, signers=AllowedSigners(keys["signers"])) == [
        ("bad_signature", "releases/0001.json.sig", "")
    ]
    replace_entries(first.file, message="as if by alice", key=signature.fingerprint(keys["alice"]))
    assert findings(results) == [("bad_signature", "releases/0001.json.sig", "")]  # signed before the edit
    first.signature_file.write_bytes(signature.sign(first.file.read_bytes(), keys["mallory"]))
    assert findings(results) == [("bad_signature", "releases/0001.json.sig", "")]  # the release has another key


def test_unsigned_release(results, keys):
    released(results)
    assert findings(results) == []
    assert findings(results, signers=AllowedSigners(keys["signers"])) == [("unsigned", "releases/0001.json", "")]


def test_missing_history(results, keys):
    assert findings(results, signers=AllowedSigners(keys["signers"])) == [("unsigned", "releases", "")]


def test_missing_signature(results, keys):
    released(results, keys["alice"]).signature_file.unlink()
    assert findings(results) == [("unsigned", "releases/0001.json", "")]


def test_white_space_in_signature_is_significant(results, keys):
    file = released(results, keys["alice"]).signature_file
    file.write_bytes(file.read_bytes().replace(b"\n", b"\v", 2).replace(b"\v", b"\n", 1))
    assert findings(results) == [("bad_signature", "releases/0001.json.sig", "")]


def test_without_ssh_keygen(results, keys, monkeypatch):
    released(results, keys["alice"])
    monkeypatch.setattr(signature, "TOOL", "no-such-tool")
    report = verify_results(results)
    assert report.findings == [] and report.release.unchecked == 1 and report.release.signatures == []
    with pytest.raises(DataError, match="no-such-tool is not installed"):
        verify_results(results, signers=AllowedSigners(keys["signers"]))
    with pytest.raises(DataError, match="install OpenSSH"):
        released(results, keys["alice"])


def test_invalid_key_and_missing_signers_file(results, tmp_path):
    (tmp_path / "note").write_text("note")
    with pytest.raises(DataError, match="cannot read the SSH key"):
        released(results, tmp_path / "note")
    with pytest.raises(DataError, match="allowed signers"):
        verify_results(results, signers=AllowedSigners(tmp_path / "nowhere"))
    assert not (results / "releases/0001.json").exists()


def test_commands_release_and_verify(results, keys, capsys):
    assert run_command("release", results, "--key", keys["alice"], "--message", "first") == 0
    output = capsys.readouterr().out
    assert "releases/0001.json: 2 manifests, 3 files" in output and signature.fingerprint(keys["alice"]) in output
    edit(results / "manifests/total.json", lambda record: record["params"].update(more=1), sealed)
    assert run_command("audit", "verify", results) == 1
    assert "unreleased" in capsys.readouterr().out
    assert run_command("release", results) == 0
    output = capsys.readouterr().out
    assert "since 0001.json: 0 added, 1 changed, 0 removed" in output and "changed manifests/total.json" in output
    assert run_command("release", results, "--json") == 0
    record = json.loads(capsys.readouterr().out)["released"]
    assert record["file"] == "releases/0003.json" and record["previous"]["file"] == "0002.json"
    assert (
        run_command("audit", "verify", results, "--allowed-signers", keys["signers"], "--signer", "alice@example.org")
        == 1
    )
    output = capsys.readouterr().out
    assert "alice@example.org" in output and output.count("it was never signed") == 2
    with pytest.raises(DataError, match="needs --allowed-signers"):
        run_command("audit", "verify", results, "--signer", "alice@example.org")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_release_is_refused_with_findings(results, capsys, form):
    (results / "total.txt").write_text("something else")
    assert run_command("release", results, *form) == 1
    captured = capsys.readouterr()
    assert "changed" in captured.out and "nothing was released" in captured.err
    assert not (results / "releases").exists()


def test_release_is_refused_during_a_run(results):
    path = results / lock.NAME
    path.parent.mkdir(exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(lock.InUseError, match="a run uses"):
            run_command("release", results)
    assert run_command("release", results) == 0


def test_interrupted_release(results, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("jointseg.audit.verify.verify_results", stopped)
    assert run_command("release", results) == 130
    assert not (results / "releases").exists()
