"""How a run stands, read from the log of a run, its locks and the notes of its jobs."""

import json
import os
import time
from pathlib import Path

import pytest

from jointseg.cli.commands import run
from jointseg.cli.main import main
from jointseg.run import lock, status
from jointseg.runtime import job_status
from jointseg.runtime.errors import DataError

BEGIN = """Building DAG of jobs...
Job stats:
job            count
-----------  -------
all                1
predict            3
mosaic             1
total              5

Select jobs to execute...
"""
ONE_DONE = """Job 2: Mapping 50N_E0660_N3540 in 2021
Finished jobid: 2 (Rule: predict)
1 of 5 steps (20%) done
"""
FAILED = """RuleException:
Error in rule predict:
    message: None
    jobid: 3
    output: results/x/isa/2021/50N_E0664_N3540.tif
    log: results/x/logs/predict/2021/50N_E0664_N3540.log (check log file(s) for error details)
"""
RETRIED = "Trying to restart job 3.\n"
AGAIN = "Finished jobid: 3 (Rule: predict)\n2 of 5 steps (40%) done\n"
REST = "Finished jobid: 4 (Rule: predict)\nFinished jobid: 1 (Rule: mosaic)\nFinished jobid: 0 (Rule: all)\n5 of 5 steps (100%) done\n"


WHY = job_status.Failure(
    "predict [year=2021 tile=50N_E0664_N3540]",
    "composite has no band <4>; make it again",
    "results/x/logs/predict/2021/50N_E0664_N3540.log",
    job_status.INPUT,
)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the failing job left."""
    monkeypatch.setenv(job_status.ENV_VARIABLE, str(tmp_path / job_status.FOLDER))
    job_status.record_failure(WHY)


def folder(tmp_path: Path, *texts: str) -> Path:
    (tmp_path / "logs").mkdir(exist_ok=True)
    (tmp_path / status.LOG).write_text("".join(texts))
    return tmp_path


@pytest.mark.usefixtures("told")
def test_a_failure_is_told_with_its_reason_and_log(tmp_path: Path) -> None:
    found = status.read(folder(tmp_path, BEGIN, ONE_DONE, FAILED))
    assert (found.state, found.done, found.total, found.retries) == ("failed", 1, 5, 0)
    assert found.rules == {"predict": (1, 3), "mosaic": (0, 1)}
    assert found.failures == [WHY]
    lines = status.lines(found)
    assert lines[0].endswith("failed: 1 job(s)") and "to do    predict: 2 of 3" in lines


def test_a_job_that_was_killed_has_left_no_word(tmp_path: Path) -> None:
    (one,) = status.read(folder(tmp_path, BEGIN, ONE_DONE, FAILED)).failures
    assert (one.job, one.reason, one.log) == ("predict (job 3)", status.KILLED, WHY.log)
    lost = FAILED.replace("None", "SLURM-job '12' failed, SLURM status is: 'OUT_OF_MEMORY'.")
    (one,) = status.read(folder(tmp_path, BEGIN, lost)).failures
    assert one.reason == "SLURM-job '12' failed, SLURM status is: 'OUT_OF_MEMORY'."


def test_a_job_that_succeeds_when_tried_again_has_not_failed(tmp_path: Path) -> None:
    found = status.read(folder(tmp_path, BEGIN, ONE_DONE, FAILED, RETRIED, AGAIN, REST))
    assert (found.state, found.failures, found.retries) == ("done", [], 1)
    assert found.rules == {"predict": (3, 3), "mosaic": (1, 1)}


def test_only_the_last_run_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status.read(folder(tmp_path, BEGIN, FAILED, BEGIN, ONE_DONE)).state == "stopped"
    assert status.read(folder(tmp_path, BEGIN, FAILED, "Building DAG of jobs...\nNothing to be done\n")).state == "done"
    monkeypatch.setenv(job_status.ENV_VARIABLE, str(tmp_path / job_status.FOLDER))
    job_status.record_failure(
        job_status.Failure("predict [year=2021]", "stopped before it was done", "", job_status.STOPPED)
    )
    found = status.read(folder(tmp_path, BEGIN, ONE_DONE))
    assert (found.state, found.failures) == ("stopped", [])


def test_who_works_there_and_on_what(tmp_path: Path) -> None:
    results = folder(tmp_path, BEGIN, ONE_DONE)
    where = results / job_status.FOLDER
    job_status.write_json(where / "node-77.job", {"job": "predict [tile=a]", "started": time.time() - 125})
    job_status.write_json(
        where / "node-77.json", {"label": "windows", "done": 5, "total": 20, "unit": "window", "seconds": 10}
    )
    (results / "manifests/predict/2021").mkdir(parents=True)
    for name in ("predict/2021/a", "predict/2021/b", "growth"):
        (results / f"manifests/{name}.json").write_text("{}")
    with lock.hold(results, ["jointseg", "run", "x.yaml"]):
        found = status.read(results)
    assert found.state == "running" and found.holder is not None and found.holder["pid"] == os.getpid()
    (job,) = found.running
    assert job.share == 0.25 and 124 < job.seconds < 140 and job.told == "windows: 2 s/window, 30s left"
    assert found.made == {"growth": 1, "predict": 2}
    assert any(line.startswith("running  predict [tile=a]: 25 %, 2m") for line in status.lines(found))
    assert status.read(results).state == "stopped" and lock.read_holder(results) is None


def test_a_folder_where_nobody_ran_and_one_that_is_not_there(tmp_path: Path) -> None:
    assert status.read(tmp_path).state == "never ran"
    with pytest.raises(DataError, match="is not a results folder; give that of a run"):
        status.read(tmp_path / "no")


def test_a_command_is_told_how_a_run_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = folder(tmp_path, BEGIN, ONE_DONE, FAILED)
    run._notify(f"(echo $JOINTSEG_STATE; cat) > {tmp_path}/told.txt", results)
    told = (tmp_path / "told.txt").read_text().splitlines()
    assert told[0] == "failed" and told[1:] == status.lines(status.read(results))
    run._notify("exit 7", results)
    assert "--notify 'exit 7' ended with status 7" in capsys.readouterr().err


@pytest.mark.usefixtures("told")
def test_the_verb_prints_json_lines_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = folder(tmp_path, BEGIN, ONE_DONE, FAILED)
    assert main(["status", str(results), "--html", str(tmp_path / "status.html")]) == 1
    assert "failed   predict [year=2021 tile=50N_E0664_N3540]: composite has no band <4>" in capsys.readouterr().out
    page = (tmp_path / "status.html").read_text()
    assert "band &lt;4&gt;" in page and "http://" not in page and "https://" not in page and "width: 33%" in page
    assert main(["status", str(results), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["rules"] == {"predict": [1, 3], "mosaic": [0, 1]}
    assert main(["status", str(tmp_path / "no")]) == 2
