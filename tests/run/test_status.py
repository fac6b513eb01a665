"""Status of a run, from Snakemake's events, the lock of the results folder and the status files of the jobs."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from jointseg.cli.commands import run
from jointseg.cli.main import main
from jointseg.run import events, lock, status
from jointseg.runtime import job_status
from jointseg.runtime.errors import DataError

Event = dict[str, Any]
LOGS = {job: f"results/x/logs/predict/2021/50N_E066{job}_N3540.log" for job in (2, 3, 4)}


def started(job: int, rule: str) -> Event:
    return {"event": "job_info", "job": job, "rule": rule, "message": f"Running {rule}"}


def finished(job: int, done: int) -> list[Event]:
    return [{"event": "job_finished", "job": job}, {"event": "progress", "done": done, "total": 5}]


def failed(job: int, message: str | None = None, in_group: bool = False) -> Event:
    fields = {"job": job, "rule": "predict", "log": LOGS[job], "message": message, "in_group": in_group}
    return {"event": "job_error", **fields}


PLAN = [{"event": "run_info", "jobs_by_rule": {"all": 1, "predict": 3, "mosaic": 1, "total": 5}}]
ONE_DONE = [*PLAN, started(2, "predict"), *finished(2, 1)]
ONE_FAILED = [*ONE_DONE, started(3, "predict"), failed(3)]
ALL_DONE = [
    *ONE_FAILED,
    *(started(3, "predict"), *finished(3, 2)),
    *(started(4, "predict"), *finished(4, 3)),
    *(started(1, "mosaic"), *finished(1, 4)),
    *(started(0, "all"), *finished(0, 5)),
]
FAILURE = job_status.Failure(
    "predict [year=2021 tile=50N_E0663_N3540]", "composite has no band <4>; rebuild it", LOGS[3], job_status.INPUT
)


@pytest.fixture
def job_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status file of the job that failed."""
    monkeypatch.setenv(job_status.ENV_VARIABLE, str(tmp_path / job_status.FOLDER))
    job_status.record_failure(FAILURE)


def folder(tmp_path: Path, written: list[Event]) -> Path:
    """A results folder with the events."""
    path = tmp_path / events.FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(event) + "\n" for event in written))
    return tmp_path


@pytest.mark.usefixtures("job_failure")
def test_failure_with_reason_and_log(tmp_path: Path) -> None:
    found = status.read(folder(tmp_path, ONE_FAILED))
    assert (found.state, found.done, found.total, found.retries) == ("failed", 1, 5, 0)
    assert found.rules == {"predict": (1, 3), "mosaic": (0, 1)}
    assert found.failures == [FAILURE]
    lines = status.lines(found)
    assert lines[0].endswith("failed: 1 job(s)") and "to do    predict: 2 of 3" in lines


def test_killed_job_has_no_message(tmp_path: Path) -> None:
    (killed,) = status.read(folder(tmp_path, ONE_FAILED)).failures
    assert (killed.job, killed.reason, killed.log) == ("predict (job 3)", events.NO_MESSAGE, FAILURE.log)
    message = "SLURM-job '12' failed, SLURM status is: 'OUT_OF_MEMORY'."
    (lost,) = status.read(folder(tmp_path, [*ONE_DONE, failed(3, message)])).failures
    assert lost.reason == message


def test_failed_group_of_jobs_is_one_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [{"job": job, "rule": "predict", "log": LOGS[job]} for job in (3, 4)]
    group = [{"event": "group_error", "jobs": jobs}, failed(3, in_group=True), failed(4, in_group=True)]
    results = folder(tmp_path, [*ONE_DONE, started(3, "predict"), started(4, "predict"), *group])
    (lost,) = status.read(results).failures
    assert (lost.job, lost.reason) == ("predict (job 3), predict (job 4)", events.NO_MESSAGE)
    monkeypatch.setenv(job_status.ENV_VARIABLE, str(tmp_path / job_status.FOLDER))
    job_status.record_failure(FAILURE)
    assert status.read(results).failures == [FAILURE]


