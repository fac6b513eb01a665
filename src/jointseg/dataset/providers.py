"""Providers of high-resolution scenes: how each names its deliveries, and what the names and metadata tell."""

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
    """One entry of `dataset.providers`.

    Attributes:
        name: of the provider.
        pattern: regular expression of a folder's name or a file's stem, with the named group `time` and, where the
            names tell them, `satellite`, `sensor`, `level` and `spectral`.
        time_format: of the group `time`, as in `datetime.strptime`.
        utc_offset_h: hours that times in names and metadata are ahead of UTC, unless they name their zone.
        bands: colours of the bands in order, for rasters that do not tell; red, green and blue among them.
        nodata: digital number without data, for rasters that declare none; None where every number is data.
        levels: levels that can be paired; empty for all.
        spectral: spectral types that can be paired; empty for all.
        advice: what to do with a scene of another level or spectral type.
    """

    name: str
    pattern: str
    time_format: str
    utc_offset_h: float
    bands: Sequence[str]
    nodata: float | None
    levels: Sequence[str]
    spectral: Sequence[str]
    advice: str

    @property
    def zone(self) -> timezone:
        return timezone(timedelta(hours=self.utc_offset_h))


@dataclass(frozen=True)
class SceneName:
    """The parts of a scene's name; `time` is UTC, text is empty where the name does not tell."""

    provider: Provider
    satellite: str
    sensor: str
    time: datetime
    level: str
    spectral: str


def parse_name(name: str, providers: Iterable[Provider]) -> SceneName | None:
    """The parts of a folder's name or a file's stem, by the first provider that it fits; None when it fits none.

    Raises DataError when its time is none.
    """
    for provider in providers:
        match = re.fullmatch(provider.pattern, name)
        if match is None:
            continue
        parts = {key: value or "" for key, value in match.groupdict().items()}
        try:
            local = datetime.strptime(parts["time"], provider.time_format).replace(tzinfo=provider.zone)
        except ValueError:
            raise DataError(f"{name!r} has the time {parts['time']}, which is not {provider.time_format}") from None
        texts = {key: parts.get(key, "") for key in ("satellite", "sensor", "level", "spectral")}
        return SceneName(provider=provider, time=local.astimezone(UTC), **texts)
    return None


def read_metadata(paths: Iterable[Path], elements: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What XML files tell of the facts in `elements`; an unreadable XML tells nothing.

    Args:
        elements: the names of elements that may hold each fact, first found first used, whatever depth and case.
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
            log.warning("%s is not readable XML (%s); its file name and raster are used instead", path, error)
            continue
        for fact, names in elements.items():
            for name in names:
                if fact not in found and name.lower() in texts:
                    found[fact] = texts[name.lower()]
    return found


def parse_number(text: str | None) -> float:
    """A number of the metadata, with or without % or degree sign; nan where there is none."""
    match = re.fullmatch(r"\s*([-+]?\d+(?:\.\d+)?)\s*[%°]?\s*", text or "")
    return float(match[1]) if match else float("nan")


def parse_time(text: str, zone: timezone) -> datetime | None:
    """UTC of a time in the metadata, which is of the provider's zone unless it names its own."""
    try:
        found = datetime.fromisoformat(text.strip().replace("/", "-"))
    except ValueError:
        log.warning("time %r is not understood; the one in the name is used", text)
        return None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def rgb_bands(source: DatasetReader, provider: Provider) -> tuple[int, int, int]:
    """Band numbers (from 1) of red, green and blue: what the raster says of its colours, else the provider's order.

    Raises DataError when the raster lacks one of them.
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
