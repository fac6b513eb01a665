from typing import Any

import pytest
from support.report_inputs import write_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Arguments of step `report` with inputs of every section."""
    return write_inputs(tmp_path_factory.mktemp("report"))
