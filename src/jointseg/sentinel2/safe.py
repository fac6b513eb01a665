"""Read SAFE products of the Sentinel-2 ground segment, folders or zip files, as Scene records."""

import re
import zipfile
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import shapely

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import clouds
from jointseg.sentinel2.scene import Asset, Scene, utc_text

# Bands by band_id of the product metadata.
BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_IMAGE = re.compile(r"_(B\d[\dA]|SCL)(?:_(\d\d)m)?\.jp2$")
# Granule metadata; the file name was longer before 2016-12.
_GRANULE = re.compile(r"/GRANULE/[^/]+/(MTD_TL|S2[^/]*_MTD_L[^/]*_TL_[^/]*)\.xml$")
_PRODUCT = re.compile(r"\.SAFE(\.zip)?$|^S2.*\.zip$")


def find_products(root: Path) -> list[str]:
    """Return the names of the SAFE folders and zip files directly inside a folder, sorted."""
    return sorted(entry.name for entry in root.iterdir() if _PRODUCT.search(entry.name))


def open_member(root: Path, href: str) -> IO[bytes]:
    """Open a file of an archive, or a member of a zip file in it, for reading."""
    head, mark, tail = href.partition(".zip/")
    if not mark:
        return (root / href).open("rb")
    return zipfile.ZipFile(root / f"{head}.zip").open(tail)


def _members(root: Path, product: str) -> list[str]:
    """Return the names of all files of a product, relative to `root`."""
    if not product.endswith(".zip"):
        return sorted(str(path.relative_to(root)) for path in (root / product).rglob("*") if path.is_file())
    try:
        with zipfile.ZipFile(root / product) as archive:
            return sorted(f"{product}/{name}" for name in archive.namelist() if not name.endswith("/"))
    except zipfile.BadZipFile as error:
        raise DataError(f"{root / product} is not a valid zip file ({error}); download the product again") from error


def read_product(root: Path, product: str) -> Scene:
    """Return the Scene of one SAFE product.

    Raises DataError if the product has no metadata, or its metadata lack a required field.
    """
    members = _members(root, product)
    names = [name for name in members if re.search(r"/MTD_MSI(L1C|L2A)\.xml$", name)]
    if not names:
        raise DataError(f"{root / product} has no MTD_MSIL1C.xml or MTD_MSIL2A.xml; download the product again")
    level = names[0][-7:-4]
    metadata = _read_metadata(root, names[0])
    assets = _assets(members, level)
    quantification = float(metadata.text("QUANTIFICATION_VALUE" if level == "L1C" else "BOA_QUANTIFICATION_VALUE"))
    name = metadata.text("PRODUCT_URI").removesuffix(".SAFE")
    mgrs = _mgrs(name, metadata.path)
    return Scene(
        id=name,
        datetime=utc_text(metadata.text("PRODUCT_START_TIME")),
        level=level,
        platform=metadata.text("SPACECRAFT_NAME").lower(),
        mgrs=mgrs,
        relative_orbit=int(metadata.text("SENSING_ORBIT_NUMBER")),
        baseline=metadata.text("PROCESSING_BASELINE"),
        cloud_percent=round(float(metadata.text("Cloud_Coverage_Assessment")), 3),
        # The zone of the MGRS tile; latitude bands from N on are north of the equator.
        epsg=(32600 if mgrs[2] >= "N" else 32700) + int(mgrs[:2]),
        offset_dn=_offset(metadata, level, assets),
        scale=1 / quantification,
        mask=clouds.choose_mask(level, assets, "auto", str(root / product)),
        assets=assets,
        sun=_sun(root, members),
        footprint=_footprint(metadata),
    )


class _Metadata:
    """Texts of a metadata file by tag name, for any namespace and depth."""

    def __init__(self, tree: Any, path: str) -> None:
        self.path, self._elements = path, list(tree.iter())

    def elements(self, tag: str) -> list[ElementTree.Element]:
        return [element for element in self._elements if element.tag.rpartition("}")[2] == tag]

    def text(self, tag: str) -> str:
        """Return the text of the first element with a tag. Raises DataError if it does not exist or is empty."""
        elements = self.elements(tag)
        if not elements or not (elements[0].text or "").strip():
            raise DataError(f"{self.path} has no {tag}; download the product again")
        return (elements[0].text or "").strip()


def _read_metadata(root: Path, name: str) -> _Metadata:
    try:
        with open_member(root, name) as stream:
            return _Metadata(ElementTree.parse(stream), str(root / name))
    except ElementTree.ParseError as error:
        raise DataError(f"{root / name} is not valid XML ({error}); download the product again") from error


def _sun(root: Path, members: list[str]) -> tuple[float, float] | None:
    """Return the granule's mean (azimuth, zenith) of the sun, degrees; None if the metadata do not contain them."""
    for name in members:
        if _GRANULE.search(name):
            for mean in _read_metadata(root, name).elements("Mean_Sun_Angle"):
                angles = {angle.tag: float(angle.text or "nan") for angle in mean}
                return angles["AZIMUTH_ANGLE"], angles["ZENITH_ANGLE"]
    return None


def _mgrs(name: str, path: str) -> str:
    match = re.search(r"_T(\d\d[A-Z]{3})_", name)
    if match is None:
        raise DataError(
            f"{path}: the product name {name!r} has no MGRS tile such as _T50RKU_; download the product again"
        )
    return match[1]


def _assets(members: list[str], level: str) -> dict[str, Asset]:
    """Return the images of a product, each band at its finest resolution."""
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


def _offset(metadata: _Metadata, level: str, assets: dict[str, Asset]) -> int:
    """Return the offset to add to the DN; products before baseline 04.00 list none."""
    elements = metadata.elements("RADIO_ADD_OFFSET" if level == "L1C" else "BOA_ADD_OFFSET")
    offsets = {BAND_IDS[int(element.get("band_id", "0"))]: round(float(element.text or 0)) for element in elements}
    values = {value for band, value in offsets.items() if band in assets}
    if len(values) > 1:
        raise DataError(f"{metadata.path} lists different offsets for its bands ({sorted(values)}); expected one value")
    return values.pop() if values else 0


def _footprint(metadata: _Metadata) -> shapely.Polygon:
    numbers = [float(text) for text in metadata.text("EXT_POS_LIST").split()]
    return shapely.Polygon(list(zip(numbers[1::2], numbers[0::2])))
