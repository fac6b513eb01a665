"""Snakemake logger plugin: writes the progress of a run as one JSON object per line.

Snakemake finds it by its name. `jointseg run` selects it with `--logger jointseg`; `jointseg.run.events` reads the file.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

# Messages that Snakemake and its Slurm executor log without an event; they are recognised by their text.
STOPPING = "Terminating processes on user request"
SLURM_RUN = re.compile(r"SLURM run ID: (\S+)")


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    path: Path | None = field(
        default=None,
        metadata={"help": "File to append events to, one JSON object per line.", "type": Path, "required": True},
    )


class LogHandler(LogHandlerBase):
    """Appends the events that `jointseg run` and `jointseg status` need."""

    def __post_init__(self) -> None:
        assert isinstance(self.settings, LogHandlerSettings) and self.settings.path is not None
        self._file = self.settings.path.open("a", encoding="utf-8", buffering=1)

    def emit(self, record: LogRecord) -> None:
        fields = event_fields(record)
        if fields is not None:
            self._file.write(json.dumps(fields) + "\n")

    def close(self) -> None:
        self._file.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        return False

    @property
    def writes_to_file(self) -> bool:
        return False  # True would make Snakemake print the path as that of a log file

    @property
    def has_filter(self) -> bool:
        return True  # the default filter drops events when Snakemake is --quiet

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False


def event_fields(record: LogRecord) -> dict[str, Any] | None:
    """Return the JSON object of a log record, or None for records that are not needed."""
    event = getattr(record, "event", None)
    if event in _FIELDS:
        return {"event": str(event), **_FIELDS[event](record)}
    if event is None:
        text = record.getMessage()
        if text == NOTHING_TO_BE_DONE_MSG:
            return {"event": "nothing_to_do"}
        if text.startswith(STOPPING):
            return {"event": "stopping"}
        if found := SLURM_RUN.match(text):
            return {"event": "slurm_run", "id": found[1]}
    return None


def _job_error(info: dict[str, Any]) -> dict[str, Any]:
    return {"job": info["jobid"], "rule": info["rule_name"], "log": ", ".join(map(str, info["log"]))}


_FIELDS: dict[LogEvent, Callable[[Any], dict[str, Any]]] = {
    LogEvent.RUN_INFO: lambda record: {"jobs_by_rule": record.stats},
    LogEvent.JOB_INFO: lambda record: {"job": record.jobid, "rule": record.rule_name, "message": record.rule_msg},
    LogEvent.JOB_FINISHED: lambda record: {"job": record.job_id},
    # After the error of a group, each of its jobs has an error without a message.
    LogEvent.JOB_ERROR: lambda record: (
        _job_error(vars(record)) | {"message": record.rule_msg, "in_group": record.indent}
    ),
    LogEvent.GROUP_ERROR: lambda record: {"jobs": [_job_error(info) for info in record.job_error_info]},
    LogEvent.PROGRESS: lambda record: {"done": record.done, "total": record.total},
    LogEvent.ERROR: lambda record: {"message": record.getMessage()},
}
