"""The workflow graph and its layout."""

import itertools

from support.report_inputs import RECORDS, manifest

from jointseg.report import graph_layout, workflow_graph


def test_rules_are_linked_by_checksum_and_path() -> None:
    twin = manifest("twin", "dataset.chips", {}, {"r/elsewhere": "b"})
    nodes = workflow_graph.graph([*RECORDS, twin])
    assert nodes["chips"].parents == {"samples"}
    assert nodes["predict"].parents == {"superres_stage1", "source (external)"}
    rows = workflow_graph.levels(workflow_graph.graph(RECORDS))
    assert rows == [["source (external)"], ["samples"], ["chips"], ["superres_stage1"], ["predict"]]
    drawing = workflow_graph.svg(RECORDS)
    assert drawing.count('class="rule"') == 4 and drawing.count('class="external"') == 1
    assert workflow_graph.svg([]) == ""


def test_long_links_run_between_the_boxes() -> None:
    rows = [["a"], ["b", "c"], ["d"], ["e"]]
    parents = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b"}, "e": {"a", "c", "d"}}
    x, links = graph_layout.layout(rows, parents)
    assert all(lower[1] == upper[1] + 1 for upper, lower in links)
    assert {lane for lane in x if lane[1] == 2} == {("d", 2), ("a", 2), ("c", 2)}
    for row in range(4):
        xs = sorted(
            (centre, graph_layout.BOX_W if lane[0] in rows[row] else graph_layout.LANE_W)
            for lane, centre in x.items()
            if lane[1] == row
        )
        for (x0, w0), (x1, w1) in itertools.pairwise(xs):
            assert x1 - x0 >= (w0 + w1) / 2 + graph_layout.GAP - 1e-6
