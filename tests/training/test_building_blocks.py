"""Schedule, augmentation, weight average, optimiser, history and panel of the trainings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jointseg.runtime.errors import DataError
from jointseg.training.augmentation import dihedral
from jointseg.training.ema import ExponentialMovingAverage
from jointseg.training.history import History
from jointseg.training.optimiser import Optimiser
from jointseg.training.panel import draw_panel, to_display, write_panel
from jointseg.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [("cosine", 60, 0.5), ("poly", 60, 0.5**0.9), ("halving", 59, 1), ("halving", 60, 0.5), ("halving", 109, 0.125)],
)
def test_schedule_after_warmup(schedule: str, step: int, expected: float) -> None:
    assert learning_rate(step, 110, 1.0, 10, schedule) == pytest.approx(expected)


@given(st.integers(51, 500), st.integers(0, 50), st.sampled_from(["cosine", "poly", "halving", "constant"]))
def test_rate_is_positive_and_at_most_its_base(steps: int, warmup: int, schedule: str) -> None:
    rates = [learning_rate(step, steps, 0.1, warmup, schedule) for step in range(steps)]
    assert all(0 < rate < 0.1 + 1e-12 for rate in rates)
    assert all(later <= earlier + 1e-12 for earlier, later in zip(rates[warmup:], rates[warmup + 1 :], strict=False))


def test_unknown_schedule_is_an_error() -> None:
    with pytest.raises(DataError, match="'cyclic' is unknown"):
        learning_rate(0, 10, 0.1, schedule="cyclic")


@given(st.integers(0, 7))
def test_dihedral_has_eight_symmetries(symmetry: int) -> None:
    image = np.arange(18).reshape(2, 3, 3)
    images = [dihedral(image, index).tobytes() for index in range(8)]
    assert len(set(images)) == 8
    assert images.count(dihedral(image, symmetry).tobytes()) == 1
    assert dihedral(image[:, :, :2], symmetry).shape == ((2, 3, 2) if symmetry % 2 == 0 else (2, 2, 3))


def test_average_follows_the_weights_and_copies_buffers() -> None:
    model = torch.nn.BatchNorm1d(1)
    average = ExponentialMovingAverage(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(7.0)  # type: ignore[union-attr]
    average.update(model)  # decay of the first step: (1 + 1) / (10 + 1)
    assert average.model.weight.item() == pytest.approx(3 - 2 * 2 / 11)
    assert average.model.running_mean.item() == 7  # type: ignore[union-attr]
    for _ in range(50):
        average.update(model)
    assert average.model.weight.item() == pytest.approx(3)


def test_a_non_finite_loss_changes_no_weight(caplog: pytest.LogCaptureFixture) -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimiser = Optimiser(torch.optim.SGD([weight], lr=1.0))
    assert not optimiser.step((weight * float("nan")).sum(), 1.0, 3)
    assert not optimiser.step((weight - 1).sqrt().sum(), 1.0, 4)  # finite loss, infinite gradient
    assert weight.item() == 1
    assert "step 3 skipped: loss nan" in caplog.text
    assert optimiser.step(weight.sum(), 0.25, 5)
    assert weight.item() == 0.75


def test_ten_consecutive_skipped_steps_end_the_training() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimiser = Optimiser(torch.optim.SGD([weight], lr=1.0))
    with pytest.raises(DataError, match="training diverged: 10 consecutive steps up to step 9"):
        for step in range(20):
            optimiser.step((weight * float("inf")).sum(), 1.0, step)


def test_parameter_groups_keep_their_ratio() -> None:
    first, second = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.2}, {"params": [second], "lr": 0.02}])
    Optimiser(optimizer).step((first + second).sum(), 0.5, 0)
    assert [first.item(), second.item()] == pytest.approx([-0.5, -0.05])


def test_history_has_one_column_per_metric(tmp_path: Path) -> None:
    history = History()
    history.add(1, loss=2.0)
    history.add(2, loss=1.0, psnr=20.123456789)
    history.write(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == "step,loss,psnr\n1,2,\n2,1,20.1235\n"
    assert history.series("psnr") == ([2], [20.123456789])


def test_panel_is_reproducible(tmp_path: Path) -> None:
    history = History()
    history.add(1, loss=2.0)
    images_by_row = [[np.zeros((4, 4, 3)), np.ones((4, 4))]]
    for name in ("a.png", "b.png"):
        write_panel(tmp_path / name, draw_panel(history, [["loss"]], images_by_row, ["image", "label"]))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    write_panel(tmp_path / "c.png", draw_panel(history, [["loss"]], [], []))
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_display_shows_nodata_as_black() -> None:
    display = to_display(np.array([[[np.nan, 0.3]], [[0.0, 1.0]], [[0.075, 0.3]]]))
    assert display.tolist() == [[[0, 0, pytest.approx(0.5)], [1, 1, 1]]]
