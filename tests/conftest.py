"""Order of tests in parallel workers, and fixtures that several packages use."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHARED_RUN = "tests/workflow/"  # these tests share one complete run: one worker executes them, first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(SHARED_RUN))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute by file, so that module fixtures run once; all files of SHARED_RUN go to one worker."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SHARED_RUN if nodeid.startswith(SHARED_RUN) else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Release folder of a small run without the workflow (see provenance_release), for tests that only read it."""
    from support.provenance_release import make, publish

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        yield publish(make()).resolve()
