"""Replay of one recorded job in a sandbox: a folder with links to its inputs at their recorded paths.

A folder of the sandbox replaces the working directory of the run. The recorded paths are relative to it, so the paths that
the step writes to its outputs are the same as in the run.
"""

import inspect
import json
import os
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from jointseg.audit.lineage import Lineage
from jointseg.provenance.hash_cache import HashCache
from jointseg.provenance.job_record import STATE_FOLDER, run_job
from jointseg.provenance.manifest import FOLDER, Artefact, Manifest, read
from jointseg.runtime import job_status
from jointseg.runtime.errors import DataError

# Nesting depth of the working directory in the sandbox; recorded paths may start with as many "..".
DEPTH = 8
# Variables that Snakemake sets to the number of threads of a rule.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class StepFailedError(Exception):
    """The step failed."""


class Sandbox:
    """A scratch folder in which jobs are rerun, one after another."""

    def __init__(self, scratch: Path, lineage: Lineage) -> None:
        self.lineage = lineage
        self.scratch = scratch.resolve()
        self._root = self.scratch / "sandbox"
        self._workdir = self._root.joinpath(*["in"] * DEPTH)
        self._state = self.scratch / "state"

    def replay(self, manifest: Manifest) -> Manifest:
        """Rerun a job and return its new manifest. `path` returns the location of its outputs until the next job.

        Raises:
            DataError: an input is missing or has changed, or a path cannot be reproduced in the sandbox.
            StepFailedError: the step failed; the message is that of the step.
        """
        self._clear(manifest)
        # Folders before their content.
        for artefact in sorted(manifest.inputs, key=lambda artefact: len(PurePosixPath(artefact.path).parts)):
            self._link(manifest, artefact)
        call = {
            "rule": manifest.rule,
            "step": manifest.record["step"],
            "wildcards": manifest.record["wildcards"],
            "params": manifest.record["params"],
            "inputs": _grouped((file.name, self._sandbox_path(manifest, file.path)) for file in manifest.inputs),
            "outputs": _grouped((file.name, self._output_path(manifest, file.path)) for file in manifest.outputs),
            "manifest": self._sandbox_path(manifest, f"{manifest.record['results']}/{FOLDER}/{manifest.name}.json"),
            "log": (self.scratch / "log").as_posix(),
        }
        call_file = self.scratch / "call.json"
        call_file.write_text(json.dumps(call))
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(call_file)],
            cwd=self._workdir,
            env=_environment(manifest),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise StepFailedError(lines[-1])
        return read(self._workdir / call["manifest"])

    def path(self, manifest: Manifest, recorded: str) -> Path:
        """Return the location in the sandbox of a recorded path."""
        return self._workdir / self._sandbox_path(manifest, recorded)

    def _clear(self, manifest: Manifest) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        self._state.mkdir(parents=True, exist_ok=True)
        self._workdir.mkdir(parents=True)
        # The cache of checksums is shared by all jobs.
        link = self.path(manifest, manifest.record["results"]) / STATE_FOLDER
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self._state)

    def _sandbox_path(self, manifest: Manifest, recorded: str) -> str:
        """A recorded path as passed to the step: unchanged, except absolute paths in the results folder."""
        path = PurePosixPath(recorded)
        if path.is_absolute():
            in_results = manifest.relative_path(recorded) is not None
            return (self._root / path.relative_to("/")).as_posix() if in_results else recorded
        if not Path(os.path.normpath(self._workdir / path)).is_relative_to(self._root):
            raise DataError(f"{recorded} is more than {DEPTH} folders above the working directory of the run")
        return recorded

    def _output_path(self, manifest: Manifest, recorded: str) -> str:
        """The path of an output, which must be in the sandbox."""
        path = self._sandbox_path(manifest, recorded)
        target = Path(os.path.normpath(self._workdir / path))
        if not target.is_relative_to(self._root) or not target.resolve().is_relative_to(self._root):
            raise DataError(f"output {recorded} is outside the results folder or in a folder that the job reads")
        return path

    def _link(self, manifest: Manifest, artefact: Artefact) -> None:
        """Link an input into the sandbox and check its checksum."""
        path = self.lineage.path(manifest, artefact.path)
        if not path.exists():
            raise DataError(f"input {artefact.path} does not exist")
        link = Path(os.path.normpath(self._workdir / self._sandbox_path(manifest, artefact.path)))
        if link != path and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        digest = HashCache(self._state / "hashes.sqlite").digest(link)
        if digest != artefact.sha256:
            raise DataError(f"input {artefact.path} has changed: sha256 {digest[:12]}, recorded {artefact.sha256[:12]}")


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, path in pairs:
        groups.setdefault(name, []).append(path)
    return groups


def reads_network(manifest: Manifest) -> bool:
    """Return whether a job reads pixels or scene lists from the network."""
    source = manifest.record["params"].get("source")
    return isinstance(source, dict) and source.get("kind") in ("earthengine", "stac")


def expects_list(function: Any, name: str) -> bool:
    """Return whether a step annotates a parameter as a list or sequence of paths, not as a single path."""
    hint = typing.get_type_hints(function).get(name)
    return any(typing.get_origin(kind) in (list, Sequence) for kind in (hint, *typing.get_args(hint)))


def _environment(manifest: Manifest) -> dict[str, str]:
    """Environment variables: the recorded number of threads, and the module path of this process."""
    threads = manifest.record["device"].get("torch_threads") or manifest.record["params"].get("threads") or 1
    modules = os.pathsep.join(str(Path(folder).resolve()) for folder in sys.path)
    environment = {key: value for key, value in os.environ.items() if key != job_status.ENV_VARIABLE}
    return environment | dict.fromkeys(THREADS, str(threads)) | {"PYTHONPATH": modules}


class _Named(dict[str, Any]):
    """Named values as Snakemake passes them to scripts: iteration yields values."""

    def __iter__(self) -> Any:
        return iter(self.values())


def _call_step(call_file: Path) -> None:
    """Call the step with the recorded arguments and write a manifest; runs in a separate process."""
    call = json.loads(call_file.read_text())
    module, _, name = call["step"].partition(":")
    function = getattr(import_module(module), name)
    paths = {
        key: {name: files if expects_list(function, name) else files[0] for name, files in call[key].items()}
        for key in ("inputs", "outputs")
    }
    recorded = paths["inputs"].keys() | paths["outputs"].keys() | call["wildcards"].keys() | call["params"].keys()
    for name, parameter in inspect.signature(function).parameters.items():
        # A manifest does not contain empty inputs.
        if name not in recorded and parameter.default is inspect.Parameter.empty:
            paths["inputs"][name] = []
    job = SimpleNamespace(
        rule=call["rule"],
        input=_Named(paths["inputs"]),
        output=_Named(paths["outputs"] | {"manifest": call["manifest"]}),
        wildcards=_Named(call["wildcards"]),
        params=_Named(call["params"]),
        log=[call["log"]],
    )
    run_job(job, function)


if __name__ == "__main__":  # worker processes of a step import this file too
    _call_step(Path(sys.argv[1]))
