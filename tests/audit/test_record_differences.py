"""Differences between two records of a job are named by key, function and package."""

import pytest

from jointseg.audit.record_differences import Change, code_changes, setting_changes, version_changes
from jointseg.provenance.code_digest import locate


def test_settings_are_named_by_dotted_keys() -> None:
    before = {"training": {"steps": 3, "loss": {"l1": 1.0}}, "old": [1, 2], "same": None}
    after = {"training": {"steps": 4, "loss": {"l1": 1.0}}, "new": "x", "same": None}
    assert setting_changes(before, after) == [
        Change("setting", "new", "", "x"),
        Change("setting", "old", "[1, 2]", ""),
        Change("setting", "training.steps", "3", "4"),
    ]


def test_versions_are_named_by_package() -> None:
    assert version_changes({"torch": "1", "numpy": "2"}, {"torch": "1.1", "numpy": "2"}) == [
        Change("package", "torch", "1", "1.1")
    ]


def test_code_is_named_by_function() -> None:
    before = {"a.b": {"f": "1", "C.m": "2", "gone": "3"}, "a.old": {"(module)": "4"}}
    after = {"a.b": {"f": "9", "C.m": "2", "new": "5"}}
    assert [(change.what, change.after) for change in code_changes(before, after)] == [
        ("a.b:f", "changed"),
        ("a.b:gone", "gone"),
        ("a.b:new", "new"),
        ("a.old:(module)", "gone"),
    ]
    assert code_changes(None, after)[0].before == "not recorded"


@pytest.mark.parametrize(
    ("part", "starts"),
    [("Change", "class Change"), ("code_changes", "def code_changes"), ("(module)", '"""')],
)
def test_a_part_is_found_in_its_file(part: str, starts: str) -> None:
    found = locate("jointseg.audit.record_differences", part)
    assert found is not None
    assert found[0].read_text().splitlines()[found[1] - 1].startswith(starts)


def test_a_part_that_is_gone_is_not_found() -> None:
    assert locate("jointseg.audit.record_differences", "absent") is None
    assert locate("jointseg.absent", "f") is None
