"""Delivered Jilin-1 scenes: names, metadata, which can be paired, and which is best for a chip."""

import logging
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.warp import Resampling, reproject
from rasterio.windows import Window
from rasterio.windows import from_bounds as window_from_bounds

from jointseg import grid, raster
from jointseg.errors import DataError

log = logging.getLogger(__name__)

NAME = re.compile(
    r"^(?P<satellite>JL1[A-Z0-9]+)_(?P<sensor>(?:PMS|MMS)[A-Z0-9]*)_(?P<time>\d{14})"
    r"_(?P<mission>\d{9})_(?P<segment>\d{3,4})_(?P<scene>\d{4})_(?P<product>\d{3})"
    r"_(?P<level>L\d[A-D]?)(?:_(?P<spectral>PAN|MSS|PSH))?$"
)
BEIJING = timezone(timedelta(hours=8))
PAIRABLE_LEVELS = ("L3A", "L3B", "L3C", "L3D")

# Element names looked for in a scene's XML, first found first used, whatever their depth and case. The vendor's
# schema is not public, so what is not found is taken from the file name and the raster.
ELEMENTS: dict[str, tuple[str, ...]] = {
    "start_time": ("StartTime", "ImagingStartTime", "AcquisitionTime", "CenterTime", "ReceiveTime"),
    "cloud_percent": ("CloudPercent", "CloudCover", "CloudCoverage", "CloudAmount"),
    "sun_elevation": ("SunElevation", "SolarElevation", "SunAltitude"),
    "view_angle": ("RollSatelliteAngle", "SideSwingAngle", "ViewAngle", "OffNadirAngle"),
}
RGB = {"red": ColorInterp.red, "green": ColorInterp.green, "blue": ColorInterp.blue}


@dataclass(frozen=True)
class Name:
    """The parts of a scene's name; `time` is UTC."""

    satellite: str
    sensor: str
    time: datetime
    level: str
    spectral: str | None


@dataclass(frozen=True)
class Scene:
    """A scene that can be paired.

    Attributes:
        id: name of its folder.
        path: its raster, relative to the deliveries' folder.
        time: acquisition, UTC.
        cloud_percent: of the whole scene; None where the metadata do not tell.
        bands: band numbers (from 1) of red, green and blue.
        footprint: in the scene's own CRS.
    """

    id: str
    path: str
    satellite: str
    time: datetime
    cloud_percent: float | None
    bands: tuple[int, int, int]
    crs: str
    pixel_m: float
    footprint: shapely.Geometry


def parse_name(name: str) -> Name:
    """The parts of a folder or file stem such as JL1KF01B_PMSR4_20220623104620_200089965_101_0018_001_L3C_PSH.

    The time in the name is Beijing time. Raises DataError for a name of another form.
    """
    match = NAME.match(name)
    if match is None:
        raise DataError(
            f"{name!r} is not the name of a Jilin-1 scene "
            f"(satellite_sensor_yyyymmddhhmmss_mission_segment_scene_product_level[_spectral])"
        )
    try:
        local = datetime.strptime(match["time"], "%Y%m%d%H%M%S").replace(tzinfo=BEIJING)
    except ValueError:
        raise DataError(f"{name!r} has the time {match['time']}, which is not yyyymmddhhmmss") from None
    return Name(match["satellite"], match["sensor"], local.astimezone(UTC), match["level"], match["spectral"])


def index(folder: Path) -> tuple[list[Scene], dict[str, str]]:
    """The scenes of a folder of deliveries that can be paired, by id, and why each other one cannot.

    Raises DataError when the folder is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder of Jilin-1 deliveries; set dataset.jilin1")
    scenes: list[Scene] = []
    skipped: dict[str, str] = {}
    for delivery in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            scenes.append(scene(folder, delivery))
        except DataError as error:
            skipped[delivery.name] = str(error)
            log.warning("scene skipped: %s", error)
    return scenes, skipped


def scene(folder: Path, delivery: Path) -> Scene:
    """The scene of one delivery inside the deliveries' folder; DataError when it cannot be paired."""
    name = parse_name(delivery.name)
    if name.level not in PAIRABLE_LEVELS:
        raise DataError(
            f"{delivery.name} is of level {name.level}, located to 100-200 m only; "
            f"orthorectify (gdalwarp -rpc with a DEM) and pansharpen it to L3 PSH before pairing"
        )
    rasters = sorted(path for path in delivery.iterdir() if path.suffix.lower() in (".tif", ".tiff"))
    colour = [path for path in rasters if path.stem.endswith("_PSH")]
    if not colour:
        kinds = ", ".join(path.name for path in rasters) or "no raster"
        raise DataError(f"{delivery.name} holds {kinds}; pairing needs a pansharpened one (PSH)")
    facts = metadata(delivery)
    time = name.time
    if "start_time" in facts:
        time = _time(facts["start_time"]) or time
    with raster.opened(colour[0]) as source:
        if source.crs is None:
            raise DataError(f"{colour[0].name} has no coordinate reference system; deliver it orthorectified")
        west, south, east, north = source.bounds
        metres = 1.0 if source.crs.is_projected else 111_320.0
        return Scene(
            id=delivery.name,
            path=colour[0].relative_to(folder).as_posix(),
            satellite=name.satellite,
            time=time,
            cloud_percent=_number(facts.get("cloud_percent")),
            bands=rgb_bands(source, name.satellite),
            crs=source.crs.to_string(),
            pixel_m=abs(source.transform.a) * metres,
            footprint=shapely.box(west, south, east, north),
        )


