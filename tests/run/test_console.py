"""Terminal output of a run."""

import pytest

from jointseg.run import console
from jointseg.run.events import RunState
from jointseg.runtime import job_status


def test_lines_without_progress_bars():
    state = RunState()
    events = [
        {"event": "run_info", "jobs_by_rule": {"predict": 11, "all": 1, "total": 12}},
        {"event": "job_info", "job": 3, "rule": "predict", "message": "Mapping ISA at 1 m in 50N_E0660_N3540, 2021"},
        {"event": "job_finished", "job": 3},
        {"event": "progress", "done": 5, "total": 12},
    ]
    assert [state.update(event) for event in events] == [
        None,
        "Mapping ISA at 1 m in 50N_E0660_N3540, 2021",
        None,
        "5 of 12 jobs done",
    ]
    assert (state.done, state.total, state.rules) == (5, 12, {"predict": (1, 11)})


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0s"), (59.4, "59s"), (60, "1m 00s"), (7620, "2h 07m")])
def test_durations(seconds, text):
    assert console.format_duration(seconds) == text


def test_rates_and_time_left():
    assert console.format_rate({"done": 20, "total": 100, "seconds": 10, "unit": "step"}) == "2 step/s, 40s left"
    assert console.format_rate({"done": 1, "total": None, "seconds": 4, "unit": "window"}) == "4 s/window"
    assert console.format_rate({"done": 0, "total": 5, "seconds": 4, "unit": "step"}) == ""


def test_running_jobs_are_read_from_their_status_files(tmp_path):
    job_status.write_json(tmp_path / "node-7.job", {"job": "predict [tile=x]", "started": 0})
    progress = {"label": "windows", "done": 1, "total": 4, "unit": "window", "seconds": 2}
    job_status.write_json(tmp_path / "node-7.json", progress)
    (tmp_path / "other-7.job").write_text("{half")
    jobs = job_status.read_running(tmp_path)
    assert list(jobs) == ["node-7"] and jobs["node-7"]["label"] == "windows"
