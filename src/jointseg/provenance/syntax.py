"""Normalised Python syntax: source code without comments, docstrings and formatting, for code digests."""

import ast
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MODULE_LEVEL = "(module)"
PART_DIGITS = 12
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment"})
_DOCUMENTED = (ast.Module, *DEFINITIONS)


@dataclass(frozen=True)
class ParsedSource:
    """One source file: its syntax tree, the tree as normalised tokens, string literals, and imports (with all calls)."""

    tree: ast.Module
    tokens: list[str]
    strings: set[str]
    imports: list[ast.AST]


@cache
def parse_source(path: Path) -> ParsedSource:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    if path.name == "__init__.py":  # the version number does not affect results
        tree.body = [line for line in tree.body if not _assigns_version(line)]
    parsed = ParsedSource(tree, [], set(), [])
    _walk(tree, parsed)
    return parsed


def _walk(value: object, into: ParsedSource) -> None:
    """Append a subtree to `into`, without docstrings and fields that differ between Python versions."""
    tokens = into.tokens
    if isinstance(value, ast.AST):
        tokens.append(value.__class__.__name__)
        for field in value._fields:
            part = getattr(value, field, None)
            if field in _IGNORED_FIELDS or part is None or part == []:
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
            into.strings.add(value)


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and is_string(line.value)


def _assigns_version(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and all(
        isinstance(target, ast.Name) and target.id == "__version__" for target in line.targets
    )


def is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def parts_of(tree: ast.Module) -> dict[str, str]:
    """Return short digests of the functions, methods, class bodies and module-level code of a module."""
    tokens: dict[str, list[str]] = {}

    def add(node: ast.AST, part: str) -> None:
        parsed = ParsedSource(tree, [], set(), [])
        _walk(node, parsed)
        tokens.setdefault(part, []).extend(parsed.tokens)

    for line in tree.body:
        if isinstance(line, ast.FunctionDef | ast.AsyncFunctionDef):
            add(line, line.name)
        elif isinstance(line, ast.ClassDef):
            methods = [node for node in line.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            for method in methods:
                add(method, f"{line.name}.{method.name}")
            rest = [node for node in line.body if node not in methods]
            add(ast.ClassDef(line.name, line.bases, line.keywords, rest, line.decorator_list), line.name)
        elif not isinstance(line, ast.Expr) or not is_string(line.value):
            add(line, MODULE_LEVEL)
    return {part: hashlib.sha256("\n".join(found).encode()).hexdigest()[:PART_DIGITS] for part, found in tokens.items()}