def metadata(delivery: Path, elements: Mapping[str, Sequence[str]] = ELEMENTS) -> dict[str, str]:
    """What a delivery's XML files tell of the facts in `elements`; an unreadable XML tells nothing."""
    found: dict[str, str] = {}
    for path in sorted(delivery.glob("*.xml")):
        if path.name.endswith(".aux.xml"):
            continue
        try:
            texts = {
                node.tag.rsplit("}", 1)[-1].lower(): node.text.strip()
                for node in ET.parse(path).iter()
                if node.text and node.text.strip()
            }
        except ET.ParseError as error:
            log.warning("%s is not readable XML (%s); its file name and raster are used instead", path, error)
            continue
        for fact, names in elements.items():
            for name in names:
                if fact not in found and name.lower() in texts:
                    found[fact] = texts[name.lower()]
    return found


def _number(text: str | None) -> float | None:
    match = re.match(r"^\s*(\d+(?:\.\d+)?)\s*%?\s*$", text or "")
    return float(match[1]) if match else None


def _time(text: str) -> datetime | None:
    """UTC of a time in the metadata, which is Beijing time unless it names its zone."""
    try:
        time = datetime.fromisoformat(text.strip().replace("/", "-"))
    except ValueError:
        log.warning("time %r is not understood; the one in the file name is used", text)
        return None
    return (time if time.tzinfo else time.replace(tzinfo=BEIJING)).astimezone(UTC)


def rgb_bands(source: DatasetReader, satellite: str) -> tuple[int, int, int]:
    """Band numbers of red, green and blue.

    What the raster says of its colours decides; otherwise multispectral cameras deliver blue, green, red (, NIR),
    and the Bayer camera of the GF03C satellites red, green, blue.
    """
    if source.count < 3:
        raise DataError(f"{source.name} has {source.count} bands; expected 3 or 4 (red, green, blue and near infrared)")
    colours = list(source.colorinterp)
    if all(colour in colours for colour in RGB.values()):
        red, green, blue = (colours.index(colour) + 1 for colour in RGB.values())
        return red, green, blue
    names = [(text or "").strip().lower() for text in source.descriptions]
    if all(name in names for name in RGB):
        red, green, blue = (names.index(name) + 1 for name in RGB)
        return red, green, blue
    return (1, 2, 3) if source.count == 3 and satellite.startswith("JL1GF03C") else (3, 2, 1)


def candidates(scenes: Iterable[Scene], epsg: int, bounds: tuple[float, float, float, float], year: int) -> list[Scene]:
    """Scenes that hold a square of a UTM zone, best first: least cloud, then nearest to mid-season of the year.

    A scene whose metadata do not tell its cloud is taken for as cloudy as the cloudiest usable one.
    """
    middle = datetime(year, 7, 1, tzinfo=UTC)
    holding = [scene for scene in scenes if shapely.covers(scene.footprint, _square_in(scene.crs, epsg, bounds))]
    known = [scene.cloud_percent for scene in holding if scene.cloud_percent is not None]
    unknown = max(known, default=0.0)

    def rank(scene: Scene) -> tuple[float, float, str]:
        cloud = unknown if scene.cloud_percent is None else scene.cloud_percent
        return cloud, abs((scene.time - middle).total_seconds()), scene.id

    return sorted(holding, key=rank)


def _square_in(crs: str, epsg: int, bounds: tuple[float, float, float, float]) -> shapely.Geometry:
    square = shapely.box(*bounds)
    if crs == f"EPSG:{epsg}":
        return square
    to_scene = grid.transformer(f"EPSG:{epsg}", crs)
    return shapely.transform(square, lambda points: np.column_stack(to_scene.transform(points[:, 0], points[:, 1])))


def read(
    folder: Path, scene: Scene, epsg: int, bounds: tuple[float, float, float, float], shift_m: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """A scene's red, green and blue at 1 m on the lattice of a UTM zone, moved by a registration shift.

    GDAL's cubic kernel, widened by the ratio of pixel sizes, so that nothing finer than 2 m aliases.

    Args:
        bounds: min x, min y, max x, max y in whole metres of the zone.
        shift_m: metres to add to the scene's coordinates (x, y).

    Returns:
        float32 [3, rows, columns] of the scene's own digital numbers, and bool [rows, columns], False where the
        scene has none.
    """
    west, south, east, north = bounds
    rows, cols = round(north - south), round(east - west)
    transform = Affine(1, 0, west - shift_m[0], 0, -1, north - shift_m[1])
    moved = (west - shift_m[0], south - shift_m[1], east - shift_m[0], north - shift_m[1])
    with raster.opened(folder / scene.path) as source:
        around = shapely.bounds(_square_in(scene.crs, epsg, moved))
        inside = Window(0, 0, source.width, source.height)
        wanted = window_from_bounds(*around, transform=source.transform)
        # Four pixels around it for the kernel.
        wanted = Window(
            int(wanted.col_off) - 4, int(wanted.row_off) - 4, int(wanted.width) + 10, int(wanted.height) + 10
        )
        wanted = wanted.intersection(inside)
        values = source.read(list(scene.bands), window=wanted).astype(np.float32)
        if source.nodata is None:
            valid = np.any(values, axis=0)
        else:
            valid = np.all(values != source.nodata, axis=0)
        values[:, ~valid] = np.nan
        out = np.full((3, rows, cols), np.nan, dtype=np.float32)
        reproject(
            values,
            out,
            src_transform=source.window_transform(wanted),
            src_crs=source.crs,
            src_nodata=np.nan,
            dst_transform=transform,
            dst_crs=f"EPSG:{epsg}",
            dst_nodata=np.nan,
            resampling=Resampling.cubic,
        )
    known = np.all(np.isfinite(out), axis=0)
    return np.where(known, out, 0), known
