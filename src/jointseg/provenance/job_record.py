"""Runs one job of the flow: calls the step, reports errors in one line, writes the manifest."""

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

STATE_FOLDER = ".jointseg"  # in a results folder: the lock, remembered hashes, progress of running jobs
RECORD_PARAMS = {"code", "environment"}  # params that tell Snakemake what made a job stale; no step takes them
Step = Callable[..., dict[str, Any] | None]


def run_job(snakemake: Any, function: Step) -> None:
    """Runs the step `function` for one job and writes the manifest beside its outputs.

    Every named input, output, wildcard and param is passed by keyword; paths as Path or list[Path], an empty
    input only where the step has no default for it; and the resource `parallel_requests`, where the step takes it. `code`, `environment` and the output `manifest` belong to the record.

    Args:
        snakemake: the object that Snakemake gives to scripts.
        function: the step.

    Raises:
        SystemExit: with status 1 when the step fails; its outputs are then removed, one line on standard error
            says why, and the log of the rule has the rest. A job that Snakemake starts again, although it refused its
            input before in the same run, says the same at once.
    """
    job = _label(snakemake)
    kept = str(object_store.workflow_path(snakemake.log[0])) if len(snakemake.log) else ""
    signal.signal(signal.SIGTERM, _terminated)
    before = job_status.read_failure(job)
    if before is not None and before.cause == job_status.INPUT:
        _fail(snakemake, before, 1)
    try:
        _log_to(snakemake.log)
        with _announced(job):
            _run(snakemake, function)
        job_status.clear_failure(job)
    except DataError as error:
        log.exception("bad input")
        cause = job_status.TRANSIENT if isinstance(error, TransientError) else job_status.INPUT
        _fail(snakemake, job_status.Failure(job, str(error), kept, cause), 1)
    except Exception as error:
        log.exception("the step failed")
        where = f" (see {kept})" if kept else ""
        _fail(snakemake, job_status.Failure(job, f"{type(error).__name__}: {error}{where}", kept, job_status.ERROR), 1)
    except (KeyboardInterrupt, SystemExit) as stop:
        status = 128 + signal.SIGINT if isinstance(stop, KeyboardInterrupt) else stop.code
        failure = job_status.Failure(job, "stopped before it was done", kept, job_status.STOPPED)
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

    taken = _artefacts(inputs, hashes)
    started = datetime.now(UTC)
    clock = time.monotonic()
    facts = function(
        **_accepted(function, inputs), **named_outputs, **wildcards, **params, **_granted(snakemake, function)
    )
    seconds = time.monotonic() - clock
    for path in _flat(named_outputs):
        if not path.exists():
            raise DataError(f"the step {function.__module__}.{function.__name__} returned without making {path}")
    changed = [each["path"] for each, now in zip(taken, _artefacts(inputs, hashes)) if each != now]
    if changed:
        raise DataError(f"{', '.join(changed)} changed while the job read it; run again once nothing writes there")

    module, source = function.__module__, _source(function)
    _keep_parts(results, module, source)
    _write(
        manifest,
        {
            "schema": SCHEMA,
            "rule": snakemake.rule,
            "results": results.as_posix(),
            "wildcards": wildcards,
            "params": params,
            "inputs": [_unlisted(each, results) for each in taken],
            "outputs": _artefacts(named_outputs, hashes),
            "facts": facts or {},
            "step": f"{function.__module__}:{function.__name__}",
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
        },
    )


def _label(snakemake: Any) -> str:
    wildcards = " ".join(f"{name}={value}" for name, value in snakemake.wildcards.items())
    return snakemake.rule + (f" [{wildcards}]" if wildcards else "")


def _log_to(names: Any) -> None:
    handlers: list[logging.Handler] = [logging.NullHandler()]
    if len(names):
        log_file = object_store.workflow_path(names[0])
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handlers = [logging.FileHandler(log_file, mode="w", encoding="utf-8")]
    logging.raiseExceptions = False  # on a full disk the one line on standard error is what is left to say
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, handlers=handlers, force=True)
    logging.captureWarnings(True)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    # As an exception, so that every file being written is cleaned up on the way out.
    raise SystemExit(128 + number)


