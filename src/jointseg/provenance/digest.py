"""Digests of code, files and folders: what a manifest says that something was.

Only the standard library is imported here: the Snakefile asks for code digests each time it is read.
"""

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jointseg.errors import DataError

SOURCE = Path(__file__).resolve().parents[2]  # the folder that holds the package
CHUNK_BYTES = 1 << 20
# Snakemake writes this into every output folder after the job, with the time in it.
TIMESTAMP = ".snakemake_timestamp"
_UNSAID = frozenset({"ctx", "kind", "type_comment"})
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def code_digest(target: str, source: Path = SOURCE) -> str:
    """sha256 over a module and everything of its own package that it imports, directly or not.

    Comments, docstrings, blank lines and formatting do not count; a data file (template, table) in the
    module's folder counts when the module names it in a string.

    Args:
        target: "package.module", or "package.module:function" as steps are written.
        source: the folder that holds the package.
    """
    start = target.partition(":")[0]
    if _file_of(start, source) is None:
        raise DataError(f"there is no module {start} below {source}; correct the name of the step")
    waiting, seen = [start], {start}
    while waiting:
        for name in _module(waiting.pop(), source).imports - seen:
            seen.add(name)
            waiting.append(name)
    whole = hashlib.sha256()
    for name in sorted(seen):
        whole.update(f"{name} {_module(name, source).digest}\n".encode())
    return whole.hexdigest()


@dataclass(frozen=True)
class _Module:
    digest: str
    imports: frozenset[str]


@cache
def _module(name: str, source: Path) -> _Module:
    path = _file_of(name, source)
    assert path is not None
    reading = _read(path)
    whole = hashlib.sha256("\n".join(reading.tokens).encode())
    for data in _data_files(path.parent, reading.texts):
        whole.update(f"\n{data.relative_to(path.parent).as_posix()} {file_digest(data)}".encode())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = {each for node in reading.imports for each in _imports(node, package, name.partition(".")[0], source)}
    found.add(name)
    # Importing a.b.c runs a and a.b first; most of them hold nothing.
    wanted = {each for one in found for each in (one, *_parents(one))} - {name}
    return _Module(whole.hexdigest(), frozenset(each for each in wanted if not _is_trivial(each, source)))


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
    """Whether `name` has no file (a folder without __init__) or is an __init__ that does nothing."""
    path = _file_of(name, source)
    return path is None or (path.name == "__init__.py" and _read(path).tokens == ["Module", ")"])


@dataclass(frozen=True)
class _Reading:
    """What counts of one source file: its syntax as text, its strings, its import statements."""

    tokens: list[str]
    texts: set[str]
    imports: list[ast.AST]


@cache
def _read(path: Path) -> _Reading:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    if path.name == "__init__.py":  # a new version number alone changes no result
        tree.body = [line for line in tree.body if not _assigns_version(line)]
    reading = _Reading([], set(), [])
    _walk(tree, reading)
    return reading


def _walk(value: object, into: _Reading) -> None:
    """Notes a piece of a syntax tree; docstrings and the fields that Python versions disagree on stay out."""
    tokens = into.tokens
    if isinstance(value, ast.AST):
        tokens.append(value.__class__.__name__)
        for field in value._fields:
            part = getattr(value, field, None)
            if field in _UNSAID or part is None or part == []:
                continue
            if field == "body" and isinstance(value, _DOCUMENTED) and _is_docstring(part[0]):
                part = part[1:]
                if not part:
                    continue
            tokens.append(field)
            _walk(part, into)
        tokens.append(")")
        if isinstance(value, ast.Import | ast.ImportFrom | ast.Call):
            into.imports.append(value)
    elif isinstance(value, list):
        tokens.append("[")
        for part in value:
            _walk(part, into)
        tokens.append("]")
    else:
        tokens.append(repr(value))
        if isinstance(value, str):
            into.texts.add(value)


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and _is_text(line.value)


def _assigns_version(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and all(
        isinstance(target, ast.Name) and target.id == "__version__" for target in line.targets
    )


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _imports(node: ast.AST, package: str, top: str, source: Path) -> Iterator[str]:
    """Modules of the package `top` that a statement inside `package` imports."""
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
    elif isinstance(node, ast.Call) and node.args and _is_text(node.args[0]):
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        name = node.args[0].value  # type: ignore[attr-defined]
        if called == "import_module" and name.split(".")[0] == top:
            yield name


def _data_files(folder: Path, texts: set[str]) -> list[Path]:
    """Files of the module's folder, sub-packages and Python left out, that one of `texts` names."""
    named = []
    for path in _all_data_files(folder):
        own = path.relative_to(folder)
        names = {path.name, *(parent.as_posix() for parent in (own, *own.parents[:-1]))}
        if names & texts:
            named.append(path)
    return named


@cache
def _all_data_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        folders[:] = [
            name for name in folders if name != "__pycache__" and not Path(here, name, "__init__.py").is_file()
        ]
        found += [Path(here, name) for name in files if not name.endswith((".py", ".pyc"))]
    return sorted(found)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal; memory does not grow with the file."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, lambda: hashlib.sha256(usedforsecurity=False)).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One file of a folder: its posix path in the folder, its size in bytes and its sha256."""

    path: str
    size: int
    sha256: str


def tree_files(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by its posix path in it; Snakemake's own time stamp is left out."""
    found = [
        Path(here, name) for here, _, names in os.walk(folder, followlinks=True) for name in names if name != TIMESTAMP
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def tree_hash(entries: Iterable[Entry]) -> str:
    """One sha256 for a folder: that of the text which `sha256sum` prints for its files, sorted by path."""
    lines = "".join(f"{entry.sha256}  {entry.path}\n" for entry in sorted(entries, key=lambda entry: entry.path))
    return hashlib.sha256(lines.encode()).hexdigest()


def tree_digest(folder: Path, workers: int | None = None) -> tuple[list[Entry], str]:
    """The files of a folder, sorted by path, and one sha256 for all of them."""
    files = tree_files(folder)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        digests = list(pool.map(file_digest, files))
    entries = [
        Entry(path.relative_to(folder).as_posix(), path.stat().st_size, digest) for path, digest in zip(files, digests)
    ]
    return entries, tree_hash(entries)
