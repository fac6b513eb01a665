"""Layers of the packages, and limits on the size of modules and functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.layers import LAYERS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "jointseg"
LAYER = {package: number for number, (packages, _) in enumerate(LAYERS) for package in packages}
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
SOURCES = [path for folder in ("src", "tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 300, 60


def imports(module: str, everywhere: bool) -> set[str]:
    """Return the modules of this package that a module imports, at its top level or everywhere."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if everywhere else top_level(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names & MODULES.keys() - {module}


def top_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is imported, without the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from top_level(node)


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_package_contains_only_packages():
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {"__init__.py", "py.typed"}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(LAYER)


def test_packages_import_only_lower_layers():
    wrong = [
        f"{module} imports {imported}"
        for module in MODULES
        for imported in imports(module, everywhere=True)
        if package(imported) and package(module) != package(imported)
        and LAYER[package(imported)] >= LAYER[package(module)]
    ]  # fmt: skip
    assert wrong == []


def test_modules_have_no_import_cycle():
    graph = {module: imports(module, everywhere=False) for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for imported in graph[module]:
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function's body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_sizes_of_modules_and_functions():
    too_long = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        name, lines = path.relative_to(ROOT).as_posix(), len(text.splitlines())
        if lines > MAX_MODULE_LINES:
            too_long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > MAX_FUNCTION_LINES:
                too_long.append(f"{name}: {node.name}, {body_lines(node)} lines")
    assert too_long == []
