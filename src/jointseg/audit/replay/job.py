"""Does one recorded job again in a world of its own: links to its inputs at their recorded paths, and its outputs.

The steps are given the paths that the manifest names, relative to a scratch folder in the place of the working
directory of the run, so that what they write of paths is what the run wrote.
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

# Folders between the scratch folder and the one that stands for the working directory: as many ".." may a recorded
# path begin with.
DEPTH = 8
# What Snakemake sets to the threads of a rule for its jobs.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class StepFailedError(Exception):
    """The step ended with an error."""


class Sandbox:
    """A scratch folder in which jobs are done again, one after another."""

    def __init__(self, scratch: Path, lineage: Lineage) -> None:
        self.lineage = lineage
        self.scratch = scratch.resolve()
        self._root = self.scratch / "world"
        self._home = self._root.joinpath(*["in"] * DEPTH)
        self._kept = self.scratch / "remembered"

    def replay(self, manifest: Manifest) -> Manifest:
        """Does a job again and returns its new manifest; `path` tells where its outputs lie, until the next job.

        Raises:
            DataError: an input is gone or was changed, or a path cannot be rebuilt in the scratch folder.
            FailedError: the step failed; the message is its own.
        """
        self._clear(manifest)
        # Folders before what lies in them.
        for taken in sorted(manifest.inputs, key=lambda taken: len(PurePosixPath(taken.path).parts)):
            self._link(manifest, taken)
        call = {
            "rule": manifest.rule,
            "step": manifest.record["step"],
            "wildcards": manifest.record["wildcards"],
            "params": manifest.record["params"],
            "inputs": self._listed((taken.name, self._given(manifest, taken.path)) for taken in manifest.inputs),
            "outputs": self._listed((made.name, self._free(manifest, made.path)) for made in manifest.outputs),
            "manifest": self._given(manifest, f"{manifest.record['results']}/{FOLDER}/{manifest.name}.json"),
            "log": (self.scratch / "log").as_posix(),
        }
        asked = self.scratch / "call.json"
        asked.write_text(json.dumps(call))
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(asked)],
            cwd=self._home,
            env=_environment(manifest),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise StepFailedError(lines[-1])
        return read(self._home / call["manifest"])

    def path(self, manifest: Manifest, recorded: str) -> Path:
        """Where the replayed job has a path that the manifest names."""
        return self._home / self._given(manifest, recorded)

    def code(self, digest: str) -> dict[str, dict[str, str]] | None:
        """What the code digest of a replayed job is made of."""
        kept = self._kept / "code" / f"{digest}.json"
        return json.loads(kept.read_bytes()) if kept.is_file() else None

    def _clear(self, manifest: Manifest) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        self._kept.mkdir(parents=True, exist_ok=True)
        self._home.mkdir(parents=True)
        # The hashes of inputs that several jobs take are remembered.
        link = self.path(manifest, manifest.record["results"]) / STATE_FOLDER
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self._kept)

    def _given(self, manifest: Manifest, recorded: str) -> str:
        """A recorded path as the step is given it: the same, but for absolute paths in the results folder."""
        path = PurePosixPath(recorded)
        if path.is_absolute():
            inside = manifest.relative_path(recorded) is not None
            return (self._root / path.relative_to("/")).as_posix() if inside else recorded
        if not Path(os.path.normpath(self._home / path)).is_relative_to(self._root):
            raise DataError(f"{recorded} lies more than {DEPTH} folders above the working directory of the run")
        return recorded

    def _free(self, manifest: Manifest, recorded: str) -> str:
        """An output's path, which must not lead out of the world."""
        given = self._given(manifest, recorded)
        place = Path(os.path.normpath(self._home / given))
        if not place.is_relative_to(self._root) or not place.resolve().is_relative_to(self._root):
            raise DataError(f"output {recorded} lies outside the results folder or in a folder that the job reads")
        return given

    def _link(self, manifest: Manifest, taken: Artefact) -> None:
        """Links an input into the world and sees to it that it is what the job took."""
        path = self.lineage.path(manifest, taken.path)
        if not path.exists():
            raise DataError(f"input {taken.path} is not there")
        there = Path(os.path.normpath(self._home / self._given(manifest, taken.path)))
        if there != path and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(path.resolve())
        digest = HashCache(self._kept / "hashes.sqlite").digest(there)
        if digest != taken.sha256:
            raise DataError(f"input {taken.path} changed: sha256 {digest[:12]}, the job took {taken.sha256[:12]}")

    @staticmethod
    def _listed(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, path in pairs:
            found.setdefault(name, []).append(path)
        return found


def reads_network(manifest: Manifest) -> bool:
    """Whether a job reads pixels or lists of scenes from the network."""
    source = manifest.record["params"].get("source")
    return isinstance(source, dict) and source.get("kind") in ("earthengine", "stac")


def takes_list(function: Any, name: str) -> bool:
    """Whether a step declares a parameter as a list or sequence of paths rather than one path, or None."""
    hint = typing.get_type_hints(function).get(name)
    return any(typing.get_origin(kind) in (list, Sequence) for kind in (hint, *typing.get_args(hint)))


def _environment(manifest: Manifest) -> dict[str, str]:
    """As the job had it: threads, and this process's modules."""
    threads = manifest.record["device"].get("torch_threads") or manifest.record["params"].get("threads") or 1
    modules = os.pathsep.join(str(Path(place).resolve()) for place in sys.path)
    environment = {key: value for key, value in os.environ.items() if key != job_status.ENV_VARIABLE}
    return environment | dict.fromkeys(THREADS, str(threads)) | {"PYTHONPATH": modules}


class _Named(dict[str, Any]):
    """Names and values as Snakemake hands them to scripts: iterated by value."""

    def __iter__(self) -> Any:
        return iter(self.values())


def _call(asked: Path) -> None:
    """Calls the step as its job did, and writes a manifest; runs in a process of its own."""
    call = json.loads(asked.read_text())
    module, _, name = call["step"].partition(":")
    function = getattr(import_module(module), name)
    paths = {
        key: {each: found if takes_list(function, each) else found[0] for each, found in call[key].items()}
        for key in ("inputs", "outputs")
    }
    known = paths["inputs"].keys() | paths["outputs"].keys() | call["wildcards"].keys() | call["params"].keys()
    for each, parameter in inspect.signature(function).parameters.items():
        # A manifest does not name inputs that were left empty.
        if each not in known and parameter.default is inspect.Parameter.empty:
            paths["inputs"][each] = []
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
    _call(Path(sys.argv[1]))