def _fail(snakemake: Any, failure: job_status.Failure, status: int) -> NoReturn:
    for path in snakemake.output:
        remove_path(object_store.workflow_path(path))
    failure = replace(failure, reason=" ".join(failure.reason.split()))
    job_status.record_failure(failure)
    print(failure.line(), file=sys.stderr, flush=True)
    raise SystemExit(status)


@contextmanager
def _announced(job: str) -> Iterator[None]:
    """Tells `jointseg run` which job this process is, beside the state of its bars."""
    note = job_status.process_file(".job")
    if note is None:
        yield
        return
    job_status.write_json(note, {"job": job, "started": time.time()})
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def _paths(value: Any) -> Path | list[Path]:
    return (
        object_store.workflow_path(value)
        if isinstance(value, str)
        else [object_store.workflow_path(each) for each in value]
    )


def _flat(named: dict[str, Path | list[Path]]) -> list[Path]:
    return [path for value in named.values() for path in (value if isinstance(value, list) else [value])]


def _accepted(function: Step, inputs: dict[str, Path | list[Path]]) -> dict[str, Path | list[Path]]:
    """The inputs without those that the config leaves out: empty, and with a default in the step."""
    parameters = inspect.signature(function).parameters
    return {
        name: value
        for name, value in inputs.items()
        if value != [] or name not in parameters or parameters[name].default is inspect.Parameter.empty
    }


def _granted(snakemake: Any, function: Step) -> dict[str, int]:
    """How many requests at a time the job may make, for a step that asks; no params, for it changes no result."""
    granted = getattr(snakemake, "resources", None)
    if "parallel_requests" not in inspect.signature(function).parameters or granted is None:
        return {}
    return {"parallel_requests": int(granted["parallel_requests"])}


def json_value(value: Any) -> Any:
    """A value that JSON can hold: numpy scalars as numbers, paths as text, what is not finite as null."""
    if isinstance(value, dict):
        return {str(key): json_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(each) for each in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "item") and not isinstance(value, str):
        return json_value(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _artefacts(named: dict[str, Path | list[Path]], hashes: HashCache) -> list[dict[str, Any]]:
    """What a manifest says of inputs or outputs."""
    return [
        {"name": name, "path": path.as_posix(), **_hashed(path, hashes)}
        for name, value in named.items()
        for path in _flat({name: value})
    ]


def _unlisted(artefact: dict[str, Any], results: Path) -> dict[str, Any]:
    """An input without the list of its files when the job that made the folder has listed them already."""
    if Path(artefact["path"]).is_relative_to(results):
        return {key: value for key, value in artefact.items() if key != "files"}
    return artefact


def _hashed(path: Path, hashes: HashCache) -> dict[str, Any]:
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
    """What a code digest of a run is made of, as `code_parts` gave it then; None where the run did not keep it."""
    kept = _parts_file(results, digest)
    return json.loads(kept.read_bytes()) if kept.is_file() else None


def _source(function: Step) -> Path:
    """The folder from which the step's module is imported."""
    file = Path(inspect.getfile(function)).resolve()
    return file.parents[len(function.__module__.split(".")) - 1 + (file.name == "__init__.py")]


def _write(path: Path, written: dict[str, Any]) -> None:
    with atomic_write(path) as part:
        part.write_text(sealed(json_value(written)), encoding="utf-8")


def _keep_parts(results: Path, module: str, source: Path) -> None:
    """Keeps what a code digest is made of, once, so that a later audit can name the function that changed."""
    kept = _parts_file(results, code_digest(module, source))
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as part:
            part.write_text(json.dumps(code_parts(module, source), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _parts_file(results: Path, digest: str) -> Path:
    return results / STATE_FOLDER / "code" / f"{digest}.json"
