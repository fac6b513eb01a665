"""Exponential moving average of weights."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class ExponentialMovingAverage(Generic[M]):
    """Exponential moving average of a model's weights over `updates` steps; trainings validate and save this average.

    The decay rises to its full value over the first steps. Otherwise a short training would stay at its random start.
    `model` has the averaged weights and the current buffers, without gradients.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: M) -> None:
        """Add the current weights of `model` to the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, current in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - decay)
        for buffer, current_buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(current_buffer)
