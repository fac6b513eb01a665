"""Reference products: what codes mean, the mosaic's paths and gaps, the codes on chips."""

from pathlib import Path

import accuracy_world as world
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointseg import product_codes, raster
from jointseg.accuracy import products
from jointseg.errors import DataError


def test_every_listed_code_has_its_meaning() -> None:
    entry = {"isa": {"range": [1, 37]}, "not_isa": {"codes": [0]}, "unknown": {"codes": [200]}}
    values = np.array([[0, 1, 37, 200, 255]], dtype=np.uint8)
    assert product_codes.classify(values, product_codes.meanings("gisa", entry), "gisa", "chip a").tolist() == [
        [0, 1, 1, 255, 255]
    ]


@given(st.integers(0, 254))
def test_a_code_that_is_not_listed_is_an_error_never_not_isa(code: int) -> None:
    table = product_codes.meanings("cover", world.ENTRY)
    values = np.full((2, 2), code, dtype=np.uint8)
    if code in (0, 10, 40, 50):
        assert set(product_codes.classify(values, table, "cover", "chip x").ravel()) <= {0, 1, 255}
    else:
        with pytest.raises(DataError, match=rf"product cover, chip x: code {code} is not in its table entry"):
            product_codes.classify(values, table, "cover", "chip x")


@pytest.mark.parametrize("codes", [{"codes": [40, 50]}, {"codes": [255]}, {"codes": [300]}])
def test_a_table_entry_that_contradicts_itself_is_an_error(codes: dict) -> None:
    with pytest.raises(DataError, match="product cover: code"):
        product_codes.meanings("cover", {**world.ENTRY, "isa": codes})


def test_mosaic_points_to_its_files_relatively_and_is_255_between_them(tmp_path: Path) -> None:
    made = world.make(tmp_path)
    vrt = tmp_path / "out" / "deep" / "cover.vrt"
    products.product_mosaic(files=made["products"], vrt=vrt, product="cover", entry=world.ENTRY)
    text = vrt.read_text()
    assert str(tmp_path) not in text and "../../products/cover/cover_0.tif" in text
    values, transform, _ = raster.read(vrt)
    assert (transform.c, transform.a) == (world.WEST, 10)
    assert (values[0, :, 6:10] == 255).all()  # 40 m between chips
    assert set(values[0, :, :6].ravel()) == {40, 50}


def test_no_file_of_a_product_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"product cover: no file matches 'cover_\*.tif'"):
        products.product_mosaic(files=tmp_path, vrt=tmp_path / "a.vrt", product="cover", entry=world.ENTRY)


def test_chips_get_the_codes_of_the_nearest_product_pixel(tmp_path: Path) -> None:
    made = world.make(tmp_path)
    vrt, rasters = tmp_path / "cover.vrt", tmp_path / "cover"
    products.product_mosaic(files=made["products"], vrt=vrt, product="cover", entry=world.ENTRY)
    call = {"index": made["index"], "vrt": vrt, "files": made["products"], "product": "cover", "chip_m": world.SIDE_M}
    facts = products.product_chips(**call, rasters=rasters, entry=world.ENTRY)
    assert facts["chips"] == len(list(rasters.glob("*.tif"))) == 6
    assert sum(facts["pixels_by_code"].values()) == 6 * 60 * 60
    values, transform, crs = raster.read(rasters / "downstream-0000.tif")
    source, _, _ = raster.read(made["products"] / "cover" / "cover_0.tif")
    assert (crs, transform.a, transform.f) == ("EPSG:32650", 1, world.SOUTH + world.SIDE_M)
    assert np.array_equal(values[0], np.kron(source[0], np.ones((10, 10), dtype=np.uint8)))
    strange = {**world.ENTRY, "isa": {"codes": [51]}}
    with pytest.raises(DataError, match=r"product cover, chip \S+-000\d: code 50 is not"):
        products.product_chips(**call, rasters=tmp_path / "again", entry=strange)
    assert not (tmp_path / "again").exists()
