"""Chips with additional bands: near infrared and merged dates."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from support.dataset_workflow import BANDS, CHIP, NORTH, WEST, run_chips, run_dataset, write

from jointseg.dataset.chip_arrays import ChipDataset
from jointseg.dataset.torch_dataset import TorchChips
from jointseg.dataset.validation.check import check
from jointseg.models.checkpoint import normalisation_of
from jointseg.raster import io as raster_io
from jointseg.raster.bands import MERGED_BANDS
from jointseg.runtime.errors import DataError


@pytest.fixture(scope="module")
def extended(scene_inputs: Path, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset with near infrared and merged dates, which are nodata in the east."""
    to = tmp_path_factory.mktemp("extended")
    image, _, _ = raster_io.read(scene_inputs / "composites/2021/t.tif")
    options = {"nodata": 0, "descriptions": [*BANDS, "B08", "clear"]}
    write(
        to / "composites/t.tif",
        image[[0, 1, 2, 1, 3]] + np.uint16([0, 0, 0, 50, 0])[:, None, None],
        WEST,
        NORTH,
        10,
        **options,
    )
    merged = np.concatenate([image[:3] + np.uint16(10 * part) for part in range(1, 5)])
    merged[:, :, 70:] = 0
    write(to / "merged/t.tif", merged, WEST, NORTH, 10, nodata=0, descriptions=list(MERGED_BANDS))
    for name in ("pairs.parquet", "labels.parquet"):
        shutil.copy(built / name, to / name)
    inputs = {"composites": [to / "composites/t.tif"], "merged": [to / "merged/t.tif"], "bands": [*BANDS, "B08"]}
    run_chips(scene_inputs, to, **inputs)
    (to / "labels").mkdir()
    shutil.move(to / "labels.parquet", to / "labels/up.parquet")
    (to / "pairs").mkdir()
    shutil.move(to / "pairs.parquet", to / "pairs/up.parquet")
    (to / "samples.parquet").write_bytes((scene_inputs / "samples.parquet").read_bytes())
    run_dataset(to, pairs=to / "pairs/up.parquet", labels=to / "labels/up.parquet")
    return to


def test_additional_bands_do_not_change_other_rasters(built: Path, extended: Path) -> None:
    for path in sorted((built / "chips/up").iterdir()):
        other = extended / "chips/up" / path.name
        if not path.name.endswith("_lr.tif"):
            assert other.read_bytes() == path.read_bytes(), path.name
            continue
        plain, image = raster_io.read(path)[0], raster_io.read(other)[0]
        assert image.shape == (16, CHIP // 10, CHIP // 10)
        assert (image[:3] == plain).all() and (image[3] == np.where(plain[1] > 0, plain[1] + 50, 0)).all()
        with rasterio.open(other) as file:
            assert file.descriptions == (*BANDS, "B08", *MERGED_BANDS)


def test_statistics_card_and_validation_cover_all_bands(extended: Path) -> None:
    facts = json.loads((extended / "statistics.json").read_text())
    assert facts["bands"] == [*BANDS, "B08", *MERGED_BANDS]
    assert len(facts["lr"]["mean"]) == len(facts["lr"]["std"]) == 16 and len(facts["hr"]["mean"]) == 3
    assert len(normalisation_of(facts)["mean"]) == 16
    assert "| image | B04 | B03 | B02 | B08 | B04_nw |" in (extended / "card.md").read_text()
    item = json.loads(next((extended / "items").rglob("*.json")).read_text())
    assert [band["name"] for band in item["assets"]["lr"]["bands"]] == facts["bands"]
    found = {finding.check for finding in check(extended).findings}
    assert not found & {"band-count", "band-names", "partial-nodata", "all-nodata", "statistics", "card", "stac"}, found


def test_readers_fill_merged_dates_from_the_composite(extended: Path) -> None:
    data = ChipDataset(extended / "index.parquet", extended / "chips")
    stored = {name: raster_io.read(extended / "chips" / data.table.loc[name, "lr"])[0] for name in data.ids}
    assert any((dn[4:] == 0).any() and (dn[:3] > 0).all() for dn in stored.values()), (
        "the composite must be valid where merged dates are nodata"
    )
    for name, dn in stored.items():
        lr = data.read(name).lr
        nodata = (dn[:3] == 0).any(axis=0)
        assert (np.isnan(lr) == nodata).all()
        for part in range(4):
            bands = lr[4 + 3 * part : 7 + 3 * part]
            wanted = np.where(dn[4 + 3 * part : 7 + 3 * part] > 0, dn[4 + 3 * part : 7 + 3 * part], dn[:3])
            assert bands[:, ~nodata] == pytest.approx(wanted[:, ~nodata] * 1e-4, abs=1e-7)
    chip = TorchChips(extended, "train", normalisation=json.loads((extended / "statistics.json").read_text()))[0]
    assert chip["lr"].shape == (16, CHIP // 10, CHIP // 10) and bool(chip["lr"].isfinite().all())


def test_error_for_merged_dates_with_other_bands(scene_inputs: Path, extended: Path, tmp_path: Path) -> None:
    write(tmp_path / "merged.tif", np.ones((12, 120, 120), np.uint16), WEST, NORTH, 10, descriptions=["x"] * 12)
    inputs = {"composites": [extended / "composites/t.tif"], "pairs": extended / "pairs/up.parquet"}
    inputs |= {"labels": extended / "labels/up.parquet", "merged": [tmp_path / "merged.tif"]}
    with pytest.raises(DataError, match=r"merged\.tif has bands .* rebuild the composites"):
        run_chips(scene_inputs, tmp_path, **inputs)
