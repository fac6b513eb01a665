"""Resume of an interrupted verification, and the command `audit verify`."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command import run_command
from support.tampering import findings

from jointseg.audit import hashing
from jointseg.audit.verify import PASS, verify_results
from jointseg.runtime.errors import DataError


@pytest.fixture
def single_file_batches(monkeypatch):
    monkeypatch.setattr(hashing, "BATCH_FILES", 1)
    time.sleep(2 * hashing.SETTLE_SECONDS)  # checksums of younger files are not saved


def interrupt(results: Path, after: int = 2) -> None:
    """Interrupt an audit, like Ctrl-C, after a number of files."""
    calls: list[int] = []

    def advance(count: int) -> None:
        calls.append(count)
        if count and len(calls) > after:
            time.sleep(0.5)  # until the main thread has added the completed files
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_results(results, workers=1, advance=advance)
    assert (results / PASS).is_file()


def test_interrupted_pass_is_resumed(results, single_file_batches):
    interrupt(results)
    report = verify_results(results, resume=True)
    assert report.findings == [] and report.resumed == 1
    assert not (results / PASS).exists()


def test_without_resume_everything_is_hashed(results, single_file_batches):
    interrupt(results)
    with sqlite3.connect(results / PASS) as base:
        base.execute("update hashes set sha256 = 'untrue'")
    base.close()
    assert [kind for kind, *_ in findings(results, resume=True)] == ["changed"]  # it uses the saved checksum
    interrupt(results)
    with sqlite3.connect(results / PASS) as base:
        base.execute("update hashes set sha256 = 'untrue'")
    base.close()
    assert findings(results) == [] and verify_results(results, resume=True).resumed == 0


def test_resumed_pass_hashes_modified_files(results, single_file_batches):
    interrupt(results)
    for path in ("total.txt", "maps/a/one.txt", "maps/a/sub/two.txt"):
        status = (results / path).stat()
        (results / path).write_text("x" * status.st_size)
        os.utime(results / path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert {kind for kind, *_ in findings(results, resume=True)} == {"changed"}
    assert len(findings(results)) == 3


def test_killed_pass_is_resumed(results):
    code = f"""if True:
    import os, signal, sqlite3, time
    from pathlib import Path
    from jointseg.audit import hashing, verify
    hashing.BATCH_FILES, hashing.SAVE_INTERVAL_S, calls = 1, 0, []
    def saved():
        try:
            return sqlite3.connect({str(results / PASS)!r}).execute("select count(*) from hashes").fetchone()[0]
        except sqlite3.OperationalError:
            return 0
    def advance(count):
        calls.append(count)
        while len(calls) == 4:
            if saved() == 2:  # of three files
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)
    verify.verify_results(Path({str(results)!r}), workers=1, advance=advance)
    """
    time.sleep(2 * hashing.SETTLE_SECONDS)
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -signal.SIGKILL
    report = verify_results(results, resume=True)
    assert report.findings == [] and report.resumed == 2


def test_unreadable_pass_is_ignored(results):
    (results / PASS).parent.mkdir(exist_ok=True)
    (results / PASS).write_text("not a database, but longer than the header of one " * 20)
    report = verify_results(results, resume=True)
    assert report.findings == [] and report.resumed == 0


def test_command_verify(results, capsys):
    assert run_command("audit", "verify", results) == 0
    assert "every file matches its manifest" in capsys.readouterr().out
    (results / "maps/a/one.txt").write_text("ONE")
    assert run_command("audit", "verify", results) == 1
    output = capsys.readouterr().out
    assert "changed: content differs from the checksum in its manifest" in output
    assert "1 further outputs derive from these" in output
    assert run_command("audit", "verify", results, "--json") == 1
    record = json.loads(capsys.readouterr().out)
    assert record["counts"] == {"changed": 1} and record["descendants"] == ["total.txt"]
    assert record["release"] is None and not record["clean"] and "hashes" not in record


def test_results_folder_of_local_config(results, tmp_path, capsys):
    with pytest.raises(DataError, match=r"config\.yaml does not exist in the working directory"):
        run_command("audit", "verify")
    (tmp_path / "config.yaml").write_text("results: results/toy\n")
    assert run_command("audit", "verify") == 0
    for text, reason in (("other: 1\n", "no key `results`"), ("[", "is not YAML")):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(DataError, match=reason):
            run_command("audit", "verify")


def test_interrupted_command_prints_resume_command(results, capsys, monkeypatch):
    def stopped(*_, **__):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("jointseg.audit.verify.verify_results", stopped)
    assert run_command("audit", "verify", results) == 130
    assert f"jointseg audit verify {results} --resume" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
