"""Checksums of files and folders."""

import hashlib
import subprocess

from hypothesis import given
from hypothesis import strategies as st
from support.tree_digest import tree_digest

from jointseg.provenance import digest


@given(st.binary(max_size=5000))
def test_file_digest_is_sha256_of_content(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(content)
    assert digest.file_digest(path) == hashlib.sha256(content).hexdigest()


def test_tree_digest_equals_sha256sum(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / digest.TIMESTAMP).write_text("now")
    entries, checksum = tree_digest(tmp_path)
    assert [entry.path for entry in entries] == ["a/b.txt", "a/z.txt", "b.txt"]
    printed = subprocess.run(
        ["sha256sum", "a/b.txt", "a/z.txt", "b.txt"], cwd=tmp_path, capture_output=True, check=True
    )
    assert checksum == hashlib.sha256(printed.stdout).hexdigest()


def test_renamed_file_changes_tree_digest(tmp_path):
    (tmp_path / "a").write_text("x")
    before = tree_digest(tmp_path)[1]
    (tmp_path / "a").rename(tmp_path / "b")
    assert tree_digest(tmp_path)[1] != before
