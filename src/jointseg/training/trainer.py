"""The training loop: prefetched batches, seeds by step, averaged weights, history, and resuming."""

import logging
import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from matplotlib.figure import Figure
from torch import nn

from jointseg.runtime import distributed
from jointseg.runtime.errors import DataError
from jointseg.runtime.progress import bar
from jointseg.training import determinism
from jointseg.training.compute import device
from jointseg.training.diagnostics import DiscriminatorCheck, NormalisationCheck
from jointseg.training.ema import ExponentialMovingAverage
from jointseg.training.history import History
from jointseg.training.job import TrainingRun
from jointseg.training.optimiser import Optimiser
from jointseg.training.prefetch import Batch, prefetch
from jointseg.training.schedule import learning_rate
from jointseg.training.tensorboard import EventWriter

log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)


class Trainer(Generic[M]):
    """Loop over the steps of one training.

    Step s depends only on the weights before it, the seed and s. A training that resumes from its saved state therefore
    ends with the same bytes as an uninterrupted one. Raises DataError if the batch has fewer samples than there are
    processes.

    Args:
        name: of the training, for progress and log messages.
        network: whose averaged weights are validated and saved.
        batch: (step, indices) -> the samples of the step's batch at these indices.
        validate: averaged network -> metrics for the history.
        panel: (averaged network, history) -> learning curves above images of fixed validation chips.
        images: names of the first elements of a batch, whose normalisation is checked.
        auxiliary: networks by name that are trained with `network`.

    Attributes:
        average: moving average of the network's weights.
        history: one row per validation: means of the losses since the last one, and the metrics of `validate`.
    """

    def __init__(
        self,
        name: str,
        network: M,
        optimisers: dict[str, Optimiser],
        run: TrainingRun[Any],
        batch: Callable[[int, range], Batch],
        validate: Callable[[M], dict[str, float]],
        panel: Callable[[M, History], Figure],
        images: tuple[str, ...] = (),
        auxiliary: dict[str, nn.Module] | None = None,
    ) -> None:
        self.name, self.network, self.optimisers, self.options = name, network, optimisers, run
        self.settings, self.state, self.validate, self.panel = run.settings, run.state, validate, panel
        self.networks: dict[str, nn.Module] = {"network": network, **(auxiliary or {})}
        processes = distributed.get_world_size()
        indices = range(distributed.get_rank(), self.settings.batch, processes)
        if not indices:
            raise DataError(
                f"batch {self.settings.batch} is less than the {processes} devices that share it; "
                "raise batch or lower devices"
            )
        self._batch = lambda step: batch(step, indices)
        self.average = ExponentialMovingAverage(network, self.settings.ema)
        self.history = History()
        self._losses: dict[str, list[float]] = {}
        self.start = 0
        saved = self.state.load()
        if saved is not None:
            self._restore(saved)
        self._normalisation_checks = [NormalisationCheck(image) for image in images] if self.start == 0 else []
        self._discriminator_check = DiscriminatorCheck()
        self._events = EventWriter(run.events if self.first else None, self.start)

    @property
    def first(self) -> bool:
        """Whether this process validates and writes."""
        return distributed.get_rank() == 0

    def rate(self, step: int, base: str = "learning_rate") -> float:
        """Return the learning rate of a step; `base` is the setting that it starts from."""
        settings = self.settings
        return learning_rate(step, settings.steps, getattr(settings, base), settings.warmup, settings.schedule)

    def run(self, advance: Callable[[int, Batch], dict[str, float] | None]) -> None:
        """Run the remaining steps.

        advance(step, batch on the device) returns the losses, after a step of the optimisers; None if it was skipped.
        """
        steps = range(self.start, self.settings.steps)
        with bar(self.name, len(steps), "step") as progress:
            for step, batch in zip(steps, prefetch(self._batch, steps, self.options.threads)):
                determinism.seed_step(self.options.seed, step)
                for check, images in zip(self._normalisation_checks, batch):
                    check.update(images)
                losses = advance(step, tuple(part.to(device(), non_blocking=True) for part in batch))
                if losses is not None:
                    self.average.update(self.network)
                    for name, value in losses.items():
                        self._losses.setdefault(name, []).append(value)
                self._validate(step + 1)
                if self.first and self.state.due:
                    self.state.save(self._snapshot(step + 1))
                progress.advance()
        self._events.close()

    def _validate(self, done: int) -> None:
        """Add a row to the history if a validation is due after `done` steps."""
        if done % self.settings.validate_every and done != self.settings.steps:
            return
        means = {name: math.fsum(values) / len(values) for name, values in self._losses.items()}
        self._losses.clear()
        if not self.first:
            return
        metrics = means | self.validate(self.average.model)
        self.history.add(done, **metrics)
        if self._events.enabled:
            self._events.write(done, metrics, self.panel(self.average.model, self.history))
        self._discriminator_check.update(done, metrics)
        values = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        log.info("step %d of %d: %s", done, self.settings.steps, values)

    def _snapshot(self, done: int) -> dict[str, Any]:
        return {
            "step": done,
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "average": self.average.model.state_dict(),
            "updates": self.average.updates,
            "optimisers": {name: optimiser.optimizer.state_dict() for name, optimiser in self.optimisers.items()},
            "skipped": {name: optimiser.skipped for name, optimiser in self.optimisers.items()},
            "history": self.history.rows,
            "losses": self._losses,
        }

    @torch.no_grad()
    def _restore(self, saved: dict[str, Any]) -> None:
        self.start = saved["step"]
        for name, network in self.networks.items():
            network.load_state_dict(saved["networks"][name])
        self.average.model.load_state_dict(saved["average"])
        self.average.updates = saved["updates"]
        for name, optimiser in self.optimisers.items():
            optimiser.optimizer.load_state_dict(saved["optimisers"][name])
            optimiser.skipped = saved["skipped"][name]
        self.history.rows, self._losses = saved["history"], saved["losses"]
        log.info("%s resumes after step %d of %d", self.name, self.start, self.settings.steps)
