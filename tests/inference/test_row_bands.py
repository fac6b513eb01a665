"""Finished rows are stored, and reused only if their checksums match."""

from pathlib import Path

import numpy as np
import pytest

from jointseg.inference.row_bands import RowBandStore

WIDTH = 30
SIZES = {"isa": WIDTH, "rgb": 3 * 2 * WIDTH}


def band(seed: int, rows: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "isa": rng.integers(0, 2, (1, rows, WIDTH), dtype=np.uint8),
        "rgb": rng.integers(0, 5000, (3, rows, WIDTH), dtype=np.uint16),
    }


class StoppedError(Exception):
    pass


def interrupt_after(folder: Path, count: int, key: str = "k") -> None:
    with pytest.raises(StoppedError), RowBandStore(folder, key, SIZES) as bands:
        for number in range(count):
            bands.append(band(number))
        raise StoppedError


def stored_rows(folder: Path, key: str = "k", sizes: dict[str, int] = SIZES) -> int:
    with pytest.raises(StoppedError), RowBandStore(folder, key, sizes) as bands:
        rows = bands.rows
        raise StoppedError
    return rows


def test_rows_are_kept_until_the_job_is_done(tmp_path: Path) -> None:
    interrupt_after(tmp_path / "a", 3)
    with RowBandStore(tmp_path / "a", "k", SIZES) as bands:
        assert bands.rows == 12
        bands.append(band(3, rows=2))
        assert bands.rows == 14
        content = {name: bands.path(name).read_bytes() for name in SIZES}
    assert not (tmp_path / "a").exists()
    parts = [band(0), band(1), band(2), band(3, rows=2)]
    for name in SIZES:
        rows = np.concatenate([part[name] for part in parts], axis=1).transpose(1, 0, 2)
        assert content[name] == rows.tobytes()


def test_rows_of_another_job_are_discarded(tmp_path: Path) -> None:
    interrupt_after(tmp_path / "a", 3)
    assert stored_rows(tmp_path / "a") == 12
    assert stored_rows(tmp_path / "a", key="other") == 0
    interrupt_after(tmp_path / "a", 3, key="other")
    assert stored_rows(tmp_path / "a", key="other", sizes={"isa": WIDTH}) == 0


@pytest.mark.parametrize("name", list(SIZES))
def test_damaged_band_and_later_ones_are_discarded(tmp_path: Path, name: str) -> None:
    interrupt_after(tmp_path / "a", 4)
    path = tmp_path / "a" / f"{name}.bin"
    content = bytearray(path.read_bytes())
    content[2 * 4 * SIZES[name] + 5] ^= 1
    path.write_bytes(content)
    assert stored_rows(tmp_path / "a") == 8
    assert stored_rows(tmp_path / "a") == 8, "discarded bands are removed from the journal too"


def test_truncated_file_or_journal_loses_its_last_band(tmp_path: Path) -> None:
    interrupt_after(tmp_path / "a", 4)
    path = tmp_path / "a" / "isa.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert stored_rows(tmp_path / "a") == 12
    journal = tmp_path / "a" / "bands.jsonl"
    journal.write_text(journal.read_text()[:-30])
    assert stored_rows(tmp_path / "a") == 8
    journal.write_bytes(b"\xff\xfe")
    assert stored_rows(tmp_path / "a") == 0


def test_temporary_folder_is_removed() -> None:
    with RowBandStore(None, "k", SIZES) as bands:
        bands.append(band(0))
        folder = bands.folder
        assert bands.path("isa").stat().st_size == 4 * WIDTH
    assert not folder.exists()
