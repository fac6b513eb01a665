"""The verbs, on a toy flow with Snakemake in earnest."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jointseg.cli import commands
from jointseg.cli.commands import run as run_verb
from jointseg.cli.main import main
from jointseg.run import console, status
from jointseg.runtime import job_status

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
        "Making part {wildcards.name}"
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
        "Summing up"
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
    with open("tries", "a") as tries:
        tries.write(".")
    if Path("bad").exists():
        raise DataError("the file bad is there; remove it")
    if Path("away").exists():
        Path("away").unlink()
        raise TransientError("the server is away")
    with atomic_write(part) as half:
        half.write_text(name)
        Path("on_start").write_text("")
        for _ in progress.track(range(10), "sleeping"):
            time.sleep(sleep / 10)

def sum(*, parts, total, other=None):
    assert other is None
    with atomic_write(total) as half:
        half.write_text("".join(path.read_text() for path in parts))
"""


@pytest.fixture
def flow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "step.py").write_text(STEP.format(folder=str(tmp_path)))
    (tmp_path / "toy_steps.py").write_text(TOY_STEPS)
    (tmp_path / "config.yaml").write_text("results: results/toy\n")
    return tmp_path


def command(*more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "jointseg.cli.main",
        "run",
        "config.yaml",
        "--snakefile",
        "Snakefile",
        "--cores",
        "1",
        *more,
    ]


def run(*more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*more), capture_output=True, text=True, check=False)


def wait_for(path: Path) -> None:
    for _ in range(300):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{path} did not appear")


def test_run_makes_everything_once(flow):
    first = run()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Making part one" in first.stdout
    assert "3 of 3 jobs done" in first.stdout
    assert (flow / "results/toy/sum.txt").read_text() == "one"
    assert json.loads((flow / "results/toy/manifests/part/one.json").read_text())["params"]["table"] == {"x": 1}
    assert main(["audit", "verify", "results/toy"]) == 0
    second = run()
    assert second.returncode == 0
    assert "nothing to do" in second.stdout
    assert "Nothing to be done" in (flow / "results/toy/logs/snakemake.log").read_text()


def test_a_failing_job_is_one_line(flow):
    (flow / "bad").write_text("")
    done = run()
    assert done.returncode == 1
    assert "rule part [name=one]: the file bad is there; remove it\n" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout.count("the file bad is there") == 1
    assert "failed after" in done.stdout and "results/toy/logs/snakemake.log" in done.stdout


def test_bad_input_is_not_worked_again_and_a_server_without_an_answer_is(flow):
    (flow / "bad").write_text("")
    assert run("--retries", "2").returncode == 1
    assert (flow / "tries").read_text() == "."
    (flow / "tries").unlink()
    (flow / "bad").unlink()
    (flow / "away").write_text("")
    done = run("--retries", "2")
    assert done.returncode == 0, done.stdout
    assert (flow / "tries").read_text() == ".."
    assert "the server is away" in done.stdout
    told = status.read(flow / "results/toy")
    assert (told.state, told.retries, told.failures) == ("done", 1, [])


