"""The flow as a figure: rules linked by the hashes of the files that went from one to the other, as inline SVG."""

from collections import defaultdict
from dataclasses import dataclass, field
from html import escape
from typing import Any

COLOURS = {
    "study_area": "#6b7f8c",
    "tiling": "#6b7f8c",
    "rehearsal": "#7d8a3c",
    "sentinel2": "#2f7f86",
    "dataset": "#8a6a9c",
    "training": "#c4402d",
    "inference": "#e39b3b",
    "accuracy": "#5b6fa8",
    "provenance": "#3d5a45",
}
_SOURCE = "source"
_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _MARGIN = 148, 38, 22, 40, 14


@dataclass
class Node:
    """A rule with its number of jobs, or (chapter "source") files that no job of the run made."""

    name: str
    chapter: str
    jobs: int = 0
    parents: set[str] = field(default_factory=set)


def graph(manifests: list[dict[str, Any]]) -> dict[str, Node]:
    """Rules as nodes; an edge where an output of one rule is, by its hash, an input of the other.

    Where several rules made the same bytes, the one that made the input's own path is the parent.
    Folders match by their own hash, and a file inside a made folder by the hash of the file.
    """
    makers: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for manifest in manifests:
        for made in manifest["outputs"]:
            makers[made["sha256"]].add((manifest["rule"], made["path"]))
            for inside in made.get("files", []):
                makers[inside["sha256"]].add((manifest["rule"], f"{made['path']}/{inside['path']}"))
    nodes: dict[str, Node] = {}
    for manifest in sorted(manifests, key=lambda each: (each["rule"], str(each["wildcards"]))):
        rule = manifest["rule"]
        node = nodes.setdefault(rule, Node(rule, _chapter(manifest)))
        node.jobs += 1
        for taken in manifest["inputs"]:
            found = makers.get(taken["sha256"], set())
            own = {maker for maker in found if maker[1] == taken["path"]} or found
            node.parents |= {maker for maker, _ in own} - {rule}
            if not found:
                source = f"{taken.get('name', 'file')} (given)"
                nodes.setdefault(source, Node(source, _SOURCE)).jobs += 1
                node.parents.add(source)
    return nodes


def _chapter(manifest: dict[str, Any]) -> str:
    """Chapter of a job, from its step such as jointseg.sentinel2.scenes:scenes."""
    parts = manifest.get("step", "").partition(":")[0].split(".")
    return parts[1] if len(parts) > 1 else ""


def levels(nodes: dict[str, Node]) -> list[list[str]]:
    """Nodes by longest path from a node without parents; sources one level above their first use."""
    depth: dict[str, int] = {}

    def down(name: str, path: tuple[str, ...]) -> int:
        if name in path:  # rules that feed one another (a year's composite, its base year's) count once
            return -1
        if name not in depth:
            above = [down(parent, (*path, name)) for parent in sorted(nodes[name].parents)]
            depth[name] = 1 + max(above, default=-1)
        return depth[name]

    for name in sorted(nodes):
        down(name, ())
    for name, node in nodes.items():
        if node.chapter == _SOURCE:
            depth[name] = min(depth[user] for user in nodes if name in nodes[user].parents) - 1
    rows: dict[int, list[str]] = defaultdict(list)
    for name in sorted(nodes):
        rows[depth[name]].append(name)
    return [_ordered(rows[row], nodes, rows, row) for row in sorted(rows)]


def _ordered(row: list[str], nodes: dict[str, Node], rows: dict[int, list[str]], at: int) -> list[str]:
    """A row ordered by the mean place of each node's parents, so that fewer lines cross."""
    place = {
        name: (i + 0.5) / len(names) for level, names in rows.items() if level < at for i, name in enumerate(names)
    }

    def mean(name: str) -> float:
        above = [place[parent] for parent in nodes[name].parents if parent in place]
        return sum(above) / len(above) if above else 0.5

    rows[at] = sorted(row, key=lambda name: (mean(name), name))
    return rows[at]


def svg(manifests: list[dict[str, Any]]) -> str:
    """The flow as an SVG element; empty without manifests."""
    nodes = graph(manifests)
    if not nodes:
        return ""
    rows = levels(nodes)
    width = max(len(row) for row in rows) * (_BOX_W + _GAP_X) - _GAP_X + 2 * _MARGIN
    height = len(rows) * (_BOX_H + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    at: dict[str, tuple[float, float]] = {}
    for i, row in enumerate(rows):
        left = (width - len(row) * (_BOX_W + _GAP_X) + _GAP_X) / 2
        for j, name in enumerate(row):
            at[name] = (left + j * (_BOX_W + _GAP_X), _MARGIN + i * (_BOX_H + _GAP_Y))
    lines = [_line(at[parent], at[name]) for name in sorted(nodes) for parent in sorted(nodes[name].parents)]
    boxes = [_box(nodes[name], *at[name]) for name in sorted(nodes)]
    return (
        f'<svg class="flow" viewBox="0 0 {width} {height}" role="img" aria-label="The flow of files between rules">'
        + "".join(lines + boxes)
        + "</svg>"
    )


def _line(parent: tuple[float, float], child: tuple[float, float]) -> str:
    x0, y0, x1, y1 = parent[0] + _BOX_W / 2, parent[1] + _BOX_H, child[0] + _BOX_W / 2, child[1]
    bend = max(24.0, abs(y1 - y0) / 2)
    return f'<path class="edge" d="M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1:g}"/>'


def _box(node: Node, x: float, y: float) -> str:
    given = node.chapter == _SOURCE
    colour = COLOURS.get(node.chapter, "#6b7f8c")
    style = f'fill="#fff" stroke="{colour}" stroke-dasharray="4 3"' if given else f'fill="{colour}"'
    below = "given to the run" if given else f"{node.jobs} job{'s' if node.jobs > 1 else ''}"
    name = node.name.removesuffix(" (given)")
    centre = x + _BOX_W / 2
    return (
        f'<g class="{"given" if given else "rule"}"><rect x="{x:g}" y="{y:g}" width="{_BOX_W}" height="{_BOX_H}" rx="7" '
        f'{style}/><text x="{centre:g}" y="{y + 16:g}">{escape(name)}</text>'
        f'<text class="jobs" x="{centre:g}" y="{y + 30:g}">{below}</text></g>'
    )
