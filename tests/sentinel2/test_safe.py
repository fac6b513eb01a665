"""Tiny SAFE products with the ground segment's layout, tags and JPEG 2000 images."""

import shutil
import zipfile

import numpy as np
import pytest
from support.tiny_sentinel2 import SIDE, compositing, listing, plain, raster

from jointseg.raster.io import read
from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import safe
from jointseg.sentinel2.composite import composite
from jointseg.sentinel2.scene import CLOUDLESS_BANDS, load_scenes
from jointseg.sentinel2.scenes import scenes

JP2 = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
FOOTPRINT = "32.1 118.6 32.1 118.8 31.9 118.8 31.9 118.6 32.1 118.6"


def metadata(level, name, when, baseline, offset):
    kind = "BOA" if level == "L2A" else "RADIO"
    quantity = "BOA_QUANTIFICATION_VALUE" if level == "L2A" else "QUANTIFICATION_VALUE"
    offsets = "".join(f'<{kind}_ADD_OFFSET band_id="{band}">{offset}</{kind}_ADD_OFFSET>' for band in range(13))
    listed = f"<{kind}_Offset_List>{offsets}</{kind}_Offset_List>" if offset is not None else ""
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level[1:]}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level[1:]}.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>{when}.024Z</PRODUCT_START_TIME>
      <PRODUCT_URI>{name}</PRODUCT_URI>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
      <Datatake><SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME><SENSING_ORBIT_NUMBER>132</SENSING_ORBIT_NUMBER></Datatake>
    </Product_Info>
    <Product_Image_Characteristics><{quantity} unit="none">10000</{quantity}>{listed}</Product_Image_Characteristics>
  </n1:General_Info>
  <n1:Geometric_Info><EXT_POS_LIST>{FOOTPRINT} </EXT_POS_LIST></n1:Geometric_Info>
  <n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>7.123456</Cloud_Coverage_Assessment></n1:Quality_Indicators_Info>
</n1:Level-{level[1:]}_User_Product>"""


def granule(azimuth, zenith):
    """Return the angles of the granule's metadata; in some products the view angles come first."""
    return f"""<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd">
  <n1:Geometric_Info><Tile_Angles>
    <Mean_Viewing_Incidence_Angle_List><Mean_Viewing_Incidence_Angle bandId="0">
      <ZENITH_ANGLE unit="deg">3.1</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">190.5</AZIMUTH_ANGLE>
    </Mean_Viewing_Incidence_Angle></Mean_Viewing_Incidence_Angle_List>
    <Mean_Sun_Angle>
      <ZENITH_ANGLE unit="deg">{zenith}</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">{azimuth}</AZIMUTH_ANGLE>
    </Mean_Sun_Angle>
  </Tile_Angles></n1:Geometric_Info></n1:Level-2A_Tile_ID>"""


def product(root, level="L2A", when="2021-07-01T02:50:00", baseline="05.00", offset=-1000, stored=1800):
    stamp = when.replace("-", "").replace(":", "")
    name = f"S2B_MSI{level}_{stamp}_N{baseline.replace('.', '')}_R132_T50RPV_{stamp}.SAFE"
    images = root / name / "GRANULE" / f"{level}_T50RPV_A000001_{stamp}" / "IMG_DATA"
    for band in ("B02", "B03", "B04"):
        if level == "L2A":
            raster(images / "R10m" / f"T50RPV_{stamp}_{band}_10m.jp2", plain(stored), **JP2)
            raster(images / "R20m" / f"T50RPV_{stamp}_{band}_20m.jp2", plain(stored, 50), res_m=20, **JP2)
        else:
            raster(images / f"T50RPV_{stamp}_{band}.jp2", plain(stored), **JP2)
    if level == "L2A":
        classes = plain(4, 50).astype(np.uint8)
        classes[:, 0] = 9
        raster(images / "R20m" / f"T50RPV_{stamp}_SCL_20m.jp2", classes, res_m=20, **JP2)
    elif offset is not None:
        flags = np.zeros((3, 17, 17), dtype=np.uint8)
        flags[0, :, 0] = 1
        raster(images.parent / "QI_DATA" / "MSK_CLASSI_B00.jp2", flags, res_m=60, **JP2)
    (root / name / f"MTD_MSI{level}.xml").write_text(metadata(level, name, when, baseline, offset))
    return root / name


def run(tmp_path, root, level="L2A"):
    scenes(scenes=tmp_path / "s.json", archive=root, **listing(level=level))
    composite(scenes=tmp_path / "s.json", composite=tmp_path / "c.tif", archive=root, **compositing())
    return load_scenes(tmp_path / "s.json"), read(tmp_path / "c.tif")[0]


