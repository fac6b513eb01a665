"""Layout of a layered graph: long links run in lanes of their own between the boxes, so that no line crosses a box."""

from collections import defaultdict

Lane = tuple[str, int]  # (node, row): the node itself in its own row, its lane in the rows below

BOX_W, LANE_W, GAP = 148.0, 6.0, 20.0
_SWEEPS = 12


def lanes(rows: list[list[str]], parents: dict[str, set[str]]) -> tuple[list[list[Lane]], list[tuple[Lane, Lane]]]:
    """Rows with the lanes that long links need, and the links cut to span one row each.

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


def place(rows: list[list[str]], parents: dict[str, set[str]]) -> tuple[dict[Lane, float], list[tuple[Lane, Lane]]]:
    """Centre of every box and lane, in px from the leftmost edge, and the links between them."""
    full, links = lanes(rows, parents)
    near: dict[Lane, list[Lane]] = defaultdict(list)
    for upper, lower in links:
        near[upper].append(lower)
        near[lower].append(upper)
    level = {name: i for i, row in enumerate(rows) for name in row}
    width = {lane: BOX_W if level[lane[0]] == lane[1] else LANE_W for row in full for lane in row}
    at: dict[Lane, float] = {}
    for row in full:
        _spread(row, {lane: float(i) for i, lane in enumerate(row)}, width, at)
    for sweep in range(_SWEEPS):
        for row in full if sweep % 2 == 0 else full[::-1]:
            wanted = {
                lane: sum(at[each] for each in near[lane]) / len(near[lane]) if near[lane] else at[lane] for lane in row
            }
            row.sort(key=lambda lane: (wanted[lane], lane))
            _spread(row, wanted, width, at)
    left = min(at[lane] - width[lane] / 2 for lane in at)
    return {lane: x - left for lane, x in at.items()}, links


def _spread(row: list[Lane], wanted: dict[Lane, float], width: dict[Lane, float], at: dict[Lane, float]) -> None:
    """Places a row in its order as near to the wanted centres as the widths allow (pooled means of what touches)."""
    offset, blocks = 0.0, []  # a block: [sum of (wanted - offset), lanes]
    for i, lane in enumerate(row):
        if i:
            offset += (width[row[i - 1]] + width[lane]) / 2 + GAP
        blocks.append([wanted[lane] - offset, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    shifts = [total / count for total, count in blocks for _ in range(int(count))]
    offset = 0.0
    for i, lane in enumerate(row):
        if i:
            offset += (width[row[i - 1]] + width[lane]) / 2 + GAP
        at[lane] = offset + shifts[i]
