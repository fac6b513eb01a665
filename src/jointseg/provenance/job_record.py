"""Execution of one workflow job: call the step, report an error in one line, write the manifest."""

import getpass
import inspect
import json
import logging
import math
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from jointseg.provenance import machine, remote_input
from jointseg.provenance.code_digest import code_digest, code_parts, environment
from jointseg.provenance.digest import tree_hash
from jointseg.provenance.hash_cache import HashCache
from jointseg.provenance.manifest import SCHEMA, results_of, sealed
from jointseg.runtime import job_status, object_store
from jointseg.runtime.errors import DataError, TransientError
from jointseg.runtime.files import atomic_write, remove_partial_files, remove_path

log = logging.getLogger(__name__)

STATE_FOLDER = ".jointseg"  # in a results folder: lock, hash cache, state of running jobs
RECORD_PARAMS = {"code", "environment"}  # Snakemake detects outdated jobs by them; steps do not receive them
Step = Callable[..., dict[str, Any] | None]


def run_job(snakemake: Any, function: Step) -> None:
    """Run the step `function` for one job and write its manifest.

    Every named input, output, wildcard and param is passed by keyword. Paths are passed as Path or list[Path]. An empty
    input is passed only if the step has no default for it. The resource `parallel_requests` is passed if the step has such
    a parameter. The params `code` and `environment` and the output `manifest` are for the record and are not passed.

    Raises:
        SystemExit: with status 1 if the step fails. Its outputs are removed, one line on standard error contains the
            reason, and the log of the rule contains the traceback. A job that failed on its input earlier in the same
            run fails at once with the same message.
    """
    job = _label(snakemake)
    log_path = str(object_store.workflow_path(snakemake.log[0])) if len(snakemake.log) else ""
    signal.signal(signal.SIGTERM, _on_sigterm)
    earlier = job_status.read_failure(job)
    if earlier is not None and earlier.cause == job_status.INPUT:
        _fail(snakemake, earlier, 1)
    try:
        _configure_logging(snakemake.log)
        with _running_job_file(job):
            _run(snakemake, function)
        job_status.clear_failure(job)
    except DataError as error:
        log.exception("bad input")
        cause = job_status.TRANSIENT if isinstance(error, TransientError) else job_status.INPUT
        _fail(snakemake, job_status.Failure(job, str(error), log_path, cause), 1)
    except Exception as error:
        log.exception("the step failed")
        message = f"{type(error).__name__}: {error}" + (f" (see {log_path})" if log_path else "")
        _fail(snakemake, job_status.Failure(job, message, log_path, job_status.ERROR), 1)
    except (KeyboardInterrupt, SystemExit) as stop:
        status = 128 + signal.SIGINT if isinstance(stop, KeyboardInterrupt) else stop.code
        failure = job_status.Failure(job, "stopped before it finished", log_path, job_status.STOPPED)
        _fail(snakemake, failure, status if isinstance(status, int) else 1)


def _run(snakemake: Any, function: Step) -> None:
    named_outputs = {name: _paths(value) for name, value in snakemake.output.items()}
    manifest = named_outputs.pop("manifest", None)
    if not isinstance(manifest, Path):
        raise DataError(f"rule {snakemake.rule} declares no output named manifest; add one")
    inputs = {name: _paths(value) for name, value in snakemake.input.items()}
    params = {name: json_value(value) for name, value in snakemake.params.items() if name not in RECORD_PARAMS}
    wildcards = dict(snakemake.wildcards.items())
    results = results_of(manifest)
    hashes = HashCache(results / STATE_FOLDER / "hashes.sqlite")
    for output in [*_flat(named_outputs), manifest]:
        output.parent.mkdir(parents=True, exist_ok=True)
        remove_partial_files(output)

    recorded_inputs = _artefacts(inputs, hashes)
    started = datetime.now(UTC)
    clock = time.monotonic()
    facts = function(
        **_accepted_inputs(function, inputs),
        **named_outputs,
        **wildcards,
        **params,
        **_request_limit(snakemake, function),
    )
    seconds = time.monotonic() - clock
    for path in _flat(named_outputs):
        if not path.exists():
            raise DataError(f"the step {function.__module__}.{function.__name__} returned without writing {path}")
    changed = [before["path"] for before, now in zip(recorded_inputs, _artefacts(inputs, hashes)) if before != now]
    if changed:
        raise DataError(f"{', '.join(changed)} changed while the job read it; rerun when no other process writes it")

    module, source = function.__module__, _source_folder(function)
    _save_code_parts(results, module, source)
    record = {
        "schema": SCHEMA,
        "rule": snakemake.rule,
        "results": results.as_posix(),
        "wildcards": wildcards,
        "params": params,
        "inputs": [_without_file_list(artefact, results) for artefact in recorded_inputs],
        "outputs": _artefacts(named_outputs, hashes),
        "facts": facts or {},
        "step": f"{module}:{function.__name__}",
        "code": code_digest(module, source),
        "environment": environment(module, source),
        **machine.software(),
        "device": machine.device(),
        "host": socket.gethostname(),
        "user": getpass.getuser(),
        "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "finished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "seconds": round(seconds, 3),
        **machine.usage(),
    }
    with atomic_write(manifest) as part:
        part.write_text(sealed(json_value(record)), encoding="utf-8")


