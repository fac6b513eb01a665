"""The manifests of a results folder as a graph: who made a file, and out of what."""

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
    """One input of a job.

    Attributes:
        artefact: what the job says it took.
        path: where it lies now.
        maker: the job that made it, None for an input that no known job made.
        same: whether the maker's manifest gives it the hash that the job took.
    """

    artefact: Artefact
    path: Path
    producer: Manifest | None
    matches: bool


@dataclass(frozen=True)
class _Output:
    artefact: Artefact
    producer: Manifest


class Lineage:
    """The jobs of a results folder, linked by their files.

    Attributes:
        results: the folder; it may have been moved since it was made.
        manifests: by name, such as "isa/2021/50N_E0660_N3540".
    """

    def __init__(self, results: Path) -> None:
        """Reads every manifest. Raises DataError when there is none, or one that is not whole."""
        folder = results / FOLDER
        if not folder.is_dir():
            raise DataError(f"{results} has no folder named {FOLDER}; give the results folder of a run")
        self.results = results
        files = sorted(Path(here, name) for here, _, names in os.walk(folder) for name in names if name[-5:] == ".json")
        found = (parse(file, content) for file, content in zip(files, read_contents(files)))
        self.manifests = {manifest.name: manifest for manifest in found}
        if not self.manifests:
            raise DataError(f"{folder} holds no manifest; give the results folder of a run")
        self._elsewhere: dict[Path, Lineage | None] = {}

    @cached_property
    def _outputs(self) -> dict[str, _Output]:
        """Declared outputs by their path in the results folder."""
        return {
            inside: _Output(artefact, manifest)
            for manifest in self.manifests.values()
            for inside, artefact in manifest.declared_outputs()
        }

    def job(self, rule: str, **wildcards: object) -> Manifest:
        """The manifest of one job. Raises DataError when the run has none."""
        wanted = {name: str(value) for name, value in wildcards.items()}
        for manifest in self.manifests.values():
            if manifest.rule == rule and manifest.record["wildcards"] == wanted:
                return manifest
        asked = " ".join(f"{name}={value}" for name, value in wanted.items())
        raise DataError(f"{self.results} has no manifest of rule {rule} {asked}".rstrip() + "; run it first")

    def find_output(self, inside: str) -> tuple[Artefact, Manifest] | None:
        """The declared output that is, or holds, a path in the results folder, and its job."""
        place = PurePosixPath(inside)
        for each in (place, *place.parents):
            if found := self._outputs.get(each.as_posix()):
                return found.artefact, found.producer
        return None

    def parents(self, manifest: Manifest) -> list[Parent]:
        """The inputs of a job, in its order; those made by another run are looked up in that run's manifests."""
        return [self._parent(manifest, taken) for taken in manifest.inputs]

    def ancestors(self, manifest: Manifest) -> Iterator[Manifest]:
        """Every job behind a job, of this run and of others, nearest first, each once."""
        seen, waiting = {manifest.file}, [manifest]
        while waiting:
            here = waiting.pop(0)
            for parent in self.lineage_of(here).parents(here):
                if parent.producer is not None and parent.producer.file not in seen:
                    seen.add(parent.producer.file)
                    waiting.append(parent.producer)
                    yield parent.producer

    def path(self, manifest: Manifest, recorded: str) -> Path:
        """Where a path that a manifest names lies now, had the working directory moved along with the results."""
        inside = manifest.relative_path(recorded)
        if inside is not None:
            return self.results / inside
        home = PurePosixPath(manifest.record["results"])
        here = self.results.resolve()
        if not home.is_absolute() and here.parts[-len(home.parts) :] == home.parts:
            return Path(os.path.relpath(Path(*here.parts[: -len(home.parts)], recorded)))
        return Path(recorded)

    def find_lineage(self, path: Path) -> "Lineage | None":
        """The run in whose results folder a path lies, None where it lies in none."""
        for folder in path.absolute().parents:
            if (folder / FOLDER).is_dir():
                if folder not in self._elsewhere:
                    known = Lineage(folder)
                    known._elsewhere = self._elsewhere
                    self._elsewhere[folder] = known
                return self._elsewhere[folder]
        return None

    def lineage_of(self, manifest: Manifest) -> "Lineage":
        """The run that a manifest belongs to: this one, or another that made one of its inputs."""
        own = manifest.file.is_relative_to(self.results)
        return self if own else self.find_lineage(manifest.file) or self

    def _parent(self, manifest: Manifest, taken: Artefact) -> Parent:
        path = self.path(manifest, taken.path)
        inside = manifest.relative_path(taken.path)
        if inside is not None and (name := _job_of(inside)) in self.manifests:
            whole = self.manifests[name].file.read_bytes()
            return Parent(taken, path, self.manifests[name], sha256(whole).hexdigest() == taken.sha256)
        made = self.find_output(inside) if inside is not None else None
        if made is None and inside is None and (other := self.find_lineage(path)) is not None:
            made = other.find_output(path.absolute().relative_to(other.results).as_posix())
        if made is None:
            return Parent(taken, path, None, False)
        artefact, maker = made
        own = PurePosixPath(taken.path).name == PurePosixPath(artefact.path).name
        return Parent(taken, path, maker, artefact.sha256 == taken.sha256 if own else _holds(artefact, taken))


def _job_of(inside: str) -> str:
    """The name of the job whose manifest lies at a path in the results folder, "" for any other file."""
    place = PurePosixPath(inside)
    return place.relative_to(FOLDER).with_suffix("").as_posix() if place.is_relative_to(FOLDER) else ""


def _holds(folder: Artefact, taken: Artefact) -> bool:
    """Whether a declared folder lists a file of the hash that was taken."""
    return any(entry.sha256 == taken.sha256 for entry in folder.files or ())
