"""Layout of a layered graph: long links run in lanes between the boxes, so that no line crosses a box."""

from collections import defaultdict
from itertools import accumulate, pairwise

Lane = tuple[str, int]  # (node, row): the node in its own row, its lane in the rows below

BOX_W, LANE_W, GAP = 148.0, 6.0, 20.0
_SWEEPS = 12


def add_lanes(rows: list[list[str]], parents: dict[str, set[str]]) -> tuple[list[list[Lane]], list[tuple[Lane, Lane]]]:
    """Return the rows with the lanes of long links, and the links, each split to span one row.

    All children of a node share one lane, which ends in the row above the last of them.
    """
    level = {name: i for i, row in enumerate(rows) for name in row}
    deepest = {name: level[name] for name in level}
    for name, above in parents.items():
        for parent in above:
            deepest[parent] = max(deepest[parent], level[name] - 1)
    full: list[list[Lane]] = [[(name, i) for name in row] for i, row in enumerate(rows)]
    links: list[tuple[Lane, Lane]] = []
    for name in sorted(level):
        for i in range(level[name] + 1, deepest[name] + 1):
            full[i].append((name, i))
            links.append(((name, i - 1), (name, i)))
        links += [((parent, level[name] - 1), (name, level[name])) for parent in sorted(parents[name])]
    return full, links


def layout(rows: list[list[str]], parents: dict[str, set[str]]) -> tuple[dict[Lane, float], list[tuple[Lane, Lane]]]:
    """Return the centre of every box and lane, in px from the left edge, and the links between them."""
    full, links = add_lanes(rows, parents)
    linked: dict[Lane, list[Lane]] = defaultdict(list)
    for upper, lower in links:
        linked[upper].append(lower)
        linked[lower].append(upper)
    level = {name: i for i, row in enumerate(rows) for name in row}
    width = {lane: BOX_W if level[lane[0]] == lane[1] else LANE_W for row in full for lane in row}
    x: dict[Lane, float] = {}
    for row in full:
        _spread(row, {lane: float(i) for i, lane in enumerate(row)}, width, x)
    for sweep in range(_SWEEPS):
        for row in full if sweep % 2 == 0 else full[::-1]:
            target = {
                lane: sum(x[end] for end in linked[lane]) / len(linked[lane]) if linked[lane] else x[lane]
                for lane in row
            }
            row.sort(key=lambda lane: (target[lane], lane))
            _spread(row, target, width, x)
    left = min(x[lane] - width[lane] / 2 for lane in x)
    return {lane: centre - left for lane, centre in x.items()}, links


def _spread(row: list[Lane], target: dict[Lane, float], width: dict[Lane, float], x: dict[Lane, float]) -> None:
    """Set the centres of a row in its order, as close to the targets as the widths allow (pooled adjacent means)."""
    steps = ((width[left] + width[right]) / 2 + GAP for left, right in pairwise(row))
    offsets = list(accumulate(steps, initial=0.0))
    blocks: list[list[float]] = []  # [sum of (target - offset), number of lanes] of each block
    for lane, offset in zip(row, offsets):
        blocks.append([target[lane] - offset, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    shifts = [total / count for total, count in blocks for _ in range(int(count))]
    x.update((lane, offset + shift) for lane, offset, shift in zip(row, offsets, shifts))