def _label(snakemake: Any) -> str:
    wildcards = " ".join(f"{name}={value}" for name, value in snakemake.wildcards.items())
    return snakemake.rule + (f" [{wildcards}]" if wildcards else "")


def _configure_logging(names: Any) -> None:
    handlers: list[logging.Handler] = [logging.NullHandler()]
    if len(names):
        log_file = object_store.workflow_path(names[0])
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handlers = [logging.FileHandler(log_file, mode="w", encoding="utf-8")]
    logging.raiseExceptions = False  # otherwise logging prints its own tracebacks to standard error if the disk is full
    line_format = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=line_format, handlers=handlers, force=True)
    logging.captureWarnings(True)


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # an exception, so that context managers remove partly written files


def _fail(snakemake: Any, failure: job_status.Failure, status: int) -> NoReturn:
    for path in snakemake.output:
        remove_path(object_store.workflow_path(path))
    failure = replace(failure, reason=" ".join(failure.reason.split()))
    job_status.record_failure(failure)
    print(failure.line(), file=sys.stderr, flush=True)
    raise SystemExit(status)


@contextmanager
def _running_job_file(job: str) -> Iterator[None]:
    """Write which job this process runs, for the progress display of `jointseg run`."""
    status_file = job_status.process_file(".job")
    if status_file is None:
        yield
        return
    job_status.write_json(status_file, {"job": job, "started": time.time()})
    try:
        yield
    finally:
        status_file.unlink(missing_ok=True)


def _paths(value: Any) -> Path | list[Path]:
    if isinstance(value, str):
        return object_store.workflow_path(value)
    return [object_store.workflow_path(path) for path in value]


def _flat(named: dict[str, Path | list[Path]]) -> list[Path]:
    return [path for value in named.values() for path in (value if isinstance(value, list) else [value])]


def _accepted_inputs(function: Step, inputs: dict[str, Path | list[Path]]) -> dict[str, Path | list[Path]]:
    """Inputs without those that are empty and have a default in the step."""
    parameters = inspect.signature(function).parameters
    return {
        name: value
        for name, value in inputs.items()
        if value != [] or name not in parameters or parameters[name].default is inspect.Parameter.empty
    }


def _request_limit(snakemake: Any, function: Step) -> dict[str, int]:
    """The resource `parallel_requests` if the step has such a parameter; it does not change results."""
    resources = getattr(snakemake, "resources", None)
    if "parallel_requests" not in inspect.signature(function).parameters or resources is None:
        return {}
    return {"parallel_requests": int(resources["parallel_requests"])}


def json_value(value: Any) -> Any:
    """Return a JSON-serialisable value: numpy scalars as numbers, paths as strings, NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "item") and not isinstance(value, str):
        return json_value(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _artefacts(named: dict[str, Path | list[Path]], hashes: HashCache) -> list[dict[str, Any]]:
    """Manifest entries of inputs or outputs."""
    return [
        {"name": name, "path": path.as_posix(), **_checksum(path, hashes)}
        for name, value in named.items()
        for path in _flat({name: value})
    ]


def _without_file_list(artefact: dict[str, Any], results: Path) -> dict[str, Any]:
    """An input without its file list if it is in the results folder: the manifest of its producer has the list."""
    if Path(artefact["path"]).is_relative_to(results):
        return {key: value for key, value in artefact.items() if key != "files"}
    return artefact


def _checksum(path: Path, hashes: HashCache) -> dict[str, Any]:
    if not path.is_dir():
        entry = hashes.file(path) if path.exists() else remote_input.recorded_entry(path)
        return {"sha256": entry.sha256, "size": entry.size}
    entries = hashes.tree(path)
    return {
        "sha256": tree_hash(entries),
        "size": sum(entry.size for entry in entries),
        "files": [{"path": entry.path, "size": entry.size, "sha256": entry.sha256} for entry in entries],
    }


def recorded_code_parts(results: Path, digest: str) -> dict[str, dict[str, str]] | None:
    """Return the `code_parts` behind a code digest of a run; None if the run did not save them."""
    file = _parts_file(results, digest)
    return json.loads(file.read_bytes()) if file.is_file() else None


def _source_folder(function: Step) -> Path:
    """Folder from which the module of the step is imported."""
    file = Path(inspect.getfile(function)).resolve()
    return file.parents[len(function.__module__.split(".")) - 1 + (file.name == "__init__.py")]


def _save_code_parts(results: Path, module: str, source: Path) -> None:
    """Save the parts of a code digest once, so that a later audit can name the changed function."""
    file = _parts_file(results, code_digest(module, source))
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as part:
            part.write_text(json.dumps(code_parts(module, source), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _parts_file(results: Path, digest: str) -> Path:
    return results / STATE_FOLDER / "code" / f"{digest}.json"
