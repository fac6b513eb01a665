"""The loop of every training: batches made ahead, seeds by step, averaged weights, history, and going on after a stop."""

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
from jointseg.training.optimiser import Optimiser
from jointseg.training.prefetch import Batch, prefetch
from jointseg.training.resume import TrainingState
from jointseg.training.schedule import learning_rate
from jointseg.training.tensorboard import EventWriter

log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)


class Trainer(Generic[M]):
    """Runs the steps of one training.

    Step s depends on the weights before it, the seed and s alone, so a training that was stopped and goes on from its
    state ends with the same bytes as one that was not.

    Args:
        what: is trained, for the progress bar.
        network: whose average is validated and saved.
        descents: the optimisers by name.
        training: the keys of `Descent` in the config.
        seed: of everything drawn.
        batch: (step, places) -> the samples at these places of the step's batch.
        validate: averaged network -> figures for the history.
        panel: (averaged network, history) -> learning curves above pictures of fixed validation chips.
        state: where half-done work is kept.
        threads: that make batches.
        events: folder of what TensorBoard shows.
        images: what the first parts of a batch are, whose normalisation is watched.
        others: networks by name that are trained beside it.

    Attributes:
        average: of the network's weights.
        history: a row at every validation: means of the losses since the last one, and the figures of `validate`.
    """

    def __init__(
        self,
        what: str,
        network: M,
        descents: dict[str, Optimiser],
        training: dict[str, Any],
        seed: int,
        batch: Callable[[int, range], Batch],
        validate: Callable[[M], dict[str, float]],
        panel: Callable[[M, History], Figure],
        state: TrainingState,
        threads: int,
        events: str | None = None,
        images: tuple[str, ...] = (),
        others: dict[str, nn.Module] | None = None,
    ) -> None:
        self.what, self.network, self.descents, self.training, self.seed = what, network, descents, training, seed
        self.validate, self.panel, self.state, self.threads = validate, panel, state, threads
        self.networks: dict[str, nn.Module] = {"network": network, **(others or {})}
        places = range(distributed.get_rank(), training["batch"], distributed.get_world_size())
        if not places:
            raise DataError(
                f"batch {training['batch']} is less than the {distributed.get_world_size()} devices that share it"
            )
        self._batch = lambda step: batch(step, places)
        self.average = ExponentialMovingAverage(network, training["ema"])
        self.history = History()
        self._losses: dict[str, list[float]] = {}
        self.start = 0
        kept = state.load()
        if kept is not None:
            self._restore(kept)
        self._normalisations = [NormalisationCheck(what) for what in images] if self.start == 0 else []
        self._collapse = DiscriminatorCheck()
        self._board = EventWriter(events if self.first else None, self.start)

    @property
    def first(self) -> bool:
        """Whether this process is the one that validates and writes."""
        return distributed.get_rank() == 0

    def rate(self, step: int, base: str = "learning_rate") -> float:
        """The learning rate of a step; `base` names the setting that it starts from."""
        given = self.training
        return learning_rate(step, given["steps"], given[base], given["warmup"], given["schedule"])

    def run(self, advance: Callable[[int, Batch], dict[str, float] | None]) -> None:
        """Runs the steps that are left.

        Args:
            advance: (step, batch on the device) -> losses, after a step of the optimisers; None where it was refused.
        """
        left = range(self.start, self.training["steps"])
        with bar(self.what, len(left), "step") as shown:
            for step, made in zip(left, prefetch(self._batch, left, self.threads)):
                determinism.seed_step(self.seed, step)
                for normalisation, images in zip(self._normalisations, made):
                    normalisation.see(images)
                losses = advance(step, tuple(part.to(device(), non_blocking=True) for part in made))
                if losses is not None:
                    self.average.update(self.network)
                    for name, value in losses.items():
                        self._losses.setdefault(name, []).append(value)
                self._tell(step + 1)
                if self.first and self.state.due:
                    self.state.save(self._kept(step + 1))
                shown.advance()
        self._board.close()

    def _tell(self, done: int) -> None:
        """Validates and adds a row to the history, where it is time."""
        if done % self.training["validate_every"] and done != self.training["steps"]:
            return
        means = {name: math.fsum(values) / len(values) for name, values in self._losses.items()}
        self._losses.clear()
        if not self.first:
            return
        figures = means | self.validate(self.average.model)
        self.history.add(done, **figures)
        if self._board.on:
            self._board.tell(done, figures, self.panel(self.average.model, self.history))
        told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._collapse.see(done, figures)
        log.info("step %d of %d: %s", done, self.training["steps"], told)

    def _kept(self, done: int) -> dict[str, Any]:
        return {
            "step": done,
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "average": self.average.model.state_dict(),
            "updates": self.average.updates,
            "optimisers": {name: descent.optimizer.state_dict() for name, descent in self.descents.items()},
            "skipped": {name: descent.skipped for name, descent in self.descents.items()},
            "history": self.history.rows,
            "losses": self._losses,
        }

    @torch.no_grad()
    def _restore(self, kept: dict[str, Any]) -> None:
        self.start = kept["step"]
        for name, network in self.networks.items():
            network.load_state_dict(kept["networks"][name])
        self.average.model.load_state_dict(kept["average"])
        self.average.updates = kept["updates"]
        for name, descent in self.descents.items():
            descent.optimizer.load_state_dict(kept["optimisers"][name])
            descent.skipped = kept["skipped"][name]
        self.history.rows, self._losses = kept["history"], kept["losses"]
        log.info("%s goes on after step %d of %d", self.what, self.start, self.training["steps"])
