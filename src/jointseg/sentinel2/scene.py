"""The Scene record: one acquisition of one granule, identical for every source, and the scene list."""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import shapely

from jointseg.area.grid import Tile, transformer
from jointseg.runtime.errors import DataError

LEVELS = ("L1C", "L2A")
# DN = reflectance x 10000; baseline 04.00 (2022-01-25) and later add 1000.
SCALE = 1e-4
SATURATED_DN = 65535
OFFSET_BASELINE, OFFSET_DN = 4.0, -1000
# L1C bands of the s2cloudless model, in its order.
CLOUDLESS_BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")


@dataclass(frozen=True)
class Asset:
    """A file of a scene; `href` is relative to the archive, or a URL."""

    href: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Scene:
    """One acquisition; reflectance = (DN + offset_dn) * scale."""

    id: str
    datetime: str | None  # UTC, ISO 8601; None if not recorded
    level: str
    platform: str | None
    mgrs: str | None
    relative_orbit: int | None
    baseline: str | None
    cloud_percent: float | None
    epsg: int
    offset_dn: int
    scale: float
    # Source of the cloud mask: "SCL" (scene classification), "CLASSI" (opaque, cirrus, snow), "CS" (Cloud Score+ in
    # percent), "S2C" (s2cloudless, computed from ten bands), or None: every valid pixel is clear.
    mask: str | None
    assets: dict[str, Asset]
    sun: tuple[float, float] | None = None  # (azimuth, zenith) at the scene centre, degrees
    in_padding: bool = False  # outside the season; used where the season itself has too few clear observations
    # Longitude and latitude; not written to the scene list.
    footprint: shapely.Geometry | None = field(default=None, compare=False, repr=False)

    @property
    def mask_keys(self) -> list[str]:
        """Keys of the assets from which the mask is computed."""
        if self.mask is None:
            return []
        return list(CLOUDLESS_BANDS) if self.mask == "S2C" else [self.mask]

    def record(self) -> dict:
        """Return the scene as JSON values."""
        record = asdict(replace(self, footprint=None))
        del record["footprint"]
        record["assets"] = {key: record["assets"][key] for key in sorted(record["assets"])}
        return record

    def with_assets(self, keys: list[str]) -> "Scene":
        """Return the scene with only these assets. Raises DataError if it lacks one."""
        for key in keys:
            if key not in self.assets:
                available = ", ".join(sorted(self.assets)) or "none"
                raise DataError(
                    f"scene {self.id} has no {key} (it has: {available}); complete the archive or remove the band from "
                    "sentinel2.bands"
                )
        return replace(self, assets={key: self.assets[key] for key in keys})


def load_scenes(path: Path) -> list[Scene]:
    """Return the scenes of a scene list. Raises DataError if it is not an output of the step `scenes`."""
    try:
        scenes = []
        for record in json.loads(Path(path).read_text(encoding="utf-8"))["scenes"]:
            assets = {key: Asset(**asset) for key, asset in record["assets"].items()}
            sun = None if record["sun"] is None else tuple(record["sun"])
            scenes.append(Scene(**(record | {"assets": assets, "sun": sun})))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a valid scene list ({error!r}); delete it to rebuild it") from error
    return scenes


def utc_text(time: str | datetime) -> str:
    """Format a time as `2021-06-05T02:55:49Z`; a time without zone is UTC."""
    moment = time if isinstance(time, datetime) else datetime.fromisoformat(time)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def baseline_offset(baseline: str | None, what: str) -> int:
    """Return the radiometric offset (DN) of a processing baseline. Raises DataError if the baseline is None."""
    if baseline is None:
        raise DataError(
            f"{what} has neither a radiometric offset nor a processing baseline; add s2:processing_baseline"
        )
    return OFFSET_DN if float(baseline) >= OFFSET_BASELINE else 0


def lonlat_box(bounds: tuple[float, float, float, float], crs: str) -> shapely.Polygon:
    """Return a rectangle of a projected CRS in longitude and latitude; vertices along the edges follow their curvature."""
    ring = shapely.segmentize(shapely.box(*bounds), max((bounds[2] - bounds[0]) / 10, 1.0))
    lon, lat = transformer(crs, "EPSG:4326").transform(*shapely.get_coordinates(ring).T)
    return shapely.Polygon(list(zip(lon, lat)))


def overlaps_tile(scene: Scene, tile: Tile) -> bool:
    """Return whether a scene overlaps a tile; touching its edge is not enough."""
    west, south, east, north = tile.bounds
    inner = lonlat_box((west + 1, south + 1, east - 1, north - 1), tile.crs)
    return scene.footprint is not None and bool(shapely.intersects(scene.footprint, inner))
