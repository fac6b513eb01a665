"""Convert STAC items, of a static catalogue or an API, to Scene records."""

import posixpath
from urllib.parse import urljoin, urlsplit

import shapely
import shapely.geometry

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import clouds
from jointseg.sentinel2.scene import SCALE, Asset, Scene, baseline_offset, utc_text

# Asset keys of common catalogues (Earth Search; Planetary Computer and CDSE use the band names themselves).
ALIASES = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
    "scl": "SCL",
    "classi": "CLASSI",
}
BANDS = frozenset(ALIASES.values())


def scene_from_item(item: dict, base: str) -> Scene:
    """Return the Scene of a STAC item; `base` is the folder (relative to the archive) or URL of relative hrefs.

    Raises DataError if the item does not define its level, time, CRS or radiometric offset.
    """
    properties, name = item["properties"], item["id"]
    assets, item_assets = {}, {}
    for key, asset in item["assets"].items():
        band = key if key in BANDS else ALIASES.get(key.lower())
        # Catalogues list the same band twice (COG and JP2): the band's own name and the COG have priority.
        if band is not None and (band not in assets or key in BANDS):
            assets[band], item_assets[band] = _asset(asset, base), asset
    level = _level(item)
    baseline = properties.get("s2:processing_baseline") or properties.get("processing:version")
    offset_dn, scale = _radiometry(properties, item_assets, baseline, f"item {name}")
    if properties.get("datetime") is None:
        raise DataError(f"item {name} has no datetime; add it to the catalogue")
    return Scene(
        id=name,
        datetime=utc_text(properties["datetime"]),
        level=level,
        platform=properties.get("platform"),
        mgrs=properties.get("s2:mgrs_tile") or properties.get("grid:code", "").removeprefix("MGRS-") or None,
        relative_orbit=properties.get("sat:relative_orbit"),
        baseline=baseline,
        cloud_percent=properties.get("eo:cloud_cover"),
        epsg=_epsg(item),
        offset_dn=offset_dn,
        scale=scale,
        mask=clouds.choose_mask(level, assets, "auto", f"item {name}"),
        assets=assets,
        sun=_sun(properties),
        footprint=shapely.geometry.shape(item["geometry"]),
    )


def _asset(asset: dict, base: str) -> Asset:
    href = asset["href"]
    if not urlsplit(href).scheme:
        href = urljoin(f"{base}/", href) if "://" in base else posixpath.normpath(posixpath.join(base, href))
    checksum = asset.get("file:checksum", "")
    # A multihash: 12 is sha2-256, 20 its length in bytes.
    sha256 = checksum[4:] if checksum.startswith("1220") else None
    return Asset(href, asset.get("file:size"), sha256)


def _level(item: dict) -> str:
    texts = [str(item["properties"].get(key, "")) for key in ("s2:product_type", "processing:level")]
    for text in [*texts, item.get("collection") or ""]:
        for level, marks in (("L1C", ("1C",)), ("L2A", ("2A", "L2"))):
            if any(mark in text.upper() for mark in marks):
                return level
    raise DataError(f"item {item['id']} has no product level; add s2:product_type (S2MSI1C or S2MSI2A)")


def _radiometry(properties: dict, assets: dict[str, dict], baseline: str | None, what: str) -> tuple[int, float]:
    """Return (offset to add to the DN, scale); the offset is 0 if the catalogue has applied it already."""
    offsets, scales = set(), set()
    for band, asset in assets.items():
        if not band.startswith("B"):
            continue
        raster = (asset.get("raster:bands") or [{}])[0]
        raster = raster or {key.removeprefix("raster:"): value for key, value in asset.items()}
        scale = float(raster.get("scale", SCALE))
        scales.add(scale)
        if "offset" in raster:
            offsets.add(round(float(raster["offset"]) / scale))
    if len(offsets) > 1 or len(scales) > 1:
        raise DataError(f"{what} has bands of different offset or scale ({offsets}, {scales}); they must be equal")
    scale = scales.pop() if scales else SCALE
    if properties.get("earthsearch:boa_offset_applied"):
        return 0, scale
    return offsets.pop() if offsets else baseline_offset(baseline, what), scale


def _epsg(item: dict) -> int:
    code = item["properties"].get("proj:code") or item["properties"].get("proj:epsg")
    for asset in item["assets"].values():
        code = code or asset.get("proj:code") or asset.get("proj:epsg")
    if code is None:
        raise DataError(f"item {item['id']} has no CRS; add proj:code")
    return int(str(code).removeprefix("EPSG:"))


def _sun(properties: dict) -> tuple[float, float] | None:
    """Return (azimuth, zenith) of the sun, degrees; None if the item does not contain both."""
    azimuth = properties.get("view:sun_azimuth", properties.get("s2:mean_solar_azimuth"))
    zenith = properties.get("s2:mean_solar_zenith")
    if properties.get("view:sun_elevation") is not None:
        zenith = 90 - properties["view:sun_elevation"]
    return None if azimuth is None or zenith is None else (float(azimuth), float(zenith))
