"""Step `deliveries`: index of the delivered high-resolution scenes, with metadata, file and usability."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyogrio.errors
import shapely

from jointseg.dataset.providers import (
    Provider,
    SceneName,
    parse_name,
    parse_number,
    parse_time,
    read_metadata,
    rgb_bands,
)
from jointseg.raster import io as raster_io
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write
from jointseg.runtime.progress import track

log = logging.getLogger(__name__)

RASTERS = (".tif", ".tiff")
VECTORS = (".shp", ".gpkg", ".geojson", ".kml")
NUMBERS = ("cloud_percent", "view_angle", "sun_elevation")
# Straight edges of a scene are curves in longitude and latitude; points along each edge approximate them.
SEGMENTS_PER_EDGE = 16
METRES_PER_DEGREE = 111_320.0


def deliveries(
    *,
    jilin1: Path,
    deliveries: Path,
    providers: Mapping[str, Mapping[str, Any]],
    metadata_elements: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Write the index of the scenes in a folder of deliveries (GeoParquet of footprints, EPSG:4326).

    A delivery is a folder or a raster whose name matches a provider (see `providers.Provider`; the first match counts),
    in the folder or one level below. Columns: scene_id, provider, satellite, sensor, level, spectral, path (relative to
    the folder), crs, pixel_m, width, height, dtype, nodata, red, green, blue (band numbers from 1), time (UTC),
    cloud_percent, view_angle, sun_elevation (NaN if missing), outline ("vector" for a footprint file with the stem of
    the raster, else "raster"), usable, and `reason` if the scene is not usable. `metadata_elements` has the names of
    XML elements of time, cloud_percent, view_angle and sun_elevation. Raises DataError if the folder is missing or
    contains no delivery.
    """
    if not jilin1.is_dir():
        raise DataError(f"{jilin1} is not a folder of delivered scenes; set dataset.jilin1")
    configured = [Provider(name=name, **entry) for name, entry in providers.items()]
    found = list(_find_deliveries(jilin1, configured))
    if not found:
        raise DataError(f"{jilin1} contains no delivery; add folders or GeoTIFFs of scenes")
    rows = [
        _row(jilin1, delivery, configured, metadata_elements)
        for delivery in track(found, "index of deliveries", unit="scene")
    ]
    ids = [row["scene_id"] for row in rows]
    if duplicates := sorted({name for name in ids if ids.count(name) > 1}):
        raise DataError(f"{jilin1} contains two scenes named {duplicates[0]}; remove one of them")
    frame = gpd.GeoDataFrame(
        pd.DataFrame(rows).sort_values("scene_id", ignore_index=True), geometry="geometry", crs=4326
    )
    with atomic_write(deliveries) as part:
        frame.to_parquet(part)
    rejected = frame[~frame["usable"]]
    return {
        "scenes": len(frame),
        "usable": int(frame["usable"].sum()),
        "rejected": dict(zip(rejected["scene_id"], rejected["reason"])),
    }


def _find_deliveries(folder: Path, providers: Sequence[Provider]) -> Iterator[Path]:
    """Yield folders and rasters that are one delivery each, and the rasters in folders without a provider's name."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            inside = [path for path in _rasters(entry) if _matches(path.stem, providers)]
            yield from [entry] if _matches(entry.name, providers) or not inside else inside
        elif entry.suffix.lower() in RASTERS:
            yield entry


def _rasters(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in RASTERS)


def _matches(name: str, providers: Sequence[Provider]) -> bool:
    try:
        return parse_name(name, providers) is not None
    except DataError:  # the name matches but has an invalid time, which `_row` reports
        return True


def _row(
    folder: Path, delivery: Path, providers: Sequence[Provider], elements: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the row of a delivery; with the reason and the available columns if it is not usable."""
    row: dict[str, Any] = {
        "scene_id": delivery.stem if delivery.is_file() else delivery.name,
        **dict.fromkeys(("provider", "satellite", "sensor", "level", "spectral", "path", "crs"), ""),
        **dict.fromkeys(("pixel_m", *NUMBERS, "nodata"), math.nan),
        **dict.fromkeys(("width", "height", "red", "green", "blue"), 0),
        **dict.fromkeys(("dtype", "time", "outline"), ""),
        "usable": False,
        "reason": "",
        "geometry": None,
    }
    try:
        name = parse_name(row["scene_id"], providers)
        if name is None:
            names = ", ".join(provider.name for provider in providers)
            raise DataError(f"{row['scene_id']} matches no pattern of {names}; see dataset.providers")
        row |= {key: getattr(name, key) for key in ("satellite", "sensor", "level", "spectral")}
        row["provider"] = name.provider.name
        files = list(delivery.iterdir()) if delivery.is_dir() else list(delivery.parent.glob(f"{delivery.stem}*"))
        xml = (path for path in files if path.suffix == ".xml" and ".aux" not in path.suffixes)
        metadata = read_metadata(xml, elements)
        time = parse_time(metadata["time"], name.provider.zone) if "time" in metadata else None
        row["time"] = (time or name.time).strftime("%Y-%m-%dT%H:%M:%SZ")
        row |= {key: parse_number(metadata.get(key)) for key in NUMBERS}
        row |= _raster_columns(folder, delivery, name, providers)
        row["usable"] = True
    except DataError as error:
        row["reason"] = str(error)
        log.warning("scene is not usable: %s", error)
    return row


