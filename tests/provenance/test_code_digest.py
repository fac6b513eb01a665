"""The code digest of a step, its parts, and the versions of the packages that it imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from jointseg.provenance import code_digest as code
from jointseg.provenance.syntax import MODULE_LEVEL
from jointseg.run import steps
from jointseg.runtime.errors import DataError

FILES = {
    "toy/__init__.py": '"""A package."""\n__version__ = "1"\n',
    "toy/step.py": '''"""The step."""
import json
from toy import floor
from .deep import lazy_user

def run(x):
    """Runs."""
    name = "page.html.j2"
    return floor.base(x) + lazy_user.use(x)  # a comment
''',
    "toy/floor.py": "from .errors import Bad\n\ndef base(x):\n    return x + 1\n",
    "toy/errors.py": "class Bad(Exception):\n    pass\n",
    "toy/deep/__init__.py": '"""Nothing."""\n',
    "toy/deep/lazy_user.py": "def use(x):\n    from ..late import value\n    return value\n",
    "toy/late.py": "value = 3\n",
    "toy/aside.py": "from toy.floor import base\n",
    "toy/page.html.j2": "<p>{{ x }}</p>\n",
    "toy/unused.txt": "not referenced\n",
}


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def digest(source: Path, target: str = "toy.step") -> str:
    cached = (code.code_digest, code._module, code._file_of, code._is_trivial, code.parse_source, code._all_data_files)
    for function in (*cached, code._closure, code._locked):
        function.cache_clear()
    return code.code_digest(target, source)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("toy/step.py", "# a comment", "# another, much longer comment"),
        ("toy/step.py", '"""Runs."""', '"""Runs quite differently,\n\n    it says."""'),
        ("toy/step.py", '"""The step."""\n', ""),
        ("toy/floor.py", "return x + 1", "return (x\n            + 1)"),
        ("toy/__init__.py", '"1"', '"2"'),
        ("toy/deep/__init__.py", "Nothing", "Still nothing"),
        ("toy/aside.py", "base", "Bad"),
        ("toy/unused.txt", "not referenced", "still not referenced"),
    ],
)
def test_irrelevant_edit_keeps_digest(package, name, old, new):
    before = digest(package)
    edit(package / name, old, new)
    assert digest(package) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("toy/step.py", "+ lazy_user", "- lazy_user"),
        ("toy/floor.py", "x + 1", "x + 2"),
        ("toy/errors.py", "pass", "code = 1"),
        ("toy/late.py", "3", "4"),
        ("toy/page.html.j2", "<p>", "<b>"),
        ("toy/__init__.py", "__version__", "DEFAULT"),
        ("toy/deep/__init__.py", '"""Nothing."""', "from toy import aside"),
    ],
)
def test_relevant_edit_changes_digest(package, name, old, new):
    before = digest(package)
    edit(package / name, old, new)
    assert digest(package) != before


def test_function_suffix_of_target_is_ignored(package):
    assert digest(package, "toy.step:run") == code.code_digest("toy.step", package)


def test_error_names_missing_module(package):
    with pytest.raises(DataError, match=r"toy\.absent"):
        digest(package, "toy.absent")


def test_steps_do_not_import_higher_layers():
    higher_layers = {"audit", "viewer", "cli"}
    for rule in steps.STEPS:
        used = code._closure(steps.module(rule), code.SOURCE)
        assert not higher_layers & {part for name in used for part in name.split(".")[1:2]}, rule


def test_code_digest_imports_standard_library_only():
    code = (
        "import sys, jointseg.provenance.code_digest; sys.exit(bool({'numpy', 'rasterio', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_code_parts_name_changed_functions_and_data_files(package):
    before = code.code_parts("toy.step", package)
    edit(package / "toy/floor.py", "x + 1", "x + 2")
    edit(package / "toy/late.py", "value = 3", "value = 4")
    edit(package / "toy/page.html.j2", "<p>", "<b>")
    digest(package)
    after = code.code_parts("toy.step", package)
    assert before.keys() == after.keys()
    changed = {(name, part) for name in after for part in after[name] if before[name].get(part) != after[name][part]}
    assert changed == {("toy.floor", "base"), ("toy.late", MODULE_LEVEL), ("toy.step", "page.html.j2")}


def test_methods_have_separate_parts(package):
    (package / "toy/errors.py").write_text(
        "class Bad(Exception):\n    limit = 3\n\n    def message(self):\n        return 1\n"
    )
    before = code.code_parts("toy.errors", package)["toy.errors"]
    edit(package / "toy/errors.py", "return 1", "return 2")
    digest(package)
    after = code.code_parts("toy.errors", package)["toy.errors"]
    assert set(after) == {"Bad", "Bad.message"} and before["Bad"] == after["Bad"]
    assert before["Bad.message"] != after["Bad.message"]


def test_environment_contains_locked_versions_of_imported_packages(package):
    edit(package / "toy/late.py", "value = 3", "import yaml, rich\nfrom some_pkg.inner import x\nvalue = 3")
    (package.parent / code.LOCK_FILE).write_text(
        "# toy\nPyYAML==6.0\nsome-pkg==1.2+cpu ; python_version>'3'\nrich==1\nother==2\n"
    )
    digest(package)
    assert code.environment("toy.step", package) == {"PyYAML": "6.0", "some-pkg": "1.2+cpu"}
    assert code.environment("toy.aside", package) == {}


def test_lock_file_contains_every_imported_package():
    for rule in steps.STEPS:
        for name in code._closure(steps.module(rule), code.SOURCE):
            for package in code._module(name, code.SOURCE).packages:
                assert code._normal(package) in code._locked(code.SOURCE.parent / code.LOCK_FILE), f"{name}: {package}"
