"""SAFE products of the Sentinel-2 ground segment, as folders or zip files, as Scene records."""

import re
import zipfile
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import shapely

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import clouds
from jointseg.sentinel2.scene import Asset, Scene, utc_text

# band_id of the product metadata, in the order of the instrument.
BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_IMAGE = re.compile(r"_(B\d[\dA]|SCL)(?:_(\d\d)m)?\.jp2$")
# Metadata of the granule; its name was longer before 2016-12.
_GRANULE = re.compile(r"/GRANULE/[^/]+/(MTD_TL|S2[^/]*_MTD_L[^/]*_TL_[^/]*)\.xml$")
_PRODUCT = re.compile(r"\.SAFE(\.zip)?$|^S2.*\.zip$")


def find_products(root: Path) -> list[str]:
    """The SAFE folders and zip files directly inside a folder, by name."""
    return sorted(entry.name for entry in root.iterdir() if _PRODUCT.search(entry.name))


def open_member(root: Path, href: str) -> IO[bytes]:
    """A file of an archive, or of a zip file inside it, opened for reading."""
    head, mark, tail = href.partition(".zip/")
    if not mark:
        return (root / href).open("rb")
    return zipfile.ZipFile(root / f"{head}.zip").open(tail)


def _members(root: Path, product: str) -> list[str]:
    """Names of all files of a product, relative to `root`."""
    if not product.endswith(".zip"):
        return sorted(str(path.relative_to(root)) for path in (root / product).rglob("*") if path.is_file())
    try:
        with zipfile.ZipFile(root / product) as packed:
            return sorted(f"{product}/{name}" for name in packed.namelist() if not name.endswith("/"))
    except zipfile.BadZipFile as error:
        raise DataError(f"{root / product} is not a whole zip file ({error}); fetch the product again") from error


def read_product(root: Path, product: str) -> Scene:
    """The Scene of one SAFE product.

    Raises:
        DataError: the product has no metadata, or metadata without a field that is needed.
    """
    members = _members(root, product)
    named = [name for name in members if re.search(r"/MTD_MSI(L1C|L2A)\.xml$", name)]
    if not named:
        raise DataError(f"{root / product} has no MTD_MSIL1C.xml or MTD_MSIL2A.xml; fetch the product again")
    level = named[0][-7:-4]
    told = _told(root, named[0])
    assets = _assets(members, level)
    quantification = float(told.one("QUANTIFICATION_VALUE" if level == "L1C" else "BOA_QUANTIFICATION_VALUE"))
    name = told.one("PRODUCT_URI").removesuffix(".SAFE")
    cloud = told.one("Cloud_Coverage_Assessment")
    return Scene(
        id=name,
        datetime=utc_text(told.one("PRODUCT_START_TIME")),
        level=level,
        platform=told.one("SPACECRAFT_NAME").lower(),
        mgrs=_field(name, r"_T(\d\d[A-Z]{3})_", told.path),
        relative_orbit=int(told.one("SENSING_ORBIT_NUMBER")),
        baseline=told.one("PROCESSING_BASELINE"),
        cloud_percent=round(float(cloud), 3),
        epsg=_epsg(name, told),
        offset_dn=_offset(told, level, assets),
        scale=1 / quantification,
        mask=clouds.choose_mask(level, assets, "auto", str(root / product)),
        assets=assets,
        sun=_sun(root, members),
        footprint=_footprint(told),
    )


class _Told:
    """Texts of a metadata file by tag name, whatever the namespace and depth."""

    def __init__(self, tree: Any, path: str) -> None:
        self.path, self._elements = path, list(tree.iter())

    def elements(self, tag: str) -> list[ElementTree.Element]:
        return [element for element in self._elements if element.tag.rpartition("}")[2] == tag]

    def one(self, tag: str) -> str:
        found = self.elements(tag)
        if not found or not (found[0].text or "").strip():
            raise DataError(f"{self.path} has no {tag}; fetch the product again")
        return (found[0].text or "").strip()


def _told(root: Path, name: str) -> _Told:
    try:
        with open_member(root, name) as stream:
            return _Told(ElementTree.parse(stream), str(root / name))
    except ElementTree.ParseError as error:
        raise DataError(f"{root / name} is not whole XML ({error}); fetch the product again") from error


def _sun(root: Path, members: list[str]) -> tuple[float, float] | None:
    """(azimuth, zenith) of the sun, degrees, the granule's mean; None where its metadata do not tell."""
    for name in members:
        if _GRANULE.search(name):
            for mean in _told(root, name).elements("Mean_Sun_Angle"):
                angles = {angle.tag: float(angle.text or "nan") for angle in mean}
                return angles["AZIMUTH_ANGLE"], angles["ZENITH_ANGLE"]
    return None


def _field(text: str, pattern: str, path: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise DataError(f"{path}: the product name {text!r} does not follow the ground segment's naming")
    return match[1]


def _epsg(name: str, told: _Told) -> int:
    """The CRS of a granule: its MGRS tile's zone; latitude bands from N on are north of the equator."""
    mgrs = _field(name, r"_T(\d\d[A-Z]{3})_", told.path)
    return (32600 if mgrs[2] >= "N" else 32700) + int(mgrs[:2])


def _assets(members: list[str], level: str) -> dict[str, Asset]:
    """The images of a product, each band at its own, finest resolution."""
    finest: dict[str, tuple[int, str]] = {}
    for name in members:
        match = _IMAGE.search(name)
        if match and "/IMG_DATA/" in name:
            entry = (int(match[2] or 0), name)
            finest[match[1]] = min(entry, finest.get(match[1], entry))
    assets = {band: Asset(name) for band, (_, name) in finest.items()}
    for name in members:
        if level == "L1C" and name.endswith("/QI_DATA/MSK_CLASSI_B00.jp2"):
            assets["CLASSI"] = Asset(name)
    return assets


def _offset(told: _Told, level: str, assets: dict[str, Asset]) -> int:
    """The offset that is to be added to the DN; products before baseline 04.00 list none."""
    elements = told.elements("RADIO_ADD_OFFSET" if level == "L1C" else "BOA_ADD_OFFSET")
    listed = {BAND_IDS[int(element.get("band_id", "0"))]: round(float(element.text or 0)) for element in elements}
    values = {value for band, value in listed.items() if band in assets}
    if len(values) > 1:
        raise DataError(f"{told.path} lists different offsets for its bands ({sorted(values)}); one was expected")
    return values.pop() if values else 0


def _footprint(told: _Told) -> shapely.Polygon:
    numbers = [float(text) for text in told.one("EXT_POS_LIST").split()]
    return shapely.Polygon(list(zip(numbers[1::2], numbers[0::2])))