def test_job_that_succeeds_after_a_retry_has_not_failed(tmp_path: Path) -> None:
    found = status.read(folder(tmp_path, ALL_DONE))
    assert (found.state, found.failures, found.retries) == ("done", [], 1)
    assert found.rules == {"predict": (3, 3), "mosaic": (1, 1)}


def test_states_of_a_run_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status.read(folder(tmp_path, ONE_DONE)).state == "stopped"
    assert status.read(folder(tmp_path, [{"event": "nothing_to_do"}])).state == "done"
    monkeypatch.setenv(job_status.ENV_VARIABLE, str(tmp_path / job_status.FOLDER))
    interrupted = job_status.Failure("predict [year=2021]", "stopped before it was done", "", job_status.STOPPED)
    job_status.record_failure(interrupted)
    found = status.read(folder(tmp_path, ONE_DONE))
    assert (found.state, found.failures) == ("stopped", [])


def test_incomplete_line_is_read_when_it_is_complete(tmp_path: Path) -> None:
    path = folder(tmp_path, ONE_DONE) / events.FILE
    complete = path.read_text()
    path.write_text(complete[:-10])
    reader = events.EventReader(path)
    assert list(reader.read()) == ONE_DONE[:-1]
    path.write_text(complete)
    assert list(reader.read()) == ONE_DONE[-1:] and list(reader.read()) == []


def test_holder_and_running_jobs(tmp_path: Path) -> None:
    results = folder(tmp_path, ONE_DONE)
    files = results / job_status.FOLDER
    job_status.write_json(files / "node-77.job", {"job": "predict [tile=a]", "started": time.time() - 125})
    job_status.write_json(
        files / "node-77.json", {"label": "windows", "done": 5, "total": 20, "unit": "window", "seconds": 10}
    )
    (results / "manifests/predict/2021").mkdir(parents=True)
    for name in ("predict/2021/a", "predict/2021/b", "growth"):
        (results / f"manifests/{name}.json").write_text("{}")
    with lock.hold(results, ["jointseg", "run", "x.yaml"]):
        found = status.read(results)
    assert found.state == "running" and found.holder is not None and found.holder["pid"] == os.getpid()
    (job,) = found.running
    assert job.fraction == 0.25 and 124 < job.seconds < 140 and job.progress == "windows: 2 s/window, 30s left"
    assert found.manifests == {"growth": 1, "predict": 2}
    assert any(line.startswith("running  predict [tile=a]: 25 %, 2m") for line in status.lines(found))
    assert status.read(results).state == "stopped" and lock.read_holder(results) is None


def test_folder_without_a_run_and_missing_folder(tmp_path: Path) -> None:
    assert status.read(tmp_path).state == "never ran"
    with pytest.raises(DataError, match="does not exist: the run has not started"):
        status.read(tmp_path / "no")


def test_notify_command_gets_the_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = folder(tmp_path, ONE_FAILED)
    run._notify(f"(echo $JOINTSEG_STATE; cat) > {tmp_path}/notified.txt", results)
    notified = (tmp_path / "notified.txt").read_text().splitlines()
    assert notified[0] == "failed" and notified[1:] == status.lines(status.read(results))
    run._notify("exit 7", results)
    assert "--notify 'exit 7' failed with status 7" in capsys.readouterr().err


@pytest.mark.usefixtures("job_failure")
def test_command_prints_lines_json_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = folder(tmp_path, ONE_FAILED)
    assert main(["status", str(results), "--html", str(tmp_path / "status.html")]) == 1
    assert "failed   predict [year=2021 tile=50N_E0663_N3540]: composite has no band <4>" in capsys.readouterr().out
    page = (tmp_path / "status.html").read_text()
    assert "band &lt;4&gt;" in page and "http://" not in page and "https://" not in page and "width: 33%" in page
    assert main(["status", str(results), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["rules"] == {"predict": [1, 3], "mosaic": [0, 1]}
    assert main(["status", str(tmp_path / "no")]) == 2
