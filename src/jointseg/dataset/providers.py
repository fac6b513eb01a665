"""Providers of high-resolution scenes: parsing of the names and metadata of their deliveries."""

import logging
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from jointseg.runtime.errors import DataError

log = logging.getLogger(__name__)

RGB = {"red": ColorInterp.red, "green": ColorInterp.green, "blue": ColorInterp.blue}


@dataclass(frozen=True)
class Provider:
    """One entry of `dataset.providers`."""

    name: str
    # Regular expression of a folder's name or a file's stem, with the named group `time` and, if the names contain
    # them, `satellite`, `sensor`, `level` and `spectral`
    pattern: str
    time_format: str  # of the group `time`, as in `datetime.strptime`
    utc_offset_h: float  # offset from UTC, hours, of times in names and metadata without a time zone
    # Colours of the bands in order, for rasters without band names or colours; includes red, green and blue
    bands: Sequence[str]
    nodata: float | None  # digital number of nodata, for rasters that declare none; None if every number is valid
    levels: Sequence[str]  # usable levels; empty for all
    spectral: Sequence[str]  # usable spectral types; empty for all
    advice: str  # the action for a scene of another level or spectral type

    @property
    def zone(self) -> timezone:
        return timezone(timedelta(hours=self.utc_offset_h))


@dataclass(frozen=True)
class SceneName:
    """The parts of a scene's name; `time` is UTC, other parts are empty if the name lacks them."""

    provider: Provider
    satellite: str
    sensor: str
    time: datetime
    level: str
    spectral: str


def parse_name(name: str, providers: Iterable[Provider]) -> SceneName | None:
    """Parse a folder's name or a file's stem by the first provider whose pattern matches; return None if none matches.

    Raises DataError if the time is invalid.
    """
    for provider in providers:
        match = re.fullmatch(provider.pattern, name)
        if match is None:
            continue
        parts = {key: value or "" for key, value in match.groupdict().items()}
        try:
            local = datetime.strptime(parts["time"], provider.time_format).replace(tzinfo=provider.zone)
        except ValueError:
            raise DataError(
                f"{name!r} has the time {parts['time']}; expected the format {provider.time_format}"
            ) from None
        texts = {key: parts.get(key, "") for key in ("satellite", "sensor", "level", "spectral")}
        return SceneName(provider=provider, time=local.astimezone(UTC), **texts)
    return None


def read_metadata(paths: Iterable[Path], elements: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the values of the keys in `elements` from XML files; unreadable files are skipped with a warning.

    The values of `elements` are element names in order of precedence, at any depth and in any case.
    """
    found: dict[str, str] = {}
    for path in sorted(paths):
        try:
            texts = {
                node.tag.rsplit("}", 1)[-1].lower(): node.text.strip()
                for node in ET.parse(path).iter()
                if node.text and node.text.strip()
            }
        except ET.ParseError as error:
            log.warning("%s is not readable XML (%s); file name and raster are used instead", path, error)
            continue
        for key, names in elements.items():
            for name in names:
                if key not in found and name.lower() in texts:
                    found[key] = texts[name.lower()]
    return found


def parse_number(text: str | None) -> float:
    """Parse a number, with or without % or degree sign; return NaN if there is none."""
    match = re.fullmatch(r"\s*([-+]?\d+(?:\.\d+)?)\s*[%°]?\s*", text or "")
    return float(match[1]) if match else float("nan")


def parse_time(text: str, zone: timezone) -> datetime | None:
    """Parse a time of the metadata to UTC; times without a time zone are in `zone`. Return None if it is invalid."""
    try:
        found = datetime.fromisoformat(text.strip().replace("/", "-"))
    except ValueError:
        log.warning("time %r cannot be parsed; the time in the name is used", text)
        return None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def rgb_bands(source: DatasetReader, provider: Provider) -> tuple[int, int, int]:
    """Return the band numbers (from 1) of red, green and blue: from the raster's band names or colours, else by provider.

    Raises DataError if the raster lacks one of them.
    """
    colours = list(source.colorinterp)
    names = [(text or "").strip().lower() for text in source.descriptions]
    if all(name in names for name in RGB):
        red, green, blue = (names.index(name) + 1 for name in RGB)
    elif all(colour in colours for colour in RGB.values()):
        red, green, blue = (colours.index(colour) + 1 for colour in RGB.values())
    else:
        red, green, blue = (list(provider.bands).index(name) + 1 for name in RGB)
    if source.count < max(red, green, blue, 3):
        raise DataError(
            f"{Path(source.name).name} has {source.count} bands; expected red, green and blue among {provider.bands}"
        )
    return red, green, blue
