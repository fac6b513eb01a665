"""Optimiser steps with gradient clipping that skip non-finite losses."""

import logging
import math

import torch
from torch import Tensor

from jointseg.runtime import distributed
from jointseg.runtime.errors import DataError

log = logging.getLogger(__name__)

MAX_SKIPPED_STEPS = 10  # consecutive steps without finite gradient after which training has diverged


class Optimiser:
    """A torch optimiser with gradient clipping that skips steps without finite gradient.

    Args:
        optimizer: its parameter groups keep the ratios of their initial learning rates.
        clip: largest gradient norm; None does not clip.

    Attributes:
        skipped: number of consecutive steps that were skipped.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, clip: float | None = None) -> None:
        self.optimizer, self.clip, self.skipped = optimizer, clip, 0
        rates = [group["lr"] for group in optimizer.param_groups]
        self.ratios = [rate / max(rates) for rate in rates]

    def step(self, loss: Tensor, rate: float, step: int) -> bool:
        """Minimise `loss` by one step; return whether the weights changed. `rate` is that of the fastest group.

        A non-finite loss or gradient is logged and changes no weight. Raises DataError after MAX_SKIPPED_STEPS
        consecutive steps without change.
        """
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            group["lr"] = rate * ratio
        self.optimizer.zero_grad(set_to_none=True)
        norm = torch.tensor(math.nan)
        if bool(torch.isfinite(loss)):
            loss.backward()
            weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
            distributed.all_reduce_gradients(weights)
            norm = torch.nn.utils.clip_grad_norm_(weights, self.clip or math.inf)
        if bool(torch.isfinite(norm)):
            self.skipped = 0
            self.optimizer.step()
            return True
        self.skipped += 1
        log.warning("step %d skipped: loss %s has no finite gradient", step, float(loss.detach()))
        if self.skipped >= MAX_SKIPPED_STEPS:
            raise DataError(
                f"training diverged: {self.skipped} consecutive steps up to step {step} had no finite loss or gradient; "
                "lower learning_rate or check the chips for damage"
            )
        return False
