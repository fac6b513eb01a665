"""Events that the Snakemake logger plugin writes."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from snakemake_logger_plugin_jointseg import LogHandler, LogHandlerSettings, event_fields

ERROR = {"jobid": 3, "rule_name": "predict", "rule_msg": None, "log": ["a.log"], "indent": False}


def record(message: str = "", **fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, **fields})


def test_snakemake_finds_the_plugin() -> None:
    assert "jointseg" in LoggerPluginRegistry().get_registered_plugins()


@pytest.mark.parametrize(
    ("log_record", "fields"),
    [
        (record(event=LogEvent.RUN_INFO, stats={"total": 5}), {"event": "run_info", "jobs_by_rule": {"total": 5}}),
        (
            record(event=LogEvent.JOB_INFO, jobid=3, rule_name="predict", rule_msg="Mapping"),
            {"event": "job_info", "job": 3, "rule": "predict", "message": "Mapping"},
        ),
        (record(event=LogEvent.JOB_FINISHED, job_id=3), {"event": "job_finished", "job": 3}),
        (
            record(event=LogEvent.JOB_ERROR, **ERROR),
            {"event": "job_error", "job": 3, "rule": "predict", "log": "a.log", "message": None, "in_group": False},
        ),
        (
            record(event=LogEvent.GROUP_ERROR, job_error_info=[ERROR]),
            {"event": "group_error", "jobs": [{"job": 3, "rule": "predict", "log": "a.log"}]},
        ),
        (record(event=LogEvent.PROGRESS, done=1, total=5), {"event": "progress", "done": 1, "total": 5}),
        (record("no such file", event=LogEvent.ERROR), {"event": "error", "message": "no such file"}),
        (record(event=LogEvent.SHELLCMD, cmd="ls"), None),
        (record(NOTHING_TO_BE_DONE_MSG), {"event": "nothing_to_do"}),
        (record("Terminating processes on user request, this might take some time."), {"event": "stopping"}),
        (record("SLURM run ID: run-1"), {"event": "slurm_run", "id": "run-1"}),
        (record("Select jobs to execute..."), None),
    ],
)
def test_fields_of_a_record(log_record: logging.LogRecord, fields: dict[str, Any] | None) -> None:
    assert event_fields(log_record) == fields


def test_events_are_appended_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("{}\n")
    handler = LogHandler(None, LogHandlerSettings(path=path))
    handler.emit(record(event=LogEvent.JOB_FINISHED, job_id=3))
    handler.emit(record("Select jobs to execute..."))
    assert path.read_text().splitlines() == ["{}", json.dumps({"event": "job_finished", "job": 3})]
    handler.close()
