"""Differences between two manifests of a job by key, function and package."""

import pytest

from jointseg.audit.record_differences import Change, code_changes, setting_changes, version_changes
from jointseg.provenance.code_digest import locate


def test_setting_changes_have_dotted_keys() -> None:
    before = {"training": {"steps": 3, "loss": {"l1": 1.0}}, "old": [1, 2], "same": None}
    after = {"training": {"steps": 4, "loss": {"l1": 1.0}}, "new": "x", "same": None}
    assert setting_changes(before, after) == [
        Change("setting", "new", "", "x"),
        Change("setting", "old", "[1, 2]", ""),
        Change("setting", "training.steps", "3", "4"),
    ]


def test_version_changes_by_package() -> None:
    assert version_changes({"torch": "1", "numpy": "2"}, {"torch": "1.1", "numpy": "2"}) == [
        Change("package", "torch", "1", "1.1")
    ]


def test_code_changes_by_function() -> None:
    before = {"a.b": {"f": "1", "C.m": "2", "old": "3"}, "a.old": {"(module)": "4"}}
    after = {"a.b": {"f": "9", "C.m": "2", "new": "5"}}
    assert [(change.what, change.after) for change in code_changes(before, after)] == [
        ("a.b:f", "changed"),
        ("a.b:new", "added"),
        ("a.b:old", "removed"),
        ("a.old:(module)", "removed"),
    ]
    assert code_changes(None, after)[0].before == "not recorded"


@pytest.mark.parametrize(
    ("part", "starts"),
    [("Change", "class Change"), ("code_changes", "def code_changes"), ("(module)", '"""')],
)
def test_locate_part(part: str, starts: str) -> None:
    found = locate("jointseg.audit.record_differences", part)
    assert found is not None
    assert found[0].read_text().splitlines()[found[1] - 1].startswith(starts)


def test_locate_missing_part() -> None:
    assert locate("jointseg.audit.record_differences", "absent") is None
    assert locate("jointseg.absent", "f") is None
