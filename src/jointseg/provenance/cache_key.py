"""Cache keys: intermediate results of an interrupted job are resumed only if their key is unchanged."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jointseg.provenance import remote_input
from jointseg.provenance.code_digest import code_digest
from jointseg.provenance.digest import file_digest


def cache_key(module: str, inputs: Iterable[Path], settings: dict[str, Any]) -> str:
    """Return a sha256 over the code of a step's module and of the modules that it imports, its inputs and its settings.

    Files are identified by content, folders by name, size and time of their files.
    """
    payload = {"code": code_digest(module), "inputs": [_identity(Path(path)) for path in inputs]}
    return hashlib.sha256(json.dumps(payload | settings, sort_keys=True).encode()).hexdigest()


def _identity(path: Path) -> list[Any]:
    if not path.is_dir():
        return [path.as_posix(), file_digest(path) if path.exists() else remote_input.recorded_entry(path).sha256]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    stats = [(file, file.stat()) for file in files]
    return [path.as_posix(), [[file.name, stat.st_size, stat.st_mtime_ns] for file, stat in stats]]
