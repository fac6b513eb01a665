"""The workflow as inline SVG: rules linked by the checksums of the files that one writes and the other reads."""

from collections import defaultdict
from dataclasses import dataclass, field
from html import escape
from typing import Any

from jointseg.report import graph_layout

COLOURS = {
    "study_area": "#6b7f8c",
    "tiling": "#6b7f8c",
    "synthetic": "#7d8a3c",
    "sentinel2": "#2f7f86",
    "dataset": "#8a6a9c",
    "training": "#c4402d",
    "inference": "#e39b3b",
    "accuracy": "#5b6fa8",
    "provenance": "#3d5a45",
}
_SOURCE = "source"
_BOX_H, _GAP_Y, _MARGIN = 38, 34, 14
_DEFAULT_COLOUR = "#8796a1"


@dataclass
class Node:
    """A rule with its number of jobs, or (package "source") external files."""

    name: str
    package: str
    jobs: int = 0
    parents: set[str] = field(default_factory=set)


def graph(manifests: list[dict[str, Any]]) -> dict[str, Node]:
    """Return the rules as nodes, linked if an output of one has the checksum of an input of the other.

    If several rules wrote the same bytes, the parent is the one that wrote the input's path. Folders match by their
    checksum, files inside an output folder by the checksum of the file.
    """
    writers: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for manifest in manifests:
        for output in manifest["outputs"]:
            writers[output["sha256"]].add((manifest["rule"], output["path"]))
            for file in output.get("files", []):
                writers[file["sha256"]].add((manifest["rule"], f"{output['path']}/{file['path']}"))
    nodes: dict[str, Node] = {}
    for manifest in sorted(manifests, key=lambda record: (record["rule"], str(record["wildcards"]))):
        rule = manifest["rule"]
        _, _, module = manifest.get("step", "").partition(":")[0].partition(".")  # such as jointseg.area.tiles:grid
        node = nodes.setdefault(rule, Node(rule, module.partition(".")[0]))
        node.jobs += 1
        for file in manifest["inputs"]:
            candidates = writers.get(file["sha256"], set())
            same_path = {candidate for candidate in candidates if candidate[1] == file["path"]} or candidates
            node.parents |= {writer for writer, _ in same_path} - {rule}
            if not candidates:
                source = f"{file.get('name', 'file')} (external)"
                nodes.setdefault(source, Node(source, _SOURCE)).jobs += 1
                node.parents.add(source)
    return nodes


def levels(nodes: dict[str, Node]) -> list[list[str]]:
    """Return the nodes by longest path from a node without parents; sources are one level above their first use."""
    depth: dict[str, int] = {}

    def depth_of(name: str, path: tuple[str, ...]) -> int:
        if name in path:  # a cycle of rules (a year's composite depends on the map year's) counts once
            return -1
        if name not in depth:
            above = [depth_of(parent, (*path, name)) for parent in sorted(nodes[name].parents)]
            depth[name] = 1 + max(above, default=-1)
        return depth[name]

    for name in sorted(nodes):
        depth_of(name, ())
    for name, node in nodes.items():
        if node.package == _SOURCE:
            depth[name] = min(depth[user] for user in nodes if name in nodes[user].parents) - 1
    rows: dict[int, list[str]] = defaultdict(list)
    for name in sorted(nodes):
        rows[depth[name]].append(name)
    return [rows[row] for row in sorted(rows)]


def svg(manifests: list[dict[str, Any]]) -> str:
    """Return the workflow as an SVG element; empty without manifests."""
    nodes = graph(manifests)
    if not nodes:
        return ""
    rows = levels(nodes)
    across, links = graph_layout.layout(rows, {name: node.parents for name, node in nodes.items()})
    width = max(across.values()) + graph_layout.BOX_W / 2 + 2 * _MARGIN
    height = len(rows) * (_BOX_H + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    row_of = {name: i for i, row in enumerate(rows) for name in row}
    x = {lane: centre + _MARGIN for lane, centre in across.items()}
    lines = [_line(x[upper], upper[1], x[lower], lower[1], nodes[upper[0]]) for upper, lower in links]
    lines += [_lane(x[name, i], i, nodes[name]) for name, i in sorted(x) if row_of[name] != i]
    boxes = [_box(nodes[name], x[name, i] - graph_layout.BOX_W / 2, _top(i)) for name, i in sorted(row_of.items())]
    return (
        f'<svg class="flow" viewBox="0 0 {width:g} {height:g}" style="max-width: {width:g}px" role="img"'
        f' aria-label="Files passed between rules">{"".join(lines + boxes)}</svg>'
    )


def _top(row: int) -> float:
    return _MARGIN + row * (_BOX_H + _GAP_Y)


def _line(x0: float, row0: int, x1: float, row1: int, parent: Node) -> str:
    y0, y1 = _top(row0) + _BOX_H, _top(row1)
    bend = (y0 + y1) / 2
    colour = COLOURS.get(parent.package, _DEFAULT_COLOUR)
    return f'<path class="edge" stroke="{colour}" d="M{x0:.1f} {y0:g}C{x0:.1f} {bend:g} {x1:.1f} {bend:g} {x1:.1f} {y1:g}"/>'


def _lane(x: float, row: int, node: Node) -> str:
    colour = COLOURS.get(node.package, _DEFAULT_COLOUR)
    return f'<path class="edge" stroke="{colour}" d="M{x:.1f} {_top(row):g}V{_top(row) + _BOX_H:g}"/>'


def _box(node: Node, x: float, y: float) -> str:
    external = node.package == _SOURCE
    colour = COLOURS.get(node.package, _DEFAULT_COLOUR)
    style = f'fill="#fff" stroke="{colour}" stroke-dasharray="4 3"' if external else f'fill="{colour}"'
    below = "external input" if external else f"{node.jobs} job{'s' if node.jobs > 1 else ''}"
    name = node.name.removesuffix(" (external)")
    centre = x + graph_layout.BOX_W / 2
    return (
        f'<g class="{"external" if external else "rule"}"><rect x="{x:.1f}" y="{y:g}" width="{graph_layout.BOX_W:g}" height="{_BOX_H}" rx="7" '
        f'{style}/><text x="{centre:.1f}" y="{y + 16:g}">{escape(name)}</text>'
        f'<text class="jobs" x="{centre:.1f}" y="{y + 30:g}">{below}</text></g>'
    )
