"""`jointseg run` on a small workflow, with the real Snakemake."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jointseg.audit.verify import KINDS
from jointseg.cli import commands
from jointseg.cli.main import main
from jointseg.run import status

SNAKEFILE = """
R = config["results"]
SLEEP = config.get("sleep", 0)

rule all:
    input:
        f"{R}/sum.txt",

rule part:
    output:
        part=f"{R}/parts/{{name}}.txt",
        manifest=f"{R}/manifests/part/{{name}}.json",
    log:
        f"{R}/logs/part/{{name}}.log",
    params:
        sleep=SLEEP,
        words=["a", "b"],
        table={"x": 1},
        code="c0de",
    message:
        "Writing part {wildcards.name}"
    script:
        "step.py"

rule sum:
    input:
        parts=[f"{R}/parts/one.txt"],
        other=lambda wildcards: [],
    output:
        total=f"{R}/sum.txt",
        manifest=f"{R}/manifests/sum.json",
    log:
        f"{R}/logs/sum.log",
    params:
        code="c0de",
    message:
        "Computing the sum"
    script:
        "step.py"
"""
STEP = """
import sys
sys.path.insert(0, {folder!r})
import toy_steps
from jointseg.provenance.job_record import run_job
run_job(snakemake, getattr(toy_steps, snakemake.rule))
"""
TOY_STEPS = """
import time
from pathlib import Path
from jointseg.runtime import progress
from jointseg.runtime.files import atomic_write
from jointseg.runtime.errors import DataError, TransientError

def part(*, part, name, sleep, words, table):
    assert words == ["a", "b"] and type(words) is list and table == {"x": 1}
    with open("attempts", "a") as attempts:
        attempts.write(".")
    if Path("bad").exists():
        raise DataError("the file bad exists; remove it")
    if Path("offline").exists():
        Path("offline").unlink()
        raise TransientError("no response from the server")
    with atomic_write(part) as half:
        half.write_text(name)
        Path("begun").write_text("")
        for _ in progress.track(range(10), "sleeping"):
            time.sleep(sleep / 10)

def sum(*, parts, total, other=None):
    assert other is None
    with atomic_write(total) as half:
        half.write_text("".join(path.read_text() for path in parts))
