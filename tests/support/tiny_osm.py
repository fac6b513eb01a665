"""Small OpenStreetMap files, as XML or PBF, of ways and relations in metres of a UTM zone."""

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from jointseg.area import grid
from jointseg.config.dataset import Dataset
from jointseg.dataset.osm_rules import TagRules

Points = Sequence[tuple[float, float]]
Way = tuple[dict[str, str], Points]
# Tags, and the numbers of the outer and inner ways, from 1.
Relation = tuple[dict[str, str], Sequence[int], Sequence[int]]


def default_rules() -> TagRules:
    """Return the default tag tables of the config."""
    fields = Dataset.model_fields
    names = ("road_widths_m", "lane_width_m", "isa_tags", "not_isa_tags", "unpaved_surfaces", "soft_tags")
    return TagRules(*(fields[name].default for name in names))


def write(path: Path, ways: Sequence[Way], relations: Sequence[Relation] = (), epsg: int = 32650) -> None:
    """Write .osm or .osm.pbf; way and relation N have the id N. Closed ways repeat their first point."""
    to = grid.transformer(f"EPSG:{epsg}", "EPSG:4326")
    nodes: list[tuple[float, float]] = []
    refs = []
    for _, points in ways:
        closed = tuple(points[0]) == tuple(points[-1])
        start = len(nodes) + 1
        nodes += [to.transform(*point) for point in (points[:-1] if closed else points)]
        refs.append([*range(start, len(nodes) + 1), *([start] if closed else [])])
    members = [
        (tags, [*((way, "outer") for way in outer), *((way, "inner") for way in inner)])
        for tags, outer, inner in relations
    ]
    tags_of_ways = [tags for tags, _ in ways]
    if path.suffix == ".pbf":
        path.write_bytes(_pbf(nodes, tags_of_ways, refs, members))
    else:
        path.write_text(_xml(nodes, tags_of_ways, refs, members))


def _xml(nodes: Sequence, tags_of_ways: Sequence, refs: Sequence, members: Sequence) -> str:
    def tagged(tags: dict[str, str]) -> str:
        return "".join(f"<tag k={quoteattr(key)} v={quoteattr(value)}/>" for key, value in tags.items())

    out = ['<?xml version="1.0"?><osm version="0.6">']
    for number, (lon, lat) in enumerate(nodes, 1):
        out.append(f'<node id="{number}" lon="{lon:.9f}" lat="{lat:.9f}" version="1"/>')
    for number, (tags, ids) in enumerate(zip(tags_of_ways, refs), 1):
        inner = "".join(f'<nd ref="{ref}"/>' for ref in ids)
        out.append(f'<way id="{number}" version="1">{inner}{tagged(tags)}</way>')
    for number, (tags, ways) in enumerate(members, 1):
        inner = "".join(f'<member type="way" ref="{way}" role="{role}"/>' for way, role in ways)
        out.append(f'<relation id="{number}" version="1">{inner}{tagged(tags)}</relation>')
    return "".join(out) + "</osm>"


def _pbf(nodes: Sequence, tags_of_ways: Sequence, refs: Sequence, members: Sequence) -> bytes:
    """Return the protocol buffers of wiki.openstreetmap.org/wiki/PBF_Format, with plain nodes."""
    strings = [""]

    def number_of(text: str) -> int:
        if text not in strings:
            strings.append(text)
        return strings.index(text)

    def tagged(tags: dict[str, str]) -> bytes:
        return packed(2, map(number_of, tags)) + packed(3, map(number_of, tags.values()))

    group = b""
    for number, (lon, lat) in enumerate(nodes, 1):
        position = integer(8, zigzag(round(lat * 1e7))) + integer(9, zigzag(round(lon * 1e7)))
        group += delimited(1, integer(1, zigzag(number)) + position)
    for number, (tags, ids) in enumerate(zip(tags_of_ways, refs), 1):
        group += delimited(3, integer(1, number) + tagged(tags) + packed(8, deltas(ids)))
    for number, (tags, ways) in enumerate(members, 1):
        roles = packed(8, (number_of(role) for _, role in ways))
        kinds = packed(10, [1] * len(ways))
        group += delimited(
            4, integer(1, number) + tagged(tags) + roles + packed(9, deltas(way for way, _ in ways)) + kinds
        )
    table = delimited(1, b"".join(delimited(1, text.encode()) for text in strings))
    return _blob(b"OSMHeader", delimited(4, b"OsmSchema-V0.6")) + _blob(b"OSMData", table + delimited(2, group))


def _blob(kind: bytes, data: bytes) -> bytes:
    blob = integer(2, len(data)) + delimited(3, zlib.compress(data))
    header = delimited(1, kind) + integer(3, len(blob))
    return len(header).to_bytes(4, "big") + header + blob


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def deltas(values: Iterable[int]) -> list[int]:
    ids = list(values)
    return [zigzag(value - before) for value, before in zip(ids, [0, *ids])]


def integer(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def delimited(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def packed(field: int, values: Iterable[Any]) -> bytes:
    data = b"".join(varint(value) for value in values)
    return delimited(field, data) if data else b""
