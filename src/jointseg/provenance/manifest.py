"""Manifests: the record of one job as JSON, with its call and the checksums of its inputs and outputs."""

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
BATCH_FILES = 64  # read per thread task


def results_of(manifest: Path) -> Path:
    """Return the results folder of a manifest RESULTS/manifests/RULE/NAME.json."""
    parts = manifest.parts
    if FOLDER not in parts[:-1]:
        raise DataError(f"{manifest} is not in a folder {FOLDER}; expected RESULTS/{FOLDER}/RULE/NAME.json")
    last = len(parts) - 1 - parts[::-1].index(FOLDER)
    return Path(*parts[:last])


def rule_of(manifest: Path) -> str:
    """Return the rule of a manifest RESULTS/manifests/RULE.json or RESULTS/manifests/RULE/NAME.json."""
    return manifest.relative_to(results_of(manifest) / FOLDER).parts[0].removesuffix(".json")


def sealed(record: dict[str, Any]) -> str:
    """Return the text of a manifest: JSON whose last entry, `seal`, is the sha256 of all lines before it.

    The seal detects accidental changes, such as an edit or a flipped bit. It does not detect an edit by someone who
    computes a new seal; the root hash of a release does.
    """
    # Only the top level is sorted: the order of nested keys may be part of a call.
    ordered = {key: record[key] for key in sorted(record)}
    text = json.dumps(ordered, indent=1, ensure_ascii=False)
    body = text.removesuffix("\n}") + ",\n"
    return f'{body} "seal": "{sha256(body.encode()).hexdigest()}"\n}}\n'


def is_sealed(content: bytes) -> bool:
    """Return whether the seal of a manifest matches its content."""
    body, key, rest = content.rpartition(b' "seal": "')
    return bool(key) and rest == f'{sha256(body).hexdigest()}"\n}}\n'.encode()


@dataclass(frozen=True)
class Artefact:
    """One input or output of a job: a file, or a folder with the entries of its files (None if not listed)."""

    name: str
    path: str
    sha256: str
    size: int
    files: tuple[Entry, ...] | None = None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Artefact":
        files = record.get("files")
        entries = None if files is None else tuple(Entry(**entry) for entry in files)
        return cls(record["name"], record["path"], record["sha256"], record["size"], entries)

    def entries(self, path: str) -> list[Entry]:
        """Return the entries of its files, with paths as if the artefact were at `path`."""
        if self.files is None:
            return [Entry(path, self.size, self.sha256)]
        return [Entry(f"{path}/{entry.path}", entry.size, entry.sha256) for entry in self.files]


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read from its file; `name` is its path in the manifests folder without .json."""

    file: Path
    name: str
    record: dict[str, Any]

    @property
    def rule(self) -> str:
        return self.record["rule"]

    @property
    def device(self) -> str:
        """GPU of the job, or its processor if it used no GPU."""
        device = self.record.get("device") or {}
        return str(device.get("cuda") or device.get("processor") or "unknown")

    @cached_property
    def inputs(self) -> list[Artefact]:
        return [Artefact.from_record(entry) for entry in self.record["inputs"]]

    @property
    def materials(self) -> list[Artefact]:
        """Inputs without manifests: manifests contain times, so they differ between identical runs."""
        return [
            artefact
            for artefact in self.inputs
            if not (self.relative_path(artefact.path) or "").startswith(f"{FOLDER}/")
        ]

    @cached_property
    def outputs(self) -> list[Artefact]:
        return [Artefact.from_record(entry) for entry in self.record["outputs"]]

    def declared_outputs(self) -> Iterator[tuple[str, Artefact]]:
        """Yield (path in the results folder, output) for the outputs in the results folder."""
        for output in self.outputs:
            if (path := self.relative_path(output.path)) is not None:
                yield path, output

    def relative_path(self, path: str) -> str | None:
        """Return a recorded path relative to the recorded results folder; None if it is not in this folder.

        The results folder may have been moved since the job ran.
        """
        prefix = f"{self.record['results']}/"
        if path.startswith(prefix) and "//" not in path and "/." not in path:
            return path[len(prefix) :]  # fast path: PurePosixPath is slow
        recorded = PurePosixPath(path)
        root = PurePosixPath(self.record["results"])
        outside = recorded.is_absolute() != root.is_absolute() or ".." in recorded.parts[:1]
        return recorded.relative_to(root).as_posix() if not outside and recorded.is_relative_to(root) else None


def read(file: Path) -> Manifest:
    """Read a manifest. Raises DataError if it is not a complete manifest of this schema."""
    return parse(file, file.read_bytes())


def parse(file: Path, content: bytes) -> Manifest:
    """Parse the content of a manifest. Raises DataError if it is not a complete manifest of this schema."""
    _, folder, name = f"/{file.as_posix()}".rpartition(f"/{FOLDER}/")
    if not folder:
        results_of(file)  # raises
    try:
        record = json.loads(content)
        if record["schema"] != SCHEMA:
            raise DataError(f"{file} has schema {record['schema']!r}, expected {SCHEMA!r}; rerun its job")
        manifest = Manifest(file, name.removesuffix(".json"), record)
        _ = record["code"], record["wildcards"].items()
        paths = [artefact.path for artefact in (*manifest.inputs, *manifest.outputs)]
        if not all(isinstance(text, str) for text in (record["results"], manifest.rule, *paths)):
            raise TypeError("a path or a rule is not a string")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{file} is not a complete manifest ({type(error).__name__}: {error}); rerun its job"
        ) from error
    return manifest


def read_contents(files: list[Path]) -> Iterator[bytes]:
    """Yield the contents of many files in order; threads read them in batches to hide latency."""
    batches = [files[start : start + BATCH_FILES] for start in range(0, len(files), BATCH_FILES)]
    with ThreadPoolExecutor() as pool:
        for batch in pool.map(lambda batch: [file.read_bytes() for file in batch], batches):
            yield from batch
