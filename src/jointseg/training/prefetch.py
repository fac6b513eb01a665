"""Batches prepared in background threads, in order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

Batch = tuple[Tensor, ...]

BATCHES_PER_THREAD = 2  # batches in preparation or ready


def prefetch(make_batch: Callable[[int], Batch], steps: Sequence[int], threads: int) -> Iterator[Batch]:
    """Yield make_batch(step) for every step while background threads prepare the next batches.

    Threads, not processes: reading and array arithmetic release the GIL, chips are in memory once, and nothing is
    copied between processes. The result is deterministic if `make_batch` depends only on its step.
    """
    pinned = torch.cuda.is_available()

    def prepare(step: int) -> Batch:
        batch = make_batch(step)
        return tuple(part.pin_memory() for part in batch) if pinned else batch

    queue: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as pool:
        try:
            for step in steps:
                queue.append(pool.submit(prepare, step))
                if len(queue) > BATCHES_PER_THREAD * threads:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()
