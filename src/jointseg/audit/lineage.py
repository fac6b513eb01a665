"""The manifests of a results folder as a graph: for each file its producer and the inputs of the producer."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

from jointseg.provenance.manifest import FOLDER, Artefact, Manifest, parse, read_contents
from jointseg.runtime.errors import DataError


@dataclass(frozen=True)
class Parent:
    """One input of a job."""

    artefact: Artefact  # the input as recorded by the job
    path: Path  # current path of the input
    producer: Manifest | None  # the job that produced it, None for an external input
    matches: bool  # whether the checksum recorded by the producer equals the one recorded by the job


class Lineage:
    """The jobs of a results folder, which may have been moved since the run, linked by their files.

    `manifests` has their manifests by name, such as "predict/2021/50N_E0660_N3540".
    """

    def __init__(self, results: Path) -> None:
        """Read every manifest. Raises DataError if there is none or one is incomplete."""
        folder = results / FOLDER
        if not folder.is_dir():
            raise DataError(f"{results} has no folder named {FOLDER}; pass the results folder of a run")
        self.results = results
        files = sorted(
            Path(parent, name) for parent, _, names in os.walk(folder) for name in names if name.endswith(".json")
        )
        found = (parse(file, content) for file, content in zip(files, read_contents(files)))
        self.manifests = {manifest.name: manifest for manifest in found}
        if not self.manifests:
            raise DataError(f"{folder} contains no manifest; pass the results folder of a run")
        self._other_runs: dict[Path, Lineage | None] = {}

    @cached_property
    def _outputs(self) -> dict[str, tuple[Artefact, Manifest]]:
        """Declared outputs and their producers by path in the results folder."""
        return {
            path: (artefact, manifest)
            for manifest in self.manifests.values()
            for path, artefact in manifest.declared_outputs()
        }

    def job(self, rule: str, **wildcards: object) -> Manifest:
        """Return the manifest of one job. Raises DataError if the run has none."""
        wanted = {name: str(value) for name, value in wildcards.items()}
        for manifest in self.manifests.values():
            if manifest.rule == rule and manifest.record["wildcards"] == wanted:
                return manifest
        label = " ".join([rule, *(f"{name}={value}" for name, value in wanted.items())])
        raise DataError(f"{self.results} has no manifest of rule {label}; run it first")

    def find_output(self, path: str) -> tuple[Artefact, Manifest] | None:
        """Return the declared output that is, or contains, a path in the results folder, and its producer."""
        candidate = PurePosixPath(path)
        for output in (candidate, *candidate.parents):
            if found := self._outputs.get(output.as_posix()):
                return found
        return None

    def parents(self, manifest: Manifest) -> list[Parent]:
        """Return the inputs of a job in recorded order; inputs from other runs have their producer in that run."""
        return [self._parent(manifest, artefact) for artefact in manifest.inputs]

    def ancestors(self, manifest: Manifest) -> Iterator[Manifest]:
        """Yield every job that a job depends on, in this run and in others, nearest first, each once."""
        seen, queue = {manifest.file}, [manifest]
        while queue:
            job = queue.pop(0)
            for parent in self.lineage_of(job).parents(job):
                if parent.producer is not None and parent.producer.file not in seen:
                    seen.add(parent.producer.file)
                    queue.append(parent.producer)
                    yield parent.producer

    def path(self, manifest: Manifest, recorded: str) -> Path:
        """Return the current path of a recorded path, assuming the working directory moved with the results."""
        relative = manifest.relative_path(recorded)
        if relative is not None:
            return self.results / relative
        recorded_results = PurePosixPath(manifest.record["results"])
        results = self.results.resolve()
        depth = len(recorded_results.parts)
        if not recorded_results.is_absolute() and results.parts[-depth:] == recorded_results.parts:
            return Path(os.path.relpath(Path(*results.parts[:-depth], recorded)))
        return Path(recorded)

    def find_lineage(self, path: Path) -> "Lineage | None":
        """Return the run whose results folder contains a path, None if there is none."""
        for folder in path.absolute().parents:
            if (folder / FOLDER).is_dir():
                if folder not in self._other_runs:
                    lineage = Lineage(folder)
                    lineage._other_runs = self._other_runs
                    self._other_runs[folder] = lineage
                return self._other_runs[folder]
        return None

    def lineage_of(self, manifest: Manifest) -> "Lineage":
        """Return the run of a manifest: this one, or another that produced one of its inputs."""
        own = manifest.file.is_relative_to(self.results)
        return self if own else self.find_lineage(manifest.file) or self

    def _parent(self, manifest: Manifest, artefact: Artefact) -> Parent:
        path = self.path(manifest, artefact.path)
        relative = manifest.relative_path(artefact.path)
        if relative is not None and (name := _job_of_manifest(relative)) in self.manifests:
            content = self.manifests[name].file.read_bytes()
            return Parent(artefact, path, self.manifests[name], sha256(content).hexdigest() == artefact.sha256)
        found = self.find_output(relative) if relative is not None else None
        if found is None and relative is None and (other := self.find_lineage(path)) is not None:
            found = other.find_output(path.absolute().relative_to(other.results).as_posix())
        if found is None:
            return Parent(artefact, path, None, False)
        output, producer = found
        same_name = PurePosixPath(artefact.path).name == PurePosixPath(output.path).name
        checksums = [output.sha256] if same_name else [entry.sha256 for entry in output.files or ()]
        return Parent(artefact, path, producer, artefact.sha256 in checksums)


def _job_of_manifest(path: str) -> str:
    """Job name of a manifest path in the results folder, "" for any other file."""
    file = PurePosixPath(path)
    return file.relative_to(FOLDER).with_suffix("").as_posix() if file.is_relative_to(FOLDER) else ""