"""


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "step.py").write_text(STEP.format(folder=str(tmp_path)))
    (tmp_path / "toy_steps.py").write_text(TOY_STEPS)
    (tmp_path / "config.yaml").write_text("results: results/toy\n")
    return tmp_path


RUN = [sys.executable, "-m", "jointseg.cli.main", "run", "config.yaml", "--snakefile", "Snakefile"]


def command(*more: str) -> list[str]:
    return [*RUN, "--cores", "1", *more]


def run(*more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*more), capture_output=True, text=True, check=False)


def wait_for(path: Path) -> None:
    for _ in range(300):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{path} did not appear")


def test_second_run_has_nothing_to_do(workflow):
    first = run()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Writing part one" in first.stdout
    assert "3 of 3 jobs done" in first.stdout
    assert (workflow / "results/toy/sum.txt").read_text() == "one"
    assert json.loads((workflow / "results/toy/manifests/part/one.json").read_text())["params"]["table"] == {"x": 1}
    assert main(["audit", "verify", "results/toy"]) == 0
    second = run()
    assert second.returncode == 0
    assert "nothing to do" in second.stdout
    assert "Nothing to be done" in (workflow / "results/toy/logs/snakemake.log").read_text()


def test_failure_is_one_line(workflow):
    (workflow / "bad").write_text("")
    done = run()
    assert done.returncode == 1
    assert "rule part [name=one]: the file bad exists; remove it\n" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout.count("the file bad exists") == 1
    assert "failed after" in done.stdout and "results/toy/logs/snakemake.log" in done.stdout


def test_transient_errors_are_retried_and_bad_input_is_not(workflow):
    (workflow / "bad").write_text("")
    assert run("--retries", "2").returncode == 1
    assert (workflow / "attempts").read_text() == "."
    (workflow / "attempts").unlink()
    (workflow / "bad").unlink()
    (workflow / "offline").write_text("")
    done = run("--retries", "2")
    assert done.returncode == 0, done.stdout
    assert (workflow / "attempts").read_text() == ".."
    assert "no response from the server" in done.stdout
    found = status.read(workflow / "results/toy")
    assert (found.state, found.retries, found.failures) == ("done", 1, [])


def test_profile_by_name_or_folder(workflow, capsys):
    for name, cores in (("default", 1), ("big", 3)):
        (workflow / "profiles" / name).mkdir(parents=True)
        (workflow / "profiles" / name / "config.yaml").write_text(f"cores: {cores}\n")
    for arguments, cores in ([], 1), (["--profile", "big"], 3), (["--profile", "profiles/big"], 3):
        done = subprocess.run([*RUN, *arguments, "--forceall"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (
            f"Provided cores: {cores}"
            in (workflow / "results/toy/logs/snakemake.log").read_text().rpartition("Building DAG")[2]
        )
    assert main(["run", "config.yaml", "--snakefile", "Snakefile", "--profile", "none"]) == 2
    assert "profile none does not exist" in capsys.readouterr().err


def test_error_of_the_workflow_is_printed(workflow):
    (workflow / "Snakefile").write_text("rule all:\n    input: 'absent.txt'\n")
    done = run()
    assert done.returncode == 1
    assert "absent.txt" in done.stdout


def test_dry_run_prints_the_jobs_and_writes_nothing(workflow):
    done = run("-n")
    assert done.returncode == 0
    assert "rule sum" in done.stdout + done.stderr or "Computing the sum" in done.stdout + done.stderr
    assert not (workflow / "results").exists()


def test_results_folder_on_the_command_line(workflow):
    assert run("--config", "results=elsewhere").returncode == 0
    assert (workflow / "elsewhere/sum.txt").exists() and (workflow / "elsewhere/logs/snakemake.log").exists()
    assert not (workflow / "results").exists()


@pytest.mark.slow
def test_killed_run_resumes(workflow):
    with subprocess.Popen(command("--config", "sleep=30"), start_new_session=True, stdout=subprocess.DEVNULL) as first:
        wait_for(workflow / "begun")
        busy = run("--config", "sleep=0")
        assert busy.returncode == commands.IN_USE
        assert f"process {first.pid} on " in busy.stderr and busy.stderr.count("\n") == 1
        os.killpg(first.pid, signal.SIGKILL)
    assert list((workflow / ".snakemake/locks").iterdir())
    assert list((workflow / "results/toy/parts").glob(".part-*"))
    second = run()
    assert second.returncode == 0, second.stdout + second.stderr
    assert (workflow / "results/toy/sum.txt").read_text() == "one"
    assert main(["audit", "verify", "results/toy"]) == 0


@pytest.mark.slow
def test_jobs_of_a_killed_run_hold_the_lock(workflow):
    with subprocess.Popen(command("--config", "sleep=6"), start_new_session=True, stdout=subprocess.DEVNULL) as first:
        wait_for(workflow / "begun")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        busy = run()
        assert busy.returncode == commands.IN_USE
        assert "that process has ended, but jobs it started are running" in busy.stderr
        os.killpg(first.pid, signal.SIGKILL)


@pytest.mark.slow
def test_run_resumes_after_only_snakemake_was_killed(workflow):
    with subprocess.Popen(command("--config", "sleep=6"), start_new_session=True, stdout=subprocess.DEVNULL) as first:
        wait_for(workflow / "begun")
        (snakemake,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        os.kill(int(snakemake), signal.SIGKILL)
        assert first.wait() != 0
        busy = run()
        assert busy.returncode == commands.IN_USE
        assert "that process has ended, but jobs it started are running" in busy.stderr
        os.killpg(first.pid, signal.SIGKILL)
    assert list((workflow / ".snakemake/locks").iterdir())
    second = run()
    assert second.returncode == 0, second.stdout + second.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("default", "sent"),
    [("--default-signal=INT", signal.SIGINT), ("--ignore-signal=INT", signal.SIGTERM)],
    ids=["Ctrl-C", "TERM in the background"],
)
def test_interrupted_run_stops_its_jobs(workflow, default, sent):
    # A shell starts background processes with SIGINT ignored, and their children inherit it.
    started = ["env", default, *command("--config", "sleep=60")]
    with subprocess.Popen(started, start_new_session=True, stdout=subprocess.PIPE, text=True) as first:
        wait_for(workflow / "begun")
        first.send_signal(sent)
        output = first.communicate(timeout=30)[0]
    assert first.returncode != 0
    assert "stopped after" in output
    assert not list((workflow / "results/toy").glob("parts/*"))
    assert (workflow / "results/toy/.jointseg/run.lock").read_text() == ""


def test_audit_lists_changed_and_undeclared_files(workflow, capsys):
    assert run().returncode == 0
    (workflow / "results/toy/sum.txt").write_text("two")
    (workflow / "results/toy/stray.txt").write_text("stray")
    assert main(["audit", "verify", "results/toy", "--json", "--workers", "2"]) == commands.FINDINGS
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"changed": 1, "undeclared": 1}
    assert main(["audit", "verify", "results/toy"]) == commands.FINDINGS
    table = capsys.readouterr().out
    assert "sum.txt" in table and "stray.txt" in table and KINDS["undeclared"] in table
    assert main(["audit", "verify", "nowhere"]) == commands.USAGE
