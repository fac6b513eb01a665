"""Reproducible training: seeds, number of threads and deterministic kernels."""

import numpy as np
import torch

from jointseg.runtime import distributed


def make_deterministic(seed: int, threads: int) -> None:
    """Seed torch, set its number of threads and forbid non-deterministic kernels.

    On a CPU, the same seed and number of threads give the same bytes; another number of threads sums in another order.
    On a GPU, the gradients of interpolation and sampling have no deterministic kernel; torch only warns about them.
    """
    torch.set_num_threads(max(threads // distributed.get_world_size(), 1))
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs 4 %


def seed_step(seed: int, step: int) -> None:
    """Seed torch for one step, so that random draws of the networks (drop path) do not depend on where a run resumed."""
    state = np.random.SeedSequence([seed, step, distributed.get_rank()]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))
