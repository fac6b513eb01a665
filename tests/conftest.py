"""Order of tests, and fixtures that several packages use."""

from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest tests, those of whole runs: parallel workers then end together."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/workflow/"))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Release folder of a small run without the workflow (see provenance_release), for tests that only read it."""
    from support.provenance_release import make, publish

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        yield publish(make()).resolve()
