"""Tests side by side: those of the shared run go to one worker, and first, for they take longest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHARED = "tests/workflow/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(SHARED))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files go to a worker, so that what a module makes once is made once; all of SHARED to one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SHARED if nodeid.startswith(SHARED) else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The release folder of a small run without a flow (see provenance_release), for tests that only read it."""
    from support.provenance_release import make, publish

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        yield publish(make()).resolve()
