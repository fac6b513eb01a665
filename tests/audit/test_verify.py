"""The audit finds what is not as the manifests say, and nothing else."""

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.provenance_flow import make
from support.tampering import edit, flip_many, told

from jointseg.audit import hashing, releases
from jointseg.audit.verify import PASS, verify_results
from jointseg.cli.commands import add_subcommands
from jointseg.cli.commands import verify as verb
from jointseg.provenance.digest import Entry, tree_hash
from jointseg.provenance.manifest import read, sealed
from jointseg.runtime.errors import DataError

LONG_AGO = 1_600_000_000


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make()
    (tmp_path / "results/toy/maps/a/.snakemake_timestamp").write_text("")
    (tmp_path / "results/toy/benchmarks").mkdir()
    (tmp_path / "results/toy/benchmarks/maps.tsv").write_text("s\n1\n")
    return tmp_path / "results/toy"


@pytest.fixture
def released(results):
    releases.write(results, verify_results(results).hashes, "the first", None)
    return results


def test_an_untouched_folder_is_clean(results):
    report = verify_results(results)
    assert report.findings == []
    assert (report.files, report.manifests, report.outside_inputs) == (3, 2, 1)
    assert report.bytes == len("one" + "two" + "one.txttwo.txt")
    assert report.as_json()["clean"] is True


def test_a_moved_folder_is_clean(results, tmp_path, monkeypatch):
    shutil.move(results, tmp_path / "elsewhere")
    monkeypatch.chdir("/")
    assert told(tmp_path / "elsewhere") == []


def test_missing(results):
    (results / "maps/a/sub/two.txt").unlink()
    assert told(results) == [("missing", "maps/a/sub/two.txt", "maps/a")]


def test_changed(results):
    (results / "total.txt").write_text("something else")
    assert told(results) == [("changed", "total.txt", "total")]


def test_swapped_with_their_dates_kept(results):
    one, two = results / "maps/a/one.txt", results / "maps/a/sub/two.txt"
    one.write_text("two")
    two.write_text("one")
    for path in (one, two):
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert told(results) == [("swapped", "maps/a/one.txt", "maps/a"), ("swapped", "maps/a/sub/two.txt", "maps/a")]
    first, second = verify_results(results).findings
    assert "its bytes are those of maps/a/sub/two.txt" in first.detail
    assert "its bytes are those of maps/a/one.txt" in second.detail
    assert "its date is older than the change" in first.detail


def test_same_size_and_date(results):
    path = results / "total.txt"
    os.utime(path, (LONG_AGO, LONG_AGO))
    path.write_text("x" * path.stat().st_size)
    os.utime(path, (LONG_AGO, LONG_AGO))
    (finding,) = verify_results(results).findings
    assert (finding.kind, finding.path) == ("changed", "total.txt")
    assert finding.detail.endswith("its date is older than the change") and "bytes instead" not in finding.detail


def test_a_date_after_the_job_is_not_remarked_on(results):
    path = results / "total.txt"
    path.write_text("something else")
    os.utime(path, (time.time() + 60, time.time() + 60))
    assert "older" not in verify_results(results).findings[0].detail


def test_an_emptied_file_is_not_called_swapped(results):
    (results / "maps/a/one.txt").write_text("")
    assert told(results) == [("changed", "maps/a/one.txt", "maps/a")]


def test_made_by_nobody(results):
    (results / "maps/a/three.txt").write_text("three")
    (results / "manifests/note.txt").write_text("note")
    assert told(results) == [("undeclared", "manifests/note.txt", ""), ("undeclared", "maps/a/three.txt", "")]


@pytest.mark.parametrize("signed", [False, True])
def test_two_hundred_single_bits(results, tmp_path, signed):
    key = None
    if signed:
        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    for message in ("first", "second"):
        releases.write(results, verify_results(results).hashes, message, key)
    flips = flip_many(results, 200, seed=7)
    assert flips == {".": 50, "manifests": 50, "maps": 50, "releases": 50}


def test_how_many_outputs_descend(results):
    (results / "maps/a/one.txt").write_text("ONE")
    assert verify_results(results).descendants == ["total.txt"]
    (results / "total.txt").write_text("TOTAL")
    assert verify_results(results).descendants == []


def test_edited_parameters(results):
    edit(results / "manifests/total.json", lambda written: written["params"].update(factor=3))
    assert told(results) == [("edited", "manifests/total.json", "total")]
    assert "it has no seal" in verify_results(results).findings[0].detail


def test_a_seal_that_does_not_hold(results):
    file = results / "manifests/maps/a.json"
    file.write_text(file.read_text().replace('"factor": 2', '"factor": 3'))
    report = verify_results(results)
    assert [(each.kind, each.path) for each in report.findings] == [("edited", "manifests/maps/a.json")]
    assert report.descendants == ["total.txt"]


