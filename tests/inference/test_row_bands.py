"""Finished rows are kept, vouched for by their hashes, and nothing else is believed."""

from pathlib import Path

import numpy as np
import pytest

from jointseg.inference.row_bands import Bands

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


def stopped_after(folder: Path, count: int, key: str = "k") -> None:
    with pytest.raises(StoppedError), Bands(folder, key, SIZES) as bands:
        for number in range(count):
            bands.append(band(number))
        raise StoppedError


def rows_kept(folder: Path, key: str = "k", sizes: dict[str, int] = SIZES) -> int:
    with pytest.raises(StoppedError), Bands(folder, key, sizes) as bands:
        kept = bands.rows
        raise StoppedError
    return kept


def test_rows_are_kept_until_the_work_is_done(tmp_path: Path) -> None:
    stopped_after(tmp_path / "a", 3)
    with Bands(tmp_path / "a", "k", SIZES) as bands:
        assert bands.rows == 12
        bands.append(band(3, rows=2))
        assert bands.rows == 14
        whole = {name: bands.path(name).read_bytes() for name in SIZES}
    assert not (tmp_path / "a").exists()
    parts = [band(0), band(1), band(2), band(3, rows=2)]
    for name in SIZES:
        rows = np.concatenate([part[name] for part in parts], axis=1).transpose(1, 0, 2)
        assert whole[name] == rows.tobytes()


def test_rows_of_other_work_are_thrown_away(tmp_path: Path) -> None:
    stopped_after(tmp_path / "a", 3)
    assert rows_kept(tmp_path / "a") == 12
    assert rows_kept(tmp_path / "a", key="other") == 0
    stopped_after(tmp_path / "a", 3, key="other")
    assert rows_kept(tmp_path / "a", key="other", sizes={"isa": WIDTH}) == 0


@pytest.mark.parametrize("name", list(SIZES))
def test_a_damaged_band_and_those_after_it_are_made_again(tmp_path: Path, name: str) -> None:
    stopped_after(tmp_path / "a", 4)
    path = tmp_path / "a" / f"{name}.bin"
    content = bytearray(path.read_bytes())
    content[2 * 4 * SIZES[name] + 5] ^= 1
    path.write_bytes(content)
    assert rows_kept(tmp_path / "a") == 8
    assert rows_kept(tmp_path / "a") == 8, "what was dropped is dropped from the journal too"


def test_a_cut_file_or_journal_costs_its_last_band(tmp_path: Path) -> None:
    stopped_after(tmp_path / "a", 4)
    path = tmp_path / "a" / "isa.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert rows_kept(tmp_path / "a") == 12
    journal = tmp_path / "a" / "bands.jsonl"
    journal.write_text(journal.read_text()[:-30])
    assert rows_kept(tmp_path / "a") == 8
    journal.write_bytes(b"\xff\xfe")
    assert rows_kept(tmp_path / "a") == 0


def test_without_a_folder_nothing_stays() -> None:
    with Bands(None, "k", SIZES) as bands:
        bands.append(band(0))
        folder = bands.folder
        assert bands.path("isa").stat().st_size == 4 * WIDTH
    assert not folder.exists()