def _raster_columns(folder: Path, delivery: Path, name: SceneName, providers: Sequence[Provider]) -> dict[str, Any]:
    """Return the columns that come from the raster of a delivery; raises DataError if it is not usable."""
    provider = name.provider
    if provider.levels and name.level not in provider.levels:
        raise DataError(f"{delivery.name} has level {name.level or '(none)'}; {provider.advice}")
    path = delivery if delivery.is_file() else _usable_raster(delivery, provider, providers)
    with raster_io.open_raster(path) as source:
        if source.crs is None:
            raise DataError(f"{path.name} has no coordinate reference system; expected an orthorectified scene")
        if abs(source.transform.b) + abs(source.transform.d) > 1e-9 * abs(source.transform.a):
            raise DataError(f"{path.name} is rotated; warp it to north up")
        red, green, blue = rgb_bands(source, provider)
        outline = gpd.GeoSeries([shapely.box(*source.bounds)], crs=source.crs)
        size = max(source.width * abs(source.transform.a), source.height * abs(source.transform.e))
        raster_outline = outline.segmentize(size / SEGMENTS_PER_EDGE).to_crs(4326).iloc[0]
        footprint = _footprint(path)
        nodata = source.nodata if source.nodata is not None else provider.nodata
        return {
            "path": path.relative_to(folder).as_posix(),
            "spectral": name.spectral or _spectral(path, providers),
            "crs": source.crs.to_string(),
            "pixel_m": abs(source.transform.a) * (1.0 if source.crs.is_projected else METRES_PER_DEGREE),
            "width": source.width,
            "height": source.height,
            "dtype": source.dtypes[0],
            "nodata": math.nan if nodata is None else float(nodata),
            "red": red,
            "green": green,
            "blue": blue,
            "outline": "raster" if footprint is None else "vector",
            "geometry": raster_outline if footprint is None else footprint,
        }


def _usable_raster(delivery: Path, provider: Provider, providers: Sequence[Provider]) -> Path:
    rasters = _rasters(delivery)
    usable = [path for path in rasters if not provider.spectral or _spectral(path, providers) in provider.spectral]
    if not usable:
        names = ", ".join(path.name for path in rasters) or "no raster"
        raise DataError(f"{delivery.name} contains {names}; {provider.advice}")
    if len(usable) > 1:
        raise DataError(f"{delivery.name} contains {len(usable)} usable rasters, first {usable[0].name}; keep one")
    return usable[0]


def _spectral(path: Path, providers: Sequence[Provider]) -> str:
    """Return the spectral type in a file's name; its last part if the name matches no provider."""
    name = parse_name(path.stem, providers)
    return name.spectral if name is not None else path.stem.rsplit("_", 1)[-1]


def _footprint(path: Path) -> shapely.Geometry | None:
    """Return the footprint in EPSG:4326 from a vector file with the stem of the raster; None if there is none."""
    for suffix in VECTORS:
        vector = path.with_suffix(suffix)
        if not vector.exists():
            continue
        try:
            shapes = gpd.read_file(vector).geometry
        except (pyogrio.errors.DataSourceError, ValueError) as error:
            log.warning("%s is not a readable footprint (%s); the raster's outline is used", vector, error)
            continue
        area = shapely.make_valid((shapes if shapes.crs is None else shapes.to_crs(4326)).union_all())
        if area.area > 0:
            return area
        log.warning("%s contains no polygon with an area; the raster's outline is used", vector)
    return None
