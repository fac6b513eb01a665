"""Validation of a dataset: no finding in a clean dataset, and one for every injected fault."""

import json
import shutil
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
from support.chip_faults import CHIP_FAULTS, file_of, noise, repainted
from support.dataset_faults import DATASET_FAULTS, TEST, VALIDATION
from support.tiny_dataset import REACHES, make, put, update_checksums

from jointseg.cli.main import main
from jointseg.dataset.validation.check import CHECKS, THEMES, check
from jointseg.runtime.errors import DataError

BATCH = 6
BATCHES = [list(CHIP_FAULTS)[first : first + BATCH] for first in range(0, len(CHIP_FAULTS), BATCH)]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clean") / "dataset")


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "dataset"))


def found(folder: Path) -> set[tuple[str, str]]:
    return {(finding.check, finding.chip) for finding in check(folder).findings}


def test_clean_dataset_has_no_findings(clean: Path) -> None:
    report = check(clean)
    assert report.findings == []
    assert (report.chips, report.files, report.version) == (12, 48, "1.2.3")


@pytest.mark.parametrize("names", BATCHES, ids=lambda names: names[0])
def test_faults_of_chips_are_reported_by_check_and_chip(copy: Path, names: list[str]) -> None:
    """Inject one fault per chip, outside the train split, whose statistics would be wrong as well."""
    expected = set()
    for name, chip in zip(names, [*VALIDATION, *TEST]):
        inject, checks = CHIP_FAULTS[name]
        inject(copy, chip)
        expected |= {(check_name, chip) for check_name in checks}
    put(pd.concat([gpd.read_parquet(copy / f"index/{reach}.parquet") for reach in REACHES]), copy / "index.parquet")
    update_checksums(copy)
    assert found(copy) == expected


@pytest.mark.parametrize("name", DATASET_FAULTS)
def test_faults_of_the_dataset_are_reported(copy: Path, name: str) -> None:
    inject, expected = DATASET_FAULTS[name]
    inject(copy)
    assert found(copy) == expected


def test_every_check_has_an_injected_fault() -> None:
    injected = {name for _, checks in CHIP_FAULTS.values() for name in checks}
    injected |= {name for _, expected in DATASET_FAULTS.values() for name, _ in expected}
    assert injected == set(CHECKS)
    assert {entry.theme for entry in CHECKS.values()} == set(THEMES)
    assert len(injected) >= 30


def test_error_for_a_folder_that_is_not_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader")
    with pytest.raises(DataError, match=r"is not a dataset: it contains neither index.parquet nor chips/"):
        check(tmp_path)
    assert main(["dataset", "check", str(tmp_path / "letter.txt")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_report_does_not_depend_on_workers(copy: Path) -> None:
    repainted("hr", noise)(copy, "up-0004")
    assert check(copy, workers=1).as_json() == check(copy, workers=5).as_json()


def test_command_reports_faults_and_exits_with_1(copy: Path, clean: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["dataset", "check", str(clean)]) == 0
    assert "no fault found" in capsys.readouterr().out
    file_of(copy, "up-0004", "hr").unlink()
    assert main(["dataset", "check", str(copy), "--json"]) == 1
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert finding == {
        "check": "file-missing",
        "chip": "up-0004",
        "file": "chips/up/up-0004_hr.tif",
        "value": "No such file or directory",
        "expected": "a raster",
        "remedy": "rerun step `chips`, or restore the file",
    }
    assert main(["dataset", "check", str(copy)]) == 1
    out = capsys.readouterr().out
    assert "1 file-missing: a file of the index is missing; rerun step `chips`" in out
    assert "12 chips, 47 files" in out
    assert main(["dataset", "check", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f" {name} " in listed for name in CHECKS)
