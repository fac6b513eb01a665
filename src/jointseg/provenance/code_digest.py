"""Code digests: a job is outdated if the code of its step, or code that the step imports, has changed.

This module imports only the standard library, because the Snakefile computes code digests whenever it is parsed.
"""

import ast
import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jointseg.provenance.digest import file_digest
from jointseg.provenance.syntax import DEFINITIONS, MODULE_LEVEL, PART_DIGITS, is_string, parse_source, parts_of
from jointseg.runtime.errors import DataError

SOURCE = Path(__file__).resolve().parents[2]  # the folder that contains the package
LOCK_FILE = "requirements.lock"
# Distribution names of packages that are imported under another name.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "ee": "earthengine-api",
    "google.auth": "google-auth",
    "googleapiclient": "google-api-python-client",
    "odc.geo": "odc-geo",
    "odc.stac": "odc-stac",
    "yaml": "PyYAML",
}
DISPLAY_ONLY = {"rich"}  # progress bars and tables; no result depends on it


@cache
def code_digest(target: str, source: Path = SOURCE) -> str:
    """Return a sha256 over a module and all modules of its package that it imports, directly or indirectly.

    Comments, docstrings, blank lines and formatting are excluded. A data file (template, table) in the folder of a module
    is included if its name is a string literal of the module. The target is "package.module" or "package.module:function".
    """
    lines = [f"{name} {_module(name, source).digest}\n" for name in _closure(target, source)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def code_parts(target: str, source: Path = SOURCE) -> dict[str, dict[str, str]]:
    """Return the parts of a code digest: short digests of every function, method and data file, by module.

    Module-level code has the key `(module)`. Code of a class outside its methods has the name of the class as key.
    """
    return {name: dict(_module(name, source).parts) for name in _closure(target, source)}


def environment(target: str, source: Path = SOURCE) -> dict[str, str]:
    """Return the locked versions of all third-party packages that a module imports, directly or indirectly.

    The lock file is beside the folder `source`. Without a lock file the result is empty.
    """
    locked = _locked(source.parent / LOCK_FILE)
    names = {name for module in _closure(target, source) for name in _module(module, source).packages}
    return {name: locked[key] for name in sorted(names) if (key := _normal(name)) in locked}


def locate(module: str, part: str, source: Path = SOURCE) -> tuple[Path, int] | None:
    """Return file and first line (from 1) of a part of `code_parts`, None if the part no longer exists."""
    file = _file_of(module, source)
    if file is None:
        return None
    data = file.parent / part
    if part == MODULE_LEVEL or data.is_file():
        return (file if part == MODULE_LEVEL else data), 1
    body: list[ast.stmt] = parse_source(file).tree.body
    line = None
    for name in part.split("."):
        found = [node for node in body if isinstance(node, DEFINITIONS) and node.name == name]
        if not found:
            return None
        line, body = found[-1].lineno, found[-1].body
    return (file, line) if line else None


@dataclass(frozen=True)
class _Module:
    """One module: its digest, imports from its own package, third-party packages, and the digests of its parts."""

    digest: str
    imports: frozenset[str]
    packages: frozenset[str]
    parts: tuple[tuple[str, str], ...]


@cache
def _closure(target: str, source: Path) -> tuple[str, ...]:
    """A module and all modules of its package that it imports, directly or indirectly, sorted."""
    start = target.partition(":")[0]
    if _file_of(start, source) is None:
        raise DataError(f"no module {start} in {source}; correct the name of the step")
    queue, seen = [start], {start}
    while queue:
        for name in _module(queue.pop(), source).imports - seen:
            seen.add(name)
            queue.append(name)
    return tuple(sorted(seen))


@cache
def _module(name: str, source: Path) -> _Module:
    path = _file_of(name, source)
    assert path is not None
    parsed = parse_source(path)
    whole = hashlib.sha256("\n".join(parsed.tokens).encode())
    parts = parts_of(parsed.tree)
    for data in _data_files(path.parent, parsed.strings):
        relative, digest = data.relative_to(path.parent).as_posix(), file_digest(data)
        whole.update(f"\n{relative} {digest}".encode())
        parts[relative] = digest[:PART_DIGITS]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imported = {module for node in parsed.imports for module in _imports(node, package, name.partition(".")[0], source)}
    imported.add(name)
    # Importing a.b.c runs a and a.b first; most of them are empty.
    executed = {module for target in imported for module in (target, *_parents(target))} - {name}
    relevant = frozenset(module for module in executed if not _is_trivial(module, source))
    packages = frozenset(_packages(parsed.imports, name.partition(".")[0]))
    return _Module(whole.hexdigest(), relevant, packages, tuple(sorted(parts.items())))


def _packages(imports: list[ast.AST], top: str) -> Iterator[str]:
    """Distribution names, as in a lock file, of imported third-party packages, without DISPLAY_ONLY."""
    for node in imports:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            first = name.partition(".")[0]
            if first != top and first not in sys.stdlib_module_names and first not in DISPLAY_ONLY:
                renamed = [DISTRIBUTIONS[key] for key in (*_parents(name), name) if key in DISTRIBUTIONS]
                yield renamed[-1] if renamed else first.replace("_", "-")


@cache
def _locked(lock: Path) -> dict[str, str]:
    """Versions by package from the lines name==version of a lock file."""
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    pinned = [line.partition(";")[0].partition("==") for line in lines if "==" in line and not line.startswith("#")]
    return {_normal(name.strip()): found.strip() for name, _, found in pinned}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


@cache
def _file_of(name: str, source: Path) -> Path | None:
    stem = source.joinpath(*name.split("."))
    for path in (stem / "__init__.py", stem.with_suffix(".py")):
        if path.is_file():
            return path
    return None


@cache
def _is_trivial(name: str, source: Path) -> bool:
    """Whether `name` has no file (a folder without __init__) or is an empty __init__."""
    path = _file_of(name, source)
    return path is None or (path.name == "__init__.py" and parse_source(path).tokens == ["Module", ")"])


def _imports(node: ast.AST, package: str, top: str, source: Path) -> Iterator[str]:
    """Modules of the package `top` that a statement in `package` imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == top)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
        if base.split(".")[0] == top:
            yield base
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if _file_of(inner, source) is not None:
                    yield inner
    elif isinstance(node, ast.Call) and node.args and is_string(node.args[0]):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        name = node.args[0].value  # type: ignore[attr-defined]
        if called == "import_module" and name.split(".")[0] == top:
            yield name


def _data_files(folder: Path, strings: set[str]) -> list[Path]:
    """Data files of the module's folder, without sub-packages and Python files, whose name is in `strings`."""
    named = []
    for path in _all_data_files(folder):
        relative = path.relative_to(folder)
        names = {path.name, *(parent.as_posix() for parent in (relative, *relative.parents[:-1]))}
        if names & strings:
            named.append(path)
    return named


@cache
def _all_data_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [
            name for name in folders if name != "__pycache__" and not Path(parent, name, "__init__.py").is_file()
        ]
        found += [Path(parent, name) for name in files if not name.endswith((".py", ".pyc"))]
    return sorted(found)