def test_a_profile_is_chosen_by_name_or_folder(flow, capsys):
    for name, cores in (("default", 1), ("big", 3)):
        (flow / "profiles" / name).mkdir(parents=True)
        (flow / "profiles" / name / "config.yaml").write_text(f"cores: {cores}\n")
    words = command()[:7]  # without --cores
    for arguments, cores in ([], 1), (["--profile", "big"], 3), (["--profile", "profiles/big"], 3):
        done = subprocess.run([*words, *arguments, "--forceall"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (
            f"Provided cores: {cores}"
            in (flow / "results/toy/logs/snakemake.log").read_text().rpartition("Building DAG")[2]
        )
    assert main(["run", "config.yaml", "--snakefile", "Snakefile", "--profile", "none"]) == 2
    assert "none is neither a folder of profiles/" in capsys.readouterr().err


def test_a_flow_that_cannot_be_read_says_why(flow):
    (flow / "Snakefile").write_text("rule all:\n    input: 'absent.txt'\n")
    done = run()
    assert done.returncode == 1
    assert "absent.txt" in done.stdout


def test_a_dry_run_is_shown_and_makes_nothing(flow):
    done = run("-n")
    assert done.returncode == 0
    assert "rule sum" in done.stdout + done.stderr or "Summing up" in done.stdout + done.stderr
    assert not (flow / "results").exists()


def test_results_given_on_the_command_line(flow):
    assert run("--config", "results=elsewhere").returncode == 0
    assert (flow / "elsewhere/sum.txt").exists() and (flow / "elsewhere/logs/snakemake.log").exists()
    assert not (flow / "results").exists()


@pytest.mark.slow
def test_a_killed_run_resumes(flow):
    with subprocess.Popen(command("--config", "sleep=30"), start_new_session=True, stdout=subprocess.DEVNULL) as first:
        wait_for(flow / "on_start")
        busy = run("--config", "sleep=0")
        assert busy.returncode == commands.IN_USE
        assert f"process {first.pid} on " in busy.stderr and busy.stderr.count("\n") == 1
        os.killpg(first.pid, signal.SIGKILL)
    assert list((flow / ".snakemake/locks").iterdir())
    assert list((flow / "results/toy/parts").glob(".part-*"))
    again = run()
    assert again.returncode == 0, again.stdout + again.stderr
    assert (flow / "results/toy/sum.txt").read_text() == "one"
    assert main(["audit", "verify", "results/toy"]) == 0


@pytest.mark.slow
def test_jobs_that_outlive_a_killed_run_keep_others_out(flow):
    with subprocess.Popen(command("--config", "sleep=6"), start_new_session=True, stdout=subprocess.DEVNULL) as first:
        wait_for(flow / "on_start")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        busy = run()
        assert busy.returncode == commands.IN_USE
        assert "that process is gone, but jobs it started still work" in busy.stderr
        os.killpg(first.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_run_whose_snakemake_alone_was_killed_resumes(flow):
    with subprocess.Popen(command("--config", "sleep=6"), start_new_session=True, stdout=subprocess.DEVNULL) as first:
        wait_for(flow / "on_start")
        (snakemake,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        os.kill(int(snakemake), signal.SIGKILL)
        assert first.wait() != 0
        busy = run()
        assert busy.returncode == commands.IN_USE
        assert "that process is gone, but jobs it started still work" in busy.stderr
        os.killpg(first.pid, signal.SIGKILL)
    assert list((flow / ".snakemake/locks").iterdir())
    again = run()
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "sent"),
    [("--default-signal=INT", signal.SIGINT), ("--ignore-signal=INT", signal.SIGTERM)],
    ids=["Ctrl-C", "TERM in the background"],
)
def test_an_interrupted_run_stops_in_order(flow, kept, sent):
    # A run that a shell starts in the background ignores SIGINT, and so would whatever it starts.
    started = ["env", kept, *command("--config", "sleep=60")]
    with subprocess.Popen(started, start_new_session=True, stdout=subprocess.PIPE, text=True) as first:
        wait_for(flow / "on_start")
        first.send_signal(sent)
        said = first.communicate(timeout=30)[0]
    assert first.returncode != 0
    assert "stopped after" in said
    assert not list((flow / "results/toy").glob("parts/*"))
    assert (flow / "results/toy/.jointseg/run.lock").read_text() == ""


def test_audit_tells_what_it_found(flow, capsys):
    assert run().returncode == 0
    (flow / "results/toy/sum.txt").write_text("two")
    (flow / "results/toy/stray.txt").write_text("stray")
    assert main(["audit", "verify", "results/toy", "--json", "--workers", "2"]) == commands.FINDINGS
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"changed": 1, "undeclared": 1}
    assert main(["audit", "verify", "results/toy"]) == commands.FINDINGS
    table = capsys.readouterr().out
    assert "sum.txt" in table and "stray.txt" in table and "made by nobody" in table
    assert main(["audit", "verify", "nowhere"]) == commands.USAGE


def test_config_check(tmp_path, capsys):
    good = Path(__file__).parents[2] / "config.yaml"
    assert main(["config", "check", str(good)]) == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.read_text() + "\ntile_kilometres: 30\n")
    assert main(["config", "check", str(bad)]) == commands.USAGE
    assert "tile_kilometres" in capsys.readouterr().err
    assert main(["config", "check", "absent.yaml"]) == commands.USAGE
    assert "absent.yaml" in capsys.readouterr().err


def test_schema_and_version_print(capsys):
    assert main(["schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)
    assert main(["version"]) == 0
    assert capsys.readouterr().out.count(".") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["audit"],
        ["audit", "x"],
        ["audit", "verify", "x", "--workers", "0"],
        ["audit", "verify", "x", "y"],
        ["config"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == commands.USAGE


def test_help_imports_nothing_heavy():
    code = "import sys, jointseg.cli.main as cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'numpy', 'rich', 'pydantic', 'snakemake'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_what_snakemake_says_is_understood():
    flow = console.Flow()
    lines = [
        "total      12",
        "Job 3: Mapping ISA at 1 m in 50N_E0660_N3540, 2021",
        "rule isa:",
        "5 of 12 steps (42%) done",
    ]
    assert [flow.hear(line) for line in lines] == [
        None,
        "Mapping ISA at 1 m in 50N_E0660_N3540, 2021",
        None,
        "5 of 12 jobs done",
    ]
    assert (flow.done, flow.total) == (5, 12)


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0s"), (59.4, "59s"), (60, "1m 00s"), (7620, "2h 07m")])
def test_durations(seconds, said):
    assert console.format_duration(seconds) == said


def test_rates_and_time_left():
    assert console.format_rate({"done": 20, "total": 100, "seconds": 10, "unit": "step"}) == "2 step/s, 40s left"
    assert console.format_rate({"done": 1, "total": None, "seconds": 4, "unit": "window"}) == "4 s/window"
    assert console.format_rate({"done": 0, "total": 5, "seconds": 4, "unit": "step"}) == ""


def test_running_jobs_are_read_from_their_notes(tmp_path):
    job_status.write_json(tmp_path / "node-7.job", {"job": "isa [tile=x]", "started": 0})
    job_status.write_json(
        tmp_path / "node-7.json", {"what": "windows", "done": 1, "total": 4, "unit": "window", "seconds": 2}
    )
    (tmp_path / "other-7.job").write_text("{half")
    jobs = job_status.read_running(tmp_path)
    assert list(jobs) == ["node-7"] and jobs["node-7"]["what"] == "windows"


def test_a_config_that_is_not_yaml_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text("a: [1\nb: 2")
    assert main(["run", str(path)]) == commands.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_overrides_are_read_as_snakemake_reads_them():
    assert run_verb._overrides(["--config", "results=x", "n=3", "-p", "a=b"]) == {"results": "x", "n": 3}
