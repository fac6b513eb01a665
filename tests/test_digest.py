"""The code digest of a step, and the hashes of files and folders."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointseg import steps
from jointseg.errors import DataError
from jointseg.provenance import digest

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
    "toy/unnamed.txt": "nobody names this\n",
}


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def fresh(source: Path, target: str = "toy.step") -> str:
    for remembered in (
        digest.code_digest,
        digest._module,
        digest._file_of,
        digest._is_trivial,
        digest._read,
        digest._all_data_files,
    ):
        remembered.cache_clear()
    return digest.code_digest(target, source)


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
        ("toy/unnamed.txt", "nobody", "still nobody"),
    ],
)
def test_what_runs_no_differently_keeps_the_digest(package, name, old, new):
    before = fresh(package)
    edit(package / name, old, new)
    assert fresh(package) == before


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
def test_what_runs_differently_changes_the_digest(package, name, old, new):
    before = fresh(package)
    edit(package / name, old, new)
    assert fresh(package) != before


def test_a_function_named_after_the_module_means_the_module(package):
    assert fresh(package, "toy.step:run") == digest.code_digest("toy.step", package)


def test_a_module_that_is_not_there_is_named(package):
    with pytest.raises(DataError, match=r"toy\.absent"):
        fresh(package, "toy.absent")


def test_a_step_depends_on_its_own_chapter_only():
    present = [rule for rule in steps.STEPS if digest._file_of(steps.module(rule), digest.SOURCE)]
    for rule in present:
        waiting, seen = [steps.module(rule)], {steps.module(rule)}
        while waiting:
            for name in digest._module(waiting.pop(), digest.SOURCE).imports - seen:
                seen.add(name)
                waiting.append(name)
        assert "jointseg.settings" not in seen, rule
        assert "jointseg.cli" not in seen, rule


def test_the_digest_needs_the_standard_library_only():
    code = "import sys, jointseg.provenance.digest; sys.exit(bool({'numpy', 'rasterio', 'torch'} & set(sys.modules)))"
    assert subprocess.run(["python", "-c", code], check=False).returncode == 0


@given(st.binary(max_size=5000))
def test_a_file_hashes_as_its_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(content)
    assert digest.file_digest(path) == hashlib.sha256(content).hexdigest()


def test_a_folder_hashes_as_sha256sum_tells_it(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / digest.TIMESTAMP).write_text("now")
    entries, whole = digest.tree_digest(tmp_path)
    assert [entry.path for entry in entries] == ["a/b.txt", "a/z.txt", "b.txt"]
    told = subprocess.run(["sha256sum", "a/b.txt", "a/z.txt", "b.txt"], cwd=tmp_path, capture_output=True, check=True)
    assert whole == hashlib.sha256(told.stdout).hexdigest()


def test_a_renamed_file_changes_the_hash_of_its_folder(tmp_path):
    (tmp_path / "a").write_text("x")
    before = digest.tree_digest(tmp_path)[1]
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest.tree_digest(tmp_path)[1] != before