def test_l2a_product(tmp_path):
    product(tmp_path / "a")
    (scene,), array = run(tmp_path, tmp_path / "a")
    assert scene.id == "S2B_MSIL2A_20210701T025000_N0500_R132_T50RPV_20210701T025000"
    assert (scene.datetime, scene.level, scene.platform) == ("2021-07-01T02:50:00Z", "L2A", "sentinel-2b")
    assert (scene.mgrs, scene.relative_orbit, scene.baseline) == ("50RPV", 132, "05.00")
    assert (scene.epsg, scene.offset_dn, scene.scale, scene.cloud_percent) == (32650, -1000, 1e-4, 7.123)
    assert scene.assets["B04"].href.endswith("R10m/T50RPV_20210701T025000_B04_10m.jp2")
    assert not array[:, :, :2].any()
    assert (array[:3, :, 2:] == 800).all() and (array[3, :, 2:] == 1).all()


def test_l1c_products_before_and_after_the_offset(tmp_path):
    product(tmp_path / "a", "L1C", baseline="02.05", offset=None, stored=800, when="2021-05-01T02:50:00")
    product(tmp_path / "a", "L1C", baseline="05.00", offset=-1000, stored=1820, when="2021-06-01T02:50:00")
    (old, new), array = run(tmp_path, tmp_path / "a", "L1C")
    assert (old.offset_dn, old.mask) == (0, None)
    assert (new.offset_dn, new.mask) == (-1000, "CLASSI")
    assert array[0, 0].tolist() == [800] * 6 + [810] * (SIDE - 6)
    assert array[3, 0].tolist() == [1] * 6 + [2] * (SIDE - 6)


@pytest.mark.parametrize("name", ["MTD_TL.xml", "S2A_OPER_MTD_L1C_TL_EPA__20150711T102011_A000001_T50RPV.xml"])
def test_sun_angles_are_those_of_the_granule(tmp_path, name):
    folder = product(tmp_path)
    assert safe.read_product(tmp_path, folder.name).sun is None
    path = next(folder.glob("GRANULE/*")) / name
    path.write_text(granule(azimuth=112.25, zenith=21.5))
    assert safe.read_product(tmp_path, folder.name).sun == (112.25, 21.5)
    path.write_text(granule(azimuth=112.25, zenith=21.5)[:-30])
    with pytest.raises(DataError, match=r"_?TL\S*\.xml is not valid XML"):
        safe.read_product(tmp_path, folder.name)


def test_l1c_with_all_bands_uses_s2cloudless(tmp_path):
    folder = product(tmp_path, "L1C")
    assert safe.read_product(tmp_path, folder.name).mask == "CLASSI"
    (image,) = folder.rglob("*_B02.jp2")
    for band in CLOUDLESS_BANDS:
        if band not in ("B02", "B04"):
            shutil.copy(image, image.with_name(image.name.replace("B02", band)))
    assert safe.read_product(tmp_path, folder.name).mask == "S2C"


def test_l2a_without_scene_classification_is_an_error(tmp_path):
    folder = product(tmp_path)
    next(folder.rglob("*SCL_20m.jp2")).unlink()
    with pytest.raises(DataError, match=r"SAFE is L2A without the asset SCL"):
        safe.read_product(tmp_path, folder.name)


def test_zipped_product_gives_the_same_scene(tmp_path):
    folder = product(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with zipfile.ZipFile(tmp_path / "b" / (folder.name.removesuffix(".SAFE") + ".zip"), "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(tmp_path / "a"))
    (plain_scene,), expected = run(tmp_path, tmp_path / "a")
    (packed_scene,), array = run(tmp_path, tmp_path / "b")
    assert (array == expected).all()
    for key, asset in plain_scene.assets.items():
        packed_asset = packed_scene.assets[key]
        assert (packed_asset.size, packed_asset.sha256) == (asset.size, asset.sha256)
        assert ".zip/" in packed_asset.href


@pytest.mark.parametrize("fraction", [0.5, 0.9])
def test_truncated_image_is_an_error(tmp_path, fraction):
    rng = np.random.default_rng(0)
    folder = product(tmp_path / "a")
    path = next(folder.rglob("*B03_10m.jp2"))
    raster(path, rng.integers(1000, 5000, (SIDE, SIDE)).astype(np.uint16), **JP2)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(DataError, match=r"B03_10m\.jp2, band B03 of scene S2B_MSIL2A_\S+, cannot be"):
        run(tmp_path, tmp_path / "a")


def test_incomplete_products_are_errors(tmp_path):
    folder = product(tmp_path / "a")
    xml = folder / "MTD_MSIL2A.xml"
    whole = xml.read_text()
    xml.write_text(whole.replace("PROCESSING_BASELINE>", "OTHER>"))
    with pytest.raises(DataError, match=r"MTD_MSIL2A\.xml has no PROCESSING_BASELINE"):
        run(tmp_path, tmp_path / "a")
    xml.write_text(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"MTD_MSIL2A\.xml is not valid XML"):
        run(tmp_path, tmp_path / "a")
    xml.unlink()
    with pytest.raises(DataError, match=r"has no MTD_MSIL1C\.xml or MTD_MSIL2A\.xml"):
        run(tmp_path, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/S2B_X.zip").write_bytes(b"PK half")
    with pytest.raises(DataError, match=r"S2B_X\.zip is not a valid zip file"):
        run(tmp_path, tmp_path / "b")
