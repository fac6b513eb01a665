"""What one job did, as JSON: its inputs and outputs by hash, and where those files lie now."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from jointseg.provenance.digest import Entry
from jointseg.runtime.errors import DataError

SCHEMA = "jointseg/manifest/1"
FOLDER = "manifests"  # in a results folder
BATCH_FILES = 64  # read by a thread in one go


def results_of(manifest: Path) -> Path:
    """The results folder of a manifest kept at results/manifests/rule/name.json."""
    parts = manifest.parts
    if FOLDER not in parts[:-1]:
        raise DataError(f"the manifest {manifest} does not lie in a folder named {FOLDER} of the results folder")
    last = len(parts) - 1 - parts[::-1].index(FOLDER)
    return Path(*parts[:last])


def rule_of(manifest: Path) -> str:
    """The rule of a manifest kept at results/manifests/rule.json or below results/manifests/rule/."""
    return manifest.relative_to(results_of(manifest) / FOLDER).parts[0].removesuffix(".json")


def sealed(written: dict[str, Any]) -> str:
    """A manifest as the text of its file: JSON whose last entry, `seal`, is the sha256 of all lines before it.

    The seal tells a slip, such as an edit or a flipped bit, from what the job wrote. It is no proof against
    somebody who seals again: that is what the root of a release is for.
    """
    # Entries by name; what they hold in its own order, which may be part of a call.
    ordered = {key: written[key] for key in sorted(written)}
    text = json.dumps(ordered, indent=1, ensure_ascii=False)
    body = text.removesuffix("\n}") + ",\n"
    return f'{body} "seal": "{sha256(body.encode()).hexdigest()}"\n}}\n'


def is_sealed(content: bytes) -> bool:
    """Whether the content of a manifest's file is what its seal says."""
    body, found, rest = content.rpartition(b' "seal": "')
    return bool(found) and rest == f'{sha256(body).hexdigest()}"\n}}\n'.encode()


@dataclass(frozen=True)
class Artefact:
    """One input or output of a job: a file, or a folder with (where listed) its files."""

    name: str
    path: str
    sha256: str
    size: int
    files: tuple[Entry, ...] | None = None

    @classmethod
    def of(cls, written: dict[str, Any]) -> "Artefact":
        files = written.get("files")
        listed = None if files is None else tuple(Entry(**entry) for entry in files)
        return cls(written["name"], written["path"], written["sha256"], written["size"], listed)

    def entries(self, place: str) -> list[Entry]:
        """Its files, by their paths when the artefact itself lies at `place`."""
        if self.files is None:
            return [Entry(place, self.size, self.sha256)]
        return [Entry(f"{place}/{each.path}", each.size, each.sha256) for each in self.files]


@dataclass(frozen=True)
class Manifest:
    """A manifest as read back.

    Attributes:
        file: where it lies.
        name: its path in the manifests folder without .json, such as "isa/2021/50N_E0660_N3540".
        written: everything it says.
    """

    file: Path
    name: str
    record: dict[str, Any]

    @property
    def rule(self) -> str:
        return self.record["rule"]

    @property
    def device(self) -> str:
        """The GPU that the job used, else its processor."""
        device = self.record.get("device") or {}
        return str(device.get("cuda") or device.get("processor") or "unknown")

    @cached_property
    def inputs(self) -> list[Artefact]:
        return [Artefact.of(each) for each in self.record["inputs"]]

    @property
    def materials(self) -> list[Artefact]:
        """The inputs but manifests of the run: these tell of times, so no two runs have the same."""
        return [each for each in self.inputs if not (self.relative_path(each.path) or "").startswith(f"{FOLDER}/")]

    @cached_property
    def outputs(self) -> list[Artefact]:
        return [Artefact.of(each) for each in self.record["outputs"]]

    def declared_outputs(self) -> Iterator[tuple[str, Artefact]]:
        """The outputs in the results folder, by their path in it; those elsewhere are left out."""
        for output in self.outputs:
            if (inside := self.relative_path(output.path)) is not None:
                yield inside, output

    def relative_path(self, path: str) -> str | None:
        """The path relative to the results folder of this manifest; None when it lies elsewhere.

        The folder is the one of the time of recording: results may have been moved since.
        """
        prefix = f"{self.record['results']}/"
        if path.startswith(prefix) and "//" not in path and "/." not in path:
            return path[len(prefix) :]  # what nearly every path is, without the price of PurePosixPath
        recorded = PurePosixPath(path)
        root = PurePosixPath(self.record["results"])
        if (
            recorded.is_absolute() != root.is_absolute()
            or ".." in recorded.parts[:1]
            or not recorded.is_relative_to(root)
        ):
            return None
        return recorded.relative_to(root).as_posix()


def read(file: Path) -> Manifest:
    """Reads a manifest. Raises DataError when it is not a whole manifest of this schema."""
    return parse(file, file.read_bytes())


def parse(file: Path, content: bytes) -> Manifest:
    """A manifest from the content of its file. Raises DataError when it is not a whole manifest of this schema."""
    _, inside, name = f"/{file.as_posix()}".rpartition(f"/{FOLDER}/")
    if not inside:
        results_of(file)  # says what is wrong
    try:
        written = json.loads(content)
        if written["schema"] != SCHEMA:
            raise DataError(f"{file} has schema {written['schema']!r}, expected {SCHEMA!r}; run its job again")
        manifest = Manifest(file, name.removesuffix(".json"), written)
        _ = written["code"], written["wildcards"].items()
        paths = [each.path for each in (*manifest.inputs, *manifest.outputs)]
        if not all(isinstance(text, str) for text in (written["results"], manifest.rule, *paths)):
            raise TypeError("a path or a rule is not text")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{file} is not a whole manifest ({type(error).__name__}: {error}); run its job again"
        ) from error
    return manifest


def read_contents(files: list[Path]) -> Iterator[bytes]:
    """What many files hold, in their order; read by threads in batches, for a disk that answers late."""
    batches = [files[start : start + BATCH_FILES] for start in range(0, len(files), BATCH_FILES)]
    with ThreadPoolExecutor() as pool:
        for batch in pool.map(lambda batch: [file.read_bytes() for file in batch], batches):
            yield from batch
