"""Index of the delivered high-resolution scenes: what each is, where it lies, and whether it can be paired."""

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
FACTS = ("cloud_percent", "view_angle", "sun_elevation")
# Straight edges of a scene bend in longitude and latitude; a point every so many parts of an edge follows them.
EDGE_PARTS = 16
METRES_A_DEGREE = 111_320.0


def deliveries(
    *,
    jilin1: Path,
    deliveries: Path,
    providers: Mapping[str, Mapping[str, Any]],
    metadata_elements: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Writes the index of the scenes in a folder of deliveries (GeoParquet of footprints, EPSG:4326).

    A delivery is a folder with a provider's name, or a raster with one, in the folder or one level below. Columns:
    scene_id, provider, satellite, sensor, level, spectral, path (relative to the folder), crs, pixel_m, width, height,
    dtype, nodata, red, green, blue (band numbers from 1), time (UTC), cloud_percent, view_angle, sun_elevation (nan
    where not told), outline ("vector" where a footprint of the same stem lies beside the raster, else "raster"),
    usable, and `reason` where it cannot be paired.

    Args:
        providers: fields of `providers.Provider` by name; the first whose pattern fits a name is the provider.
        metadata_elements: names of XML elements for each of time, cloud_percent, view_angle, sun_elevation.

    Raises DataError when the folder is missing or holds nothing.
    """
    if not jilin1.is_dir():
        raise DataError(f"{jilin1} is not a folder of delivered scenes; set dataset.jilin1")
    known = [Provider(name=name, **entry) for name, entry in providers.items()]
    found = list(_found(jilin1, known))
    if not found:
        raise DataError(f"{jilin1} holds no delivery; put folders or GeoTIFFs of scenes there")
    rows = [
        _row(jilin1, place, known, metadata_elements) for place in track(found, "index of deliveries", unit="scene")
    ]
    ids = [row["scene_id"] for row in rows]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise DataError(f"{jilin1} holds two scenes named {twice[0]}; remove one of them")
    frame = gpd.GeoDataFrame(
        pd.DataFrame(rows).sort_values("scene_id", ignore_index=True), geometry="geometry", crs=4326
    )
    with atomic_write(deliveries) as part:
        frame.to_parquet(part)
    refused = frame[~frame["usable"]]
    return {
        "scenes": len(frame),
        "usable": int(frame["usable"].sum()),
        "refused": dict(zip(refused["scene_id"], refused["reason"])),
    }


def _found(folder: Path, providers: Sequence[Provider]) -> Iterator[Path]:
    """Folders and rasters that are one delivery each; a folder of no provider's name stands for the rasters in it."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            inside = [path for path in _rasters(entry) if _fits(path.stem, providers)]
            yield from [entry] if _fits(entry.name, providers) or not inside else inside
        elif entry.suffix.lower() in RASTERS:
            yield entry


def _rasters(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in RASTERS)


def _fits(name: str, providers: Sequence[Provider]) -> bool:
    try:
        return parse_name(name, providers) is not None
    except DataError:  # a name of the form with a wrong time, which is to be told
        return True


def _row(
    folder: Path, place: Path, providers: Sequence[Provider], elements: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What is known of one delivery; as far as it can be told where it cannot be paired."""
    row: dict[str, Any] = {
        "scene_id": place.stem if place.is_file() else place.name,
        **dict.fromkeys(("provider", "satellite", "sensor", "level", "spectral", "path", "crs"), ""),
        **dict.fromkeys(("pixel_m", *FACTS, "nodata"), math.nan),
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
            raise DataError(f"{row['scene_id']} is not named as the scenes of {names}; see dataset.providers")
        row |= {key: getattr(name, key) for key in ("satellite", "sensor", "level", "spectral")}
        row["provider"] = name.provider.name
        files = list(place.iterdir()) if place.is_dir() else list(place.parent.glob(f"{place.stem}*"))
        facts = read_metadata(
            (path for path in files if path.suffix == ".xml" and ".aux" not in path.suffixes), elements
        )
        when = parse_time(facts["time"], name.provider.zone) if "time" in facts else None
        row["time"] = (when or name.time).strftime("%Y-%m-%dT%H:%M:%SZ")
        row |= {fact: parse_number(facts.get(fact)) for fact in FACTS}
        row |= _raster(folder, place, name, providers)
        row["usable"] = True
    except DataError as error:
        row["reason"] = str(error)
        log.warning("scene cannot be paired: %s", error)
    return row


def _raster(folder: Path, place: Path, name: SceneName, providers: Sequence[Provider]) -> dict[str, Any]:
    """What the raster of a delivery tells; DataError when it cannot be paired."""
    provider = name.provider
    if provider.levels and name.level not in provider.levels:
        raise DataError(f"{place.name} is of level {name.level or 'not told'}; {provider.advice}")
    path = place if place.is_file() else _colour(place, provider, providers)
    with raster_io.open_raster(path) as source:
        if source.crs is None:
            raise DataError(f"{path.name} has no coordinate reference system; deliver it orthorectified")
        if abs(source.transform.b) + abs(source.transform.d) > 1e-9 * abs(source.transform.a):
            raise DataError(f"{path.name} is rotated; warp it to north up")
        red, green, blue = rgb_bands(source, provider)
        outline = gpd.GeoSeries([shapely.box(*source.bounds)], crs=source.crs)
        size = max(source.width * abs(source.transform.a), source.height * abs(source.transform.e))
        footprint = outline.segmentize(size / EDGE_PARTS).to_crs(4326).iloc[0]
        drawn = _footprint(path)
        nodata = source.nodata if source.nodata is not None else provider.nodata
        return {
            "path": path.relative_to(folder).as_posix(),
            "spectral": name.spectral or _spectral(path, providers),
            "crs": source.crs.to_string(),
            "pixel_m": abs(source.transform.a) * (1.0 if source.crs.is_projected else METRES_A_DEGREE),
            "width": source.width,
            "height": source.height,
            "dtype": source.dtypes[0],
            "nodata": math.nan if nodata is None else float(nodata),
            "red": red,
            "green": green,
            "blue": blue,
            "outline": "raster" if drawn is None else "vector",
            "geometry": footprint if drawn is None else drawn,
        }


def _colour(delivery: Path, provider: Provider, providers: Sequence[Provider]) -> Path:
    """The raster of a delivery's folder that can be paired."""
    rasters = _rasters(delivery)
    colour = [path for path in rasters if not provider.spectral or _spectral(path, providers) in provider.spectral]
    if not colour:
        kinds = ", ".join(path.name for path in rasters) or "no raster"
        raise DataError(f"{delivery.name} holds {kinds}; {provider.advice}")
    if len(colour) > 1:
        raise DataError(f"{delivery.name} holds {len(colour)} rasters to pair, {colour[0].name} the first; keep one")
    return colour[0]


def _spectral(path: Path, providers: Sequence[Provider]) -> str:
    """The spectral type in a file's name; its last part where the name as a whole is no provider's."""
    name = parse_name(path.stem, providers)
    return name.spectral if name is not None else path.stem.rsplit("_", 1)[-1]


def _footprint(path: Path) -> shapely.Geometry | None:
    """The outline of a raster's data, in EPSG:4326, from a vector file of the same stem; None where there is none."""
    for suffix in VECTORS:
        beside = path.with_suffix(suffix)
        if not beside.exists():
            continue
        try:
            shapes = gpd.read_file(beside).geometry
        except (pyogrio.errors.DataSourceError, ValueError) as error:
            log.warning("%s is no readable footprint (%s); the raster's outline is used", beside, error)
            continue
        area = shapely.make_valid((shapes if shapes.crs is None else shapes.to_crs(4326)).union_all())
        if area.area > 0:
            return area
        log.warning("%s holds no area; the raster's outline is used", beside)
    return None
