"""Accuracy by domain and at edges, for maps with known errors."""

import numpy as np
import pandas as pd
import pytest

from jointseg.accuracy import accuracy_by_domain
from jointseg.accuracy.cluster_estimators import CELLS


def square(top: int, left: int, side: int = 20) -> np.ndarray:
    plane = np.zeros((60, 60), np.uint8)
    plane[top : top + side, left : left + side] = 1
    return plane


def test_shifted_edge_matches_within_the_shift() -> None:
    cells = accuracy_by_domain.edge_counts(square(20, 22), square(20, 20))
    assert cells["mapped_edge"] == cells["reference_edge"] == 4 * 19
    # 20 px of the right side are 2 m off, and 16 of the left: two at each end are next to the reference's other sides.
    assert cells["mapped_edge_2m"] == cells["mapped_edge"] > cells["mapped_edge_1m"]
    assert cells["mapped_edge_1m"] == cells["mapped_edge"] - 20 - 16
    f1 = [
        accuracy_by_domain.edge_f1(np.array([cells[n] for n in accuracy_by_domain.edge_columns(m)], float))
        for m in accuracy_by_domain.TOLERANCES_M
    ]
    assert f1[0] == pytest.approx(cells["mapped_edge_1m"] / 76) and f1[1:] == [1, 1]


def test_nodata_has_no_edge_and_an_empty_reference_matches_nothing() -> None:
    mapped, reference = square(20, 20), square(20, 20)
    reference[:, 30:] = 255
    cells = accuracy_by_domain.edge_counts(mapped, reference)
    assert cells["mapped_edge"] == cells["mapped_edge_1m"] == 20 + 2 * 9
    empty = accuracy_by_domain.edge_counts(square(20, 20), np.zeros((60, 60), np.uint8))
    assert empty["reference_edge"] == 0 and empty["mapped_edge_5m"] == 0


def test_domain_table_weights_chips_and_reports_area_bias() -> None:
    tested = pd.DataFrame(
        {"sample_id": list("abcd"), "reach": ["up", "up", "low", "low"], "group": ["up", "up", "low", "low"]}
    )
    tested["weight"] = [1.0, 1.0, 10.0, 10.0]
    key = {"kind": "method", "name": "m", "reference": "labels"}
    rows = [
        {**key, "sample_id": chip, "domain": "dense", **dict(zip(CELLS, cells))}
        for chip, cells in zip("abcd", [(10, 10, 0, 80), (10, 10, 0, 80), (20, 0, 0, 80), (20, 0, 0, 80)])
    ]
    rows.append({**key, "sample_id": "a", "domain": "rural roads", "tp": 3, "fp": 0, "fn": 9, "tn": 0})
    made = accuracy_by_domain.domain_table(pd.DataFrame(rows), tested, ["up", "low"]).set_index(["domain", "reach"])
    assert made.loc[("dense", "up"), "area_bias"] == 1 and made.loc[("dense", "low"), "area_bias"] == 0
    assert made.loc[("dense", "all"), "area_bias"] == pytest.approx((2 * 20 + 20 * 20) / (2 * 10 + 20 * 20) - 1)
    roads = made.loc[("rural roads", "all")]
    assert roads["recall"] == 0.25 and roads["chips"] == 1 and np.isnan(roads["f1"]) and np.isnan(roads["area_bias"])
    assert ("rural roads", "low") not in made.index
