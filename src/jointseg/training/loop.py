"""What every training shares: seeds, schedule, precision, weight averaging, finite losses, history and panel."""

import copy
import csv
import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from jointseg.runtime import distributed
from jointseg.runtime.errors import DataError
from jointseg.runtime.files import atomic_write

log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)

MOST_BAD_STEPS = 10  # non-finite losses in a row after which training has diverged for good


def prepare(seed: int, threads: int) -> None:
    """Seed torch, fix its threads and forbid non-deterministic kernels.

    On a CPU the same seed and number of threads give the same bytes; another number of threads sums in another order.
    On a GPU some gradients (of interpolation and sampling) have no deterministic kernel and only a warning is given.
    """
    torch.set_num_threads(max(threads // distributed.get_world_size(), 1))
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs 4 %


def sow(seed: int, step: int) -> None:
    """Seed torch for one step, so that what networks draw (dropped paths) does not depend on where a run was resumed."""
    drawn = np.random.SeedSequence([seed, step, distributed.get_rank()]).generate_state(1, np.uint64)
    torch.manual_seed(int(drawn[0]))


def device() -> torch.device:
    """Where to train: the first GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(precision: str) -> torch.dtype | None:
    """Of the arithmetic of the forward pass where it is not float32: "bf16" is about twice as fast where there is any."""
    if precision not in ("fp32", "bf16"):
        raise DataError(f"precision '{precision}' is unknown; choose fp32 or bf16")
    return torch.bfloat16 if precision == "bf16" else None


def autocast(precision: str) -> AbstractContextManager:
    """The forward pass of a block in that precision, "fp32" or "bf16"."""
    kind = dtype(precision)
    return torch.autocast(device().type, kind, enabled=kind is not None)


def learning_rate(step: int, steps: int, base: float, warmup: int = 0, schedule: str = "cosine") -> float:
    """Rate of step 0..steps-1: linear over `warmup` steps, then "cosine" to zero, "poly" (power 0.9), "halving"
    (at a half, three quarters, seven eighths: ESRGAN's fixed milestones in proportion) or "constant"."""
    if step < warmup:
        return base * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    if schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "poly":
        return base * (1 - done) ** 0.9
    if schedule == "halving":
        return base * 0.5 ** sum(done >= milestone for milestone in (0.5, 0.75, 0.875))
    if schedule == "constant":
        return base
    raise DataError(f"learning-rate schedule '{schedule}' is unknown; choose cosine, poly, halving or constant")


class Average(Generic[M]):
    """Exponential moving average of a model's weights (`model`), which is what gets validated and saved.

    The decay rises to its full value over the first steps, so that a short training is not held at its random start.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: M) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for weight, current in zip(self.model.parameters(), model.parameters(), strict=True):
            weight.lerp_(current, 1 - decay)
        for buffer, current_buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(current_buffer)


class Descent:
    """One optimiser's step, refusing losses that are not finite.

    A non-finite loss or gradient changes no weight and is warned about; ten in a row raise DataError.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, clip: float | None = None) -> None:
        self.optimizer, self.clip, self.bad = optimizer, clip, 0
        self.ratios = [group["lr"] for group in optimizer.param_groups]
        largest = max(self.ratios)
        self.ratios = [ratio / largest for ratio in self.ratios]

    def step(self, loss: Tensor, rate: float, step: int) -> bool:
        """Descend `loss` at learning rate `rate` (groups keep the ratios they were made with); False if refused."""
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            group["lr"] = rate * ratio
        self.optimizer.zero_grad(set_to_none=True)
        norm = torch.tensor(math.nan)
        if bool(torch.isfinite(loss)):
            loss.backward()
            weights = [value for group in self.optimizer.param_groups for value in group["params"]]
            distributed.all_reduce_gradients(weights)
            norm = torch.nn.utils.clip_grad_norm_(weights, self.clip or math.inf)
        if not bool(torch.isfinite(norm)):
            self.bad += 1
            log.warning("step %d: loss %s has no finite gradient; the step is left out", step, float(loss.detach()))
            if self.bad >= MOST_BAD_STEPS:
                raise DataError(
                    f"training diverged: {self.bad} steps up to {step} gave no finite loss; lower learning_rate "
                    "or look for damaged chips"
                )
            return False
        self.bad = 0
        self.optimizer.step()
        return True


def gains(rng: np.random.Generator, bands: int, jitter: float) -> np.ndarray:
    """Random gains near 1, float32 [bands, 1, 1]: up to `jitter` in common and half as much apart."""
    common, apart = rng.uniform(-jitter, jitter), rng.uniform(-1, 1, (bands, 1, 1)) * jitter / 2
    return np.float32(1 + common) + apart.astype(np.float32)


def turn(image: np.ndarray, which: int) -> np.ndarray:
    """One of the eight symmetries of the square (0..7) of [..., h, w]; h and w change places for odd ones."""
    turned = np.rot90(image, which % 4, axes=(-2, -1))
    return turned[..., ::-1] if which >= 4 else turned


class History:
    """Figures of a training by step, written as CSV with one column a name (empty where a step has none)."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def add(self, step: int, **figures: float) -> None:
        self.rows.append({"step": step, **{name: float(value) for name, value in figures.items()}})

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """(steps, values) of one column."""
        rows = [row for row in self.rows if name in row]
        return [row["step"] for row in rows], [row[name] for row in rows]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row if name != "step"))

    def write(self, path: Path) -> None:
        with atomic_write(path) as beside, beside.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", *self.names])
            for row in self.rows:
                values = (f"{row[name]:.6g}" if name in row else "" for name in self.names)
                writer.writerow([int(row["step"]), *values])


def to_display(reflectance: np.ndarray, brightest: float = 0.3) -> np.ndarray:
    """[3, h, w] reflectance -> [h, w, 3] in 0..1 for the eye (NaN black, square-root stretch up to `brightest`)."""
    shown = np.sqrt(np.clip(np.nan_to_num(reflectance) / brightest, 0, 1))
    return np.moveaxis(shown, 0, -1)


def panel(
    history: History,
    curves: Sequence[Sequence[str]],
    images: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
) -> Figure:
    """Learning curves (one axis for each group of column names) above rows of pictures.

    images[row][column] is [h, w, 3] in 0..1, or [h, w] drawn in grey from 0 to 1; titles name the columns.
    """
    columns = max(len(titles), len(curves), 1)
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(2.6 * columns, 2.4 + 2.6 * len(images)), dpi=90, layout="constrained")
        heights = [2.4, 2.6 * len(images)] if images else [1.0]
        top, *below = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat
        for axis, group in zip(top.subplots(1, len(curves), squeeze=False).flat, curves):
            for name in group:
                axis.plot(*history.series(name), label=name, linewidth=1, marker=".", markersize=3)
            axis.set_xlabel("step")
            axis.legend(frameon=False)
        if below:
            axes = below[0].subplots(len(images), len(titles), squeeze=False)
            for row, pictures in enumerate(images):
                for column, picture in enumerate(pictures):
                    limits: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1} if picture.ndim == 2 else {}
                    axes[row, column].imshow(picture, interpolation="nearest", **limits)
                    axes[row, column].set_axis_off()
                    if row == 0:
                        axes[row, column].set_title(titles[column])
    return figure


def write_panel(path: Path, drawn: Figure) -> None:
    """The panel as PNG, the same bytes for the same content."""
    with matplotlib.rc_context({"font.size": 8}), atomic_write(path) as beside:
        drawn.savefig(beside, format="png", metadata={"Software": None})
