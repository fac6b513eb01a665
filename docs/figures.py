"""Draw the diagrams of the documentation: `snakemake ... --rulegraph | python docs/figures.py`.

Writes docs/images/workflow.svg (chapters of the workflow with their steps, and which chapter reads which) and
docs/images/architecture.svg (the layers of the package).
"""

import re
import sys
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.layers import LAYERS

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
FONT = "font-family='Helvetica, Arial, sans-serif'"
INK, LINE, BOX, HEAD = "#1d2733", "#7a8794", "#f4f7fa", "#1f6f8b"
# Chapter (file in rules/): title, column and row of its box.
CHAPTERS = {
    "study_area": ("Study area", 0, 0),
    "sentinel2": ("Sentinel-2", 1, 0),
    "dataset": ("ISASeg dataset", 1, 1),
    "superres": ("Super-resolution", 2, 1),
    "segmentation": ("Segmentation", 3, 1),
    "inference": ("Inference", 3, 0),
    "accuracy": ("Accuracy", 4, 0),
    "provenance": ("Release", 4, 1),
}
# Arrows that are drawn although a longer path implies them, and one that would close a cycle (product_mosaic feeds prior_density).
DIRECT = {("sentinel2", "inference"), ("superres", "inference")}
BACKWARD = {("accuracy", "dataset")}
# The checkpoint `grid` decides the tiles; no rule of Sentinel-2 reads its file.
BY_CHECKPOINT = {("study_area", "sentinel2")}
CHAPTER_OF_FILE = {"joint": "segmentation"}
BOX_W, LINE_H, HEAD_H, GAP_X, GAP_Y = 190, 17, 26, 70, 56


def rules_by_chapter() -> dict[str, list[str]]:
    """Rule names of each chapter, in the order in which its files define them."""
    found: dict[str, list[str]] = {name: [] for name in CHAPTERS}
    for path in sorted((ROOT / "rules").glob("*.smk")):
        chapter = CHAPTER_OF_FILE.get(path.stem, path.stem)
        if chapter in found:
            found[chapter] += re.findall(r"^ *(?:rule|checkpoint) (\w+):", path.read_text(), re.M)
    return found


def chapter_edges(rule_graph: str, chapters: dict[str, list[str]]) -> set[tuple[str, str]]:
    """Pairs of chapters of which the second reads files of the first, from Snakemake's rule graph (DOT)."""
    labels = dict(re.findall(r'(\d+)\[label = "(\w+)', rule_graph))
    chapter_of = {rule: chapter for chapter, rules in chapters.items() for rule in rules}
    edges = set()
    for start, end in re.findall(r"(\d+) -> (\d+)", rule_graph):
        pair = chapter_of.get(labels[start]), chapter_of.get(labels[end])
        if None not in pair and pair[0] != pair[1]:
            edges.add(pair)
    edges = (edges | BY_CHECKPOINT) - BACKWARD
    return {edge for edge in edges if edge in DIRECT or not _implied(edge, edges)}  # type: ignore[return-value]


def _implied(edge: tuple, edges: set) -> bool:
    """Whether a longer path leads from the edge's start to its end."""
    start, end = edge
    waiting, seen = [after for before, after in edges if before == start and after != end], set()
    while waiting:
        node = waiting.pop()
        if node == end:
            return True
        if node not in seen:
            seen.add(node)
            waiting += [after for before, after in edges if before == node]
    return False


def svg(width: float, height: float, parts: list[str]) -> str:
    arrow = (
        f"<defs><marker id='arrow' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' orient='auto'>"
        f"<path d='M0,0 L8,4 L0,8 z' fill='{LINE}'/></marker></defs>"
    )
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' {FONT}>"
    return "\n".join([head, f"<rect width='{width:g}' height='{height:g}' fill='#ffffff'/>", arrow, *parts, "</svg>\n"])


def box(x: float, y: float, width: float, height: float, title: str, lines: list[str]) -> list[str]:
    parts = [
        f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='6' fill='{BOX}' stroke='{HEAD}'/>",
        f"<text x='{x + 10:g}' y='{y + 18:g}' font-size='14' font-weight='bold' fill='{HEAD}'>{escape(title)}</text>",
    ]
    for number, line in enumerate(lines):
        at = y + HEAD_H + 12 + number * LINE_H
        parts.append(f"<text x='{x + 10:g}' y='{at:g}' font-size='12' fill='{INK}'>{escape(line)}</text>")
    return parts


def edge_points(start: tuple[float, float, float, float], end: tuple[float, float, float, float]) -> tuple[float, ...]:
    """Where an arrow leaves one box (x, y, width, height) and meets another."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = start, end
    if ax == bx:
        down = ay < by
        return ax + aw / 2, ay + ah if down else ay, bx + bw / 2, by if down else by + bh
    right = ax < bx
    same_row = abs(ay - by) < 1
    ya, yb = (ay + 40, by + 40) if same_row else (ay + ah / 2, by + bh / 2)
    return ax + aw if right else ax, ya, bx if right else bx + bw, yb


def workflow(rule_graph: str) -> str:
    """Return the diagram of the workflow as SVG."""
    chapters = rules_by_chapter()
    heights = {name: HEAD_H + 10 + LINE_H * max(len(rules), 1) for name, rules in chapters.items()}
    row_height = [max(heights[name] for name, (_, _, row) in CHAPTERS.items() if row == each) for each in (0, 1)]
    places = {
        name: (20 + col * (BOX_W + GAP_X), 20 + row * (row_height[0] + GAP_Y), BOX_W, heights[name])
        for name, (_, col, row) in CHAPTERS.items()
    }
    parts = []
    for start, end in sorted(chapter_edges(rule_graph, chapters)):
        x1, y1, x2, y2 = edge_points(places[start], places[end])
        parts.append(
            f"<line x1='{x1:g}' y1='{y1:g}' x2='{x2:g}' y2='{y2:g}' stroke='{LINE}' stroke-width='1.4' "
            "marker-end='url(#arrow)'/>"
        )
    for name, (title, _, _) in CHAPTERS.items():
        parts += box(*places[name], title, chapters[name])
    width = 40 + 5 * BOX_W + 4 * GAP_X
    return svg(width, 40 + sum(row_height) + GAP_Y, parts)


def architecture() -> str:
    """Return the layers of the package as SVG, the top layer first."""
    parts = []
    for number, (packages, content) in enumerate(reversed(LAYERS)):
        y = 16 + number * 46
        parts.append(f"<rect x='16' y='{y}' width='868' height='38' rx='6' fill='{BOX}' stroke='{HEAD}'/>")
        parts.append(
            f"<text x='30' y='{y + 24}' font-size='13' fill='{LINE}'>{len(LAYERS) - number}</text>"
            f"<text x='62' y='{y + 24}' font-size='14' font-weight='bold' fill='{HEAD}'>{escape(', '.join(packages))}</text>"
            f"<text x='330' y='{y + 24}' font-size='12' fill='{INK}'>{escape(content)}</text>"
        )
    return svg(900, 24 + 46 * len(LAYERS), parts)


if __name__ == "__main__":
    (IMAGES / "workflow.svg").write_text(workflow(sys.stdin.read()), encoding="utf-8")
    (IMAGES / "architecture.svg").write_text(architecture(), encoding="utf-8")
