"""What half-done work depends on, as one text: work kept for another key is not gone on with."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jointseg.provenance import remote_input
from jointseg.provenance.code_digest import code_digest
from jointseg.provenance.digest import file_digest


def cache_key(module: str, inputs: Iterable[Path], settings: dict[str, Any]) -> str:
    """sha256 over the code of a step's module, its inputs and settings.

    Args:
        module: full name of the module; everything of the package that it imports counts.
        inputs: files, by their content; files in folders by name, size and time.
        settings: JSON-able values.
    """
    told = {"code": code_digest(module), "inputs": [_identity(Path(path)) for path in inputs]}
    return hashlib.sha256(json.dumps(told | settings, sort_keys=True).encode()).hexdigest()


def _identity(path: Path) -> list[Any]:
    if not path.is_dir():
        return [path.as_posix(), file_digest(path) if path.exists() else remote_input.recorded_entry(path).sha256]
    files = sorted(each for each in path.rglob("*") if each.is_file())
    stats = [(each, each.stat()) for each in files]
    return [path.as_posix(), [[each.name, stat.st_size, stat.st_mtime_ns] for each, stat in stats]]
