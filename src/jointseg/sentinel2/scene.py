"""The Scene record: one acquisition of one granule, the same for every source, and its frozen list."""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import shapely

from jointseg.area.grid import Tile, transformer
from jointseg.runtime.errors import DataError

LEVELS = ("L1C", "L2A")
# Reflectance is stored times 10000; from baseline 04.00 (2022-01-25) on, 1000 is added to it.
SCALE = 1e-4
SATURATED_DN = 65535  # what the sensor gives where it saturates
OFFSET_BASELINE, OFFSET_DN = 4.0, -1000
# The L1C bands that s2cloudless looks at, in its order.
CLOUDLESS_BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")


@dataclass(frozen=True)
class Asset:
    """A file of a scene: href relative to the archive, or a URL."""

    href: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Scene:
    """One acquisition; reflectance = (DN + offset_dn) * scale.

    `mask` names the asset that tells clouds: "SCL" (scene classification), "CLASSI" (opaque, cirrus, snow),
    "CS" (Cloud Score+ in percent), "S2C" (s2cloudless, computed from ten bands) or None where there is none and
    every pixel with data counts as clear. `datetime` is UTC ISO, None where it is not known. `sun` is (azimuth, zenith)
    in degrees at the scene's middle. `wider` marks a scene of the widened season, used where the season itself
    leaves too few clear looks. `footprint` (longitude, latitude) stays in memory.
    """

    id: str
    datetime: str | None
    level: str
    platform: str | None
    mgrs: str | None
    relative_orbit: int | None
    baseline: str | None
    cloud_percent: float | None
    epsg: int
    offset_dn: int
    scale: float
    mask: str | None
    assets: dict[str, Asset]
    sun: tuple[float, float] | None = None
    wider: bool = False
    footprint: shapely.Geometry | None = field(default=None, compare=False, repr=False)

    @property
    def mask_keys(self) -> list[str]:
        """The assets that the mask is made of."""
        if self.mask is None:
            return []
        return list(CLOUDLESS_BANDS) if self.mask == "S2C" else [self.mask]

    def record(self) -> dict:
        """The scene as plain JSON values."""
        plain = asdict(replace(self, footprint=None))
        del plain["footprint"]
        plain["assets"] = {key: plain["assets"][key] for key in sorted(plain["assets"])}
        return plain

    def keep(self, keys: list[str]) -> "Scene":
        """The scene with these assets alone; DataError naming one that it lacks."""
        for key in keys:
            if key not in self.assets:
                there = ", ".join(sorted(self.assets)) or "none"
                raise DataError(
                    f"scene {self.id} has no {key} (it has: {there}); complete the archive or leave the band out"
                )
        return replace(self, assets={key: self.assets[key] for key in keys})


def load_scenes(path: Path) -> list[Scene]:
    """The scenes of a frozen list. Raises DataError where it is not what `scenes` wrote."""
    try:
        scenes = []
        for record in json.loads(Path(path).read_text(encoding="utf-8"))["scenes"]:
            assets = {key: Asset(**asset) for key, asset in record["assets"].items()}
            sun = None if record["sun"] is None else tuple(record["sun"])
            scenes.append(Scene(**(record | {"assets": assets, "sun": sun})))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no list of scenes ({error!r}); delete it so that it is made again") from error
    return scenes


def utc_text(text: str | datetime) -> str:
    """A time as `2021-06-05T02:55:49Z`; one without a zone is UTC."""
    moment = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def baseline_offset(baseline: str | None, what: str) -> int:
    """The offset that a processing baseline asks for; DataError where the baseline is not known."""
    if baseline is None:
        raise DataError(
            f"{what} tells neither its radiometric offset nor its processing baseline; add s2:processing_baseline"
        )
    return OFFSET_DN if float(baseline) >= OFFSET_BASELINE else 0


def lonlat_box(bounds: tuple[float, float, float, float], crs: str) -> shapely.Polygon:
    """A rectangle of a projected CRS in longitude and latitude, its edges bent as they are."""
    ring = shapely.segmentize(shapely.box(*bounds), max((bounds[2] - bounds[0]) / 10, 1.0))
    lon, lat = transformer(crs, "EPSG:4326").transform(*shapely.get_coordinates(ring).T)
    return shapely.Polygon(list(zip(lon, lat)))


def overlaps_tile(scene: Scene, tile: Tile) -> bool:
    """Whether a scene reaches into a tile; one that only touches its edge does not."""
    west, south, east, north = tile.bounds
    inner = lonlat_box((west + 1, south + 1, east - 1, north - 1), tile.crs)
    return scene.footprint is not None and bool(shapely.intersects(scene.footprint, inner))