def fit(results: Path) -> None:
    """Changes a file and its manifest to fit, and seals the manifest again."""
    (results / "total.txt").write_text("better figures")
    entry = hashing.hash_files(results, {"total.txt": 14}, hashing.HashingPass(results / PASS))["total.txt"]
    change = {"sha256": entry.sha256, "size": entry.size}
    edit(results / "manifests/total.json", lambda written: written["outputs"][0].update(change), sealed)


def test_sealed_again_by_an_attacker_is_found_by_the_root(released):
    fit(released)
    assert told(released) == [("unreleased", "manifests/total.json", "")]


def test_sealed_again_without_a_release_is_beyond_an_audit(results):
    fit(results)
    assert told(results) == []


def test_a_hash_edited_to_fit_a_changed_file(results):
    (results / "maps/a/one.txt").write_text("ONE")
    digest = hashing.hash_files(results, {"maps/a/one.txt": 3}, hashing.HashingPass(results / PASS))[
        "maps/a/one.txt"
    ].sha256
    edit(
        results / "manifests/maps/a.json",
        lambda written: written["outputs"][0]["files"][0].update(sha256=digest),
        sealed,
    )
    assert told(results) == [("edited", "manifests/maps/a.json", "maps/a")]  # the list is not that of its hash

    def fit_folder(written: dict) -> None:
        output = written["outputs"][0]
        output["sha256"] = tree_hash(Entry(**each) for each in output["files"])

    edit(results / "manifests/maps/a.json", fit_folder, sealed)
    assert told(results) == [("inconsistent", "maps/a", "total")]


def test_manifests_swapped(results):
    one, two = results / "manifests/maps/a.json", results / "manifests/total.json"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert told(results) == [
        ("swapped", "manifests/maps/a.json", "maps/a"),
        ("swapped", "manifests/total.json", "total"),
    ]


def test_an_edited_manifest_does_not_speak_for_the_files_of_others(results):
    edit(results / "manifests/maps/a.json", lambda written: written["outputs"][0].update(path="results/toy/total.txt"))
    kinds = {(kind, path) for kind, path, _ in told(results)}
    assert ("edited", "manifests/maps/a.json") in kinds and ("changed", "total.txt") not in kinds


def test_descended_from_another_version(results):
    (results / "maps/a/one.txt").write_text("ONE")
    file = results / "manifests/maps/a.json"
    written = json.loads(file.read_text())
    written["outputs"][0]["sha256"] = "0" * 64
    written["outputs"][0]["files"][0]["sha256"] = "0" * 64
    file.write_text(sealed(written))
    assert ("inconsistent", "maps/a", "total") in told(results)


def test_an_input_without_a_maker(results):
    (results / "manifests/maps/a.json").unlink()
    assert told(results) == [
        ("inconsistent", "maps/a", "total"),
        ("undeclared", "maps/a/one.txt", ""),
        ("undeclared", "maps/a/sub/two.txt", ""),
    ]


def test_two_manifests_that_disagree(results):
    written = json.loads((results / "manifests/total.json").read_text())
    written["outputs"][0]["sha256"] = "0" * 64
    (results / "manifests/zotal.json").write_text(json.dumps(written))
    assert ("conflicting", "total.txt", "zotal") in told(results)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "jointseg/manifest/1"}', '{"schema": "other"}', "\xff"])
def test_a_broken_manifest_is_named(results, text):
    file = results / "manifests/total.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"total\.json"):
        read(file)
    assert told(results) == [
        ("unreadable", "manifests/total.json", "manifests/total.json"),
        ("undeclared", "total.txt", ""),
    ]


def test_an_unreadable_file_is_a_finding(results):
    (results / "total.txt").unlink()
    (results / "total.txt").symlink_to("nowhere")
    assert told(results) == [("changed", "total.txt", "total")]


def test_a_folder_without_manifests_is_refused(tmp_path):
    with pytest.raises(DataError, match="manifests"):
        verify_results(tmp_path)


def test_progress_counts_every_byte(results):
    counted: list[int] = []
    totals: list[int] = []
    report = verify_results(results, on_start=totals.append, advance=counted.append)
    assert totals == [report.bytes] == [sum(counted)]


def test_a_pipe_instead_of_a_file(results):
    (results / "total.txt").unlink()
    os.mkfifo(results / "total.txt")
    assert told(results) == [("changed", "total.txt", "total")]


