"""Python source as what counts of it: syntax without comments, docstrings and formatting."""

import ast
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MODULE_LEVEL = "(module)"
PART_DIGITS = 12
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_UNSAID = frozenset({"ctx", "kind", "type_comment"})
_DOCUMENTED = (ast.Module, *DEFINITIONS)


@dataclass(frozen=True)
class ParsedSource:
    """What counts of one source file: its syntax, also as text, its strings, its import statements."""

    tree: ast.Module
    tokens: list[str]
    texts: set[str]
    imports: list[ast.AST]


@cache
def parse_source(path: Path) -> ParsedSource:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    if path.name == "__init__.py":  # a new version number alone changes no result
        tree.body = [line for line in tree.body if not _assigns_version(line)]
    reading = ParsedSource(tree, [], set(), [])
    _walk(tree, reading)
    return reading


def _walk(value: object, into: ParsedSource) -> None:
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
    return isinstance(line, ast.Expr) and is_string(line.value)


def _assigns_version(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and all(
        isinstance(target, ast.Name) and target.id == "__version__" for target in line.targets
    )


def is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def parts_of(tree: ast.Module) -> dict[str, str]:
    """Short digests of the functions and methods of a module, and of what is left around them."""
    tokens: dict[str, list[str]] = {}

    def note(node: ast.AST, place: str) -> None:
        reading = ParsedSource(tree, [], set(), [])
        _walk(node, reading)
        tokens.setdefault(place, []).extend(reading.tokens)

    for line in tree.body:
        if isinstance(line, ast.FunctionDef | ast.AsyncFunctionDef):
            note(line, line.name)
        elif isinstance(line, ast.ClassDef):
            methods = [each for each in line.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            for method in methods:
                note(method, f"{line.name}.{method.name}")
            rest = [each for each in line.body if each not in methods]
            note(ast.ClassDef(line.name, line.bases, line.keywords, rest, line.decorator_list), line.name)
        elif not isinstance(line, ast.Expr) or not is_string(line.value):
            note(line, MODULE_LEVEL)
    return {
        place: hashlib.sha256("\n".join(found).encode()).hexdigest()[:PART_DIGITS] for place, found in tokens.items()
    }
