"""What one job did, as JSON: its inputs and outputs by hash, and where those files lie now."""

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from jointseg.errors import DataError
from jointseg.provenance.digest import Entry

SCHEMA = "jointseg/manifest/1"
FOLDER = "manifests"  # in a results folder


def results_of(manifest: Path) -> Path:
    """The results folder of a manifest kept at results/manifests/rule/name.json."""
    parts = manifest.parts
    if FOLDER not in parts[:-1]:
        raise DataError(f"the manifest {manifest} does not lie in a folder named {FOLDER} of the results folder")
    last = len(parts) - 1 - parts[::-1].index(FOLDER)
    return Path(*parts[:last])


def sealed(written: dict[str, Any]) -> str:
    """A manifest as the text of its file: JSON whose last entry, `seal`, is the sha256 of all lines before it.

    The seal tells a slip, such as an edit or a flipped bit, from what the job wrote. It is no proof against
    somebody who seals again: that is what the root of a release is for.
    """
    text = json.dumps(written, indent=1, sort_keys=True, ensure_ascii=False)
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
    written: dict[str, Any]

    @property
    def rule(self) -> str:
        return self.written["rule"]

    @cached_property
    def inputs(self) -> list[Artefact]:
        return [Artefact.of(each) for each in self.written["inputs"]]

    @cached_property
    def outputs(self) -> list[Artefact]:
        return [Artefact.of(each) for each in self.written["outputs"]]

    def inside(self, path: str) -> str | None:
        """The path relative to the results folder of this manifest; None when it lies elsewhere.

        The folder is the one of the time of recording: results may have been moved since.
        """
        recorded = PurePosixPath(path)
        root = PurePosixPath(self.written["results"])
        if (
            recorded.is_absolute() != root.is_absolute()
            or ".." in recorded.parts[:1]
            or not recorded.is_relative_to(root)
        ):
            return None
        return recorded.relative_to(root).as_posix()


def read(file: Path) -> Manifest:
    """Reads a manifest. Raises DataError when it is not a whole manifest of this schema."""
    try:
        written = json.loads(file.read_bytes())
        if written["schema"] != SCHEMA:
            raise DataError(f"{file} has schema {written['schema']!r}, expected {SCHEMA!r}; run its job again")
        name = file.relative_to(results_of(file) / FOLDER).with_suffix("").as_posix()
        manifest = Manifest(file, name, written)
        _ = manifest.inputs, manifest.outputs, manifest.rule, written["results"], written["code"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{file} is not a whole manifest ({type(error).__name__}: {error}); run its job again"
        ) from error
    return manifest