def test_a_folder_moved_to_another_disk_behind_a_link(results, tmp_path):
    shutil.move(results / "maps", tmp_path / "maps")
    (results / "maps").symlink_to(tmp_path / "maps")
    (tmp_path / "maps/a/round").symlink_to(tmp_path / "maps")
    assert told(results) == []
    (tmp_path / "maps/a/one.txt").write_text("ONE")
    assert told(results) == [("changed", "maps/a/one.txt", "maps/a")]


@pytest.fixture
def one_by_one(monkeypatch):
    monkeypatch.setattr(hashing, "BATCH_FILES", 1)
    time.sleep(2 * hashing.SETTLE_SECONDS)  # younger files are not remembered


def interrupt(results: Path, after: int = 2) -> None:
    """Stops an audit like Ctrl-C at the n-th file."""
    calls: list[int] = []

    def advance(count: int) -> None:
        calls.append(count)
        if count and len(calls) > after:
            time.sleep(0.5)  # for the main thread to take in what is done
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_results(results, workers=1, advance=advance)
    assert (results / PASS).is_file()


def test_an_interrupted_pass_goes_on(results, one_by_one):
    interrupt(results)
    report = verify_results(results, resume=True)
    assert report.findings == [] and report.resumed == 1
    assert not (results / PASS).exists()


def test_without_resume_everything_is_hashed(results, one_by_one):
    interrupt(results)
    with sqlite3.connect(results / PASS) as base:
        base.execute("update hashes set sha256 = 'untrue'")
    base.close()
    assert [kind for kind, *_ in told(results, resume=True)] == ["changed"]  # it believes what it has been told
    interrupt(results)
    with sqlite3.connect(results / PASS) as base:
        base.execute("update hashes set sha256 = 'untrue'")
    base.close()
    assert told(results) == [] and verify_results(results, resume=True).resumed == 0


def test_a_resumed_pass_hashes_what_was_touched_since(results, one_by_one):
    interrupt(results)
    for path in ("total.txt", "maps/a/one.txt", "maps/a/sub/two.txt"):
        status = (results / path).stat()
        (results / path).write_text("x" * status.st_size)
        os.utime(results / path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert {kind for kind, *_ in told(results, resume=True)} == {"changed"}
    assert len(told(results)) == 3


def test_a_killed_pass_goes_on(results):
    code = f"""if True:
    import os, signal, sqlite3, time
    from pathlib import Path
    from jointseg.audit import hashing, verify
    hashing.BATCH_FILES, hashing.KEEP_SECONDS, calls = 1, 0, []
    def kept():
        try:
            return sqlite3.connect({str(results / PASS)!r}).execute("select count(*) from hashes").fetchone()[0]
        except sqlite3.OperationalError:
            return 0
    def advance(count):
        calls.append(count)
        while len(calls) == 4:
            if kept() == 2:  # of the three files, the third being read
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)
    verify.audit(Path({str(results)!r}), workers=1, advance=advance)
    """
    time.sleep(2 * hashing.SETTLE_SECONDS)
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -signal.SIGKILL
    report = verify_results(results, resume=True)
    assert report.findings == [] and report.resumed == 2


def test_a_pass_that_cannot_be_read_is_forgotten(results):
    (results / PASS).parent.mkdir(exist_ok=True)
    (results / PASS).write_text("not a database, and long enough to be taken for one " * 20)
    report = verify_results(results, resume=True)
    assert report.findings == [] and report.resumed == 0


def call(*arguments: str) -> int:
    """The verb, as `jointseg audit verify` calls it."""
    parser = argparse.ArgumentParser()
    verb.add(add_subcommands(parser))
    given = parser.parse_args(["verify", *map(str, arguments)])
    return given.handler(given)


def test_the_verb(results, capsys):
    assert call(results) == 0
    assert "every file matches its manifest" in capsys.readouterr().out
    (results / "maps/a/one.txt").write_text("ONE")
    assert call(results) == 1
    said = capsys.readouterr().out
    assert "changed: other bytes than its manifest says" in said and "1 further outputs derive from these" in said
    assert call(results, "--json") == 1
    written = json.loads(capsys.readouterr().out)
    assert written["counts"] == {"changed": 1} and written["descendants"] == ["total.txt"]
    assert written["release"] is None and not written["clean"] and "hashes" not in written


def test_the_results_of_the_config_here(results, tmp_path, capsys):
    with pytest.raises(DataError, match=r"config\.yaml does not exist here"):
        call()
    (tmp_path / "config.yaml").write_text("results: results/toy\n")
    assert call() == 0
    for text, why in (("other: 1\n", "no key `results`"), ("[", "is not YAML")):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(DataError, match=why):
            call()


def test_an_interrupted_verb_says_how_to_go_on(results, capsys, monkeypatch):
    def stopped(*_, **__):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("jointseg.audit.verify.verify_results", stopped)
    assert call(results) == 130
    assert f"jointseg audit verify {results} --resume" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
