"""Reference products: code tables, mosaics with relative paths and gaps, codes on chips."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import accuracy_sample as sample_data

from jointseg.accuracy import reference_products
from jointseg.raster import io as raster_io
from jointseg.raster import product_codes
from jointseg.runtime.errors import DataError


def test_listed_codes_are_classified() -> None:
    entry = {"isa": {"range": [1, 37]}, "not_isa": {"codes": [0]}, "nodata": {"codes": [200]}}
    values = np.array([[0, 1, 37, 200, 255]], dtype=np.uint8)
    assert product_codes.classify(values, product_codes.class_table("gisa", entry), "gisa", "chip a").tolist() == [
        [0, 1, 1, 255, 255]
    ]


@given(st.integers(0, 254))
def test_unlisted_code_raises(code: int) -> None:
    table = product_codes.class_table("cover", sample_data.ENTRY)
    values = np.full((2, 2), code, dtype=np.uint8)
    if code in (0, 10, 40, 50):
        assert set(product_codes.classify(values, table, "cover", "chip x").ravel()) <= {0, 1, 255}
    else:
        with pytest.raises(DataError, match=rf"product cover, chip x: code {code} is not in its table entry"):
            product_codes.classify(values, table, "cover", "chip x")


def test_series_shows_its_nearest_year() -> None:
    entry = {
        "year": 2019,
        "series": {2017: [1, 35], 2018: [1, 36]},
        "isa": {"range": [1, 37]},
        "not_isa": {"codes": [0]},
    }
    assert [product_codes.nearest_year(entry, year) for year in (2000, 2017, 2018, 2023)] == [2017, 2017, 2018, 2019]
    assert product_codes.file_year(entry, 2017) == 2019
    table = {year: product_codes.class_table("gisa", entry, year) for year in (2017, 2018, 2019)}
    assert [table[year][36] for year in table] == [0, 1, 1] and table[2017][35] == 1 and table[2017][0] == 0
    with pytest.raises(DataError, match="code 38 is ISA in 2017 by its series but not by its entry's isa"):
        product_codes.class_table("gisa", entry | {"series": {2017: [1, 38]}}, 2017)
    files = {"year": 2021, "years": [2017, 2023]}
    assert [product_codes.nearest_year(files, year) for year in (2017, 2019, 2022)] == [2017, 2017, 2021]
    assert product_codes.file_year(files, 2023) == 2023


@pytest.mark.parametrize("codes", [{"codes": [40, 50]}, {"codes": [255]}, {"codes": [300]}])
def test_contradictory_entry_raises(codes: dict) -> None:
    with pytest.raises(DataError, match="product cover: code"):
        product_codes.class_table("cover", {**sample_data.ENTRY, "isa": codes})


def make_mosaic(folder: Path, made: dict[str, Path], **overrides: object) -> Path:
    call = {
        "files": made["products"],
        "study_area": made["study_area"],
        "product": "cover",
        "entry": sample_data.ENTRY,
        "year": "2020",
    }
    reference_products.product_mosaic(**call | overrides, mosaics=folder)
    return folder


def test_mosaic_has_relative_paths_and_255_between_files(tmp_path: Path) -> None:
    made = sample_data.make(tmp_path)
    vrt = make_mosaic(tmp_path / "out" / "deep", made) / "EPSG_32650.vrt"
    text = vrt.read_text()
    assert str(tmp_path) not in text and "../../products/cover/cover_0.tif" in text
    values, transform, _ = raster_io.read(vrt)
    assert (transform.c, transform.a) == (sample_data.WEST, 10)
    assert (values[0, :, 6:10] == 255).all()  # 40 m between chips
    assert set(values[0, :, :6].ravel()) == {40, 50}


def test_product_without_files_raises(tmp_path: Path) -> None:
    made = sample_data.make(tmp_path)
    with pytest.raises(DataError, match=r"product cover: no file matches 'cover_\*.tif'"):
        make_mosaic(tmp_path / "a", made, files=tmp_path)
    sample_data.write(
        tmp_path / "products/cover/cover_9.tif", np.zeros((2, 2), np.uint16), sample_data.WEST, sample_data.SOUTH
    )
    with pytest.raises(DataError, match=r"band 1 of cover_9.tif is uint16; expected uint8"):
        make_mosaic(tmp_path / "a", made)


def test_wrong_year_and_gaps_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = sample_data.make(tmp_path)
    for path in (made["products"] / "cover").iterdir():
        path.rename(path.with_name(f"cover_2020_{path.name[6:]}"))
    dated = sample_data.ENTRY | {"pattern": "cover_{year}_*.tif"}
    with pytest.raises(DataError, match=r"no file of 2021 in \S+, only of 2020; add files of 2021"):
        make_mosaic(tmp_path / "a", made, entry=dated | {"year": 2021}, year="2021")
    (made["products"] / "cover" / "cover_2019_x.tif").write_bytes(b"")
    call = {
        "files": made["products"],
        "study_area": made["study_area"],
        "product": "cover",
        "entry": dated,
        "year": "2020",
    }
    facts = reference_products.product_mosaic(**call, mosaics=tmp_path / "a")
    assert facts["files"] == 8 and facts["other_years"] == [2019]
    assert facts["uncovered_fraction"] == pytest.approx(1 - 8 * 60 / 800, abs=0.02)
    assert "no file of 2020 covers 4" in caplog.text


def test_chips_are_resampled_by_nearest_neighbour(tmp_path: Path) -> None:
    made = sample_data.make(tmp_path)
    mosaics, rasters = make_mosaic(tmp_path / "mosaics", made), tmp_path / "cover"
    call = {
        "index": made["index"],
        "mosaics": mosaics,
        "files": made["products"],
        "product": "cover",
        "chip_m": sample_data.SIDE_M,
    }
    facts = reference_products.product_chips(**call, rasters=rasters, entry=sample_data.ENTRY)
    assert facts["chips"] == len(list(rasters.glob("*.tif"))) == 6
    assert sum(facts["pixels_by_code"].values()) == 6 * 60 * 60
    values, transform, crs = raster_io.read(rasters / "downstream-0000.tif")
    source, _, _ = raster_io.read(made["products"] / "cover" / "cover_0.tif")
    assert (crs, transform.a, transform.f) == ("EPSG:32650", 1, sample_data.SOUTH + sample_data.SIDE_M)
    assert np.array_equal(values[0], np.kron(source[0], np.ones((10, 10), dtype=np.uint8)))
    other_entry = {**sample_data.ENTRY, "isa": {"codes": [51]}}
    with pytest.raises(DataError, match=r"product cover, chip \S+-000\d: code 50 is not"):
        reference_products.product_chips(**call, rasters=tmp_path / "rerun", entry=other_entry)
    assert not (tmp_path / "rerun").exists()
