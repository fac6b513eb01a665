"""Pictures of the report."""

import io
import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.report_inputs import HISTORIES

from jointseg.accuracy import figures
from jointseg.report import gallery


def test_learning_curves_show_losses_and_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "_png", lambda figure: drawn.append(figure) or b"")
    tables = {name: pd.read_csv(io.StringIO("\n".join(lines))) for name, lines in HISTORIES.items()}
    figures.learning_curves(tables)
    losses, scores = drawn[0].axes[:3], drawn[0].axes[3:]
    assert [axes.get_title(loc="left") for axes in losses] == list(HISTORIES)
    assert [[line.get_label() for line in axes.lines] for axes in losses] == [
        ["l1 2.5 m"],
        ["l1 1 m"],
        ["loss"],
    ]
    assert losses[0].lines[0].get_ydata().tolist() == [1.0, pytest.approx(0.75)]
    assert losses[1].lines[0].get_xdata().tolist() == [20]  # a loss that starts later
    assert [axes.lines[0].get_ydata().tolist() for axes in scores] == [[-0.5, 0.5], [1.0, 2.0], [0.5, 0.6]]


def test_chips_are_selected_by_label(inputs: dict[str, Any]) -> None:
    selected = gallery.select_chips(inputs["index"])
    assert len(selected) == 4 and selected["sample_id"].is_unique
    assert selected["reach"].tolist() == ["downstream"] * 2 + ["upstream"] * 2


def test_overviews_distinguish_nodata(inputs: dict[str, Any]) -> None:
    colours = figures.fraction_image(
        np.repeat(np.array([[0, 1, 255, 1]], dtype=np.uint8), 4, axis=0).repeat(4, axis=1), 4
    )
    assert colours[0].tolist() == [[244, 243, 239], [196, 64, 45], [196, 202, 206], [196, 64, 45]]
    rows = gallery.overview_rows(inputs["composites"], inputs["isa"], 2021)
    assert [picture.caption for picture in rows[0].pictures][1] == "Impervious surface, 2021"


def test_colours_are_distinguishable_with_colour_vision_deficiency() -> None:
    # Machado, Oliveira and Fernandes (2009): deuteranopia and protanopia as matrices of linear RGB.
    deficiencies = {
        "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    }
    hexes = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in figures.PALETTE[:6]]
    for colours in (hexes, list(figures.AGREEMENT.values())):
        linear = (np.array(colours) / 255) ** 2.2
        for matrix in deficiencies.values():
            simulated = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
            for first, second in itertools.combinations(simulated, 2):
                assert np.abs(first - second).max() > 0.12
