"""Batches made ahead of the training in threads, in their order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

Batch = tuple[Tensor, ...]

BATCHES_PER_THREAD = 2  # batches under way or ready for each thread


def prefetch(make: Callable[[int], Batch], steps: Sequence[int], threads: int) -> Iterator[Batch]:
    """Yields make(step) for every step; the next ones are being made meanwhile.

    Threads, not processes: reading and arithmetic of arrays release the interpreter, chips are kept in memory once,
    and nothing is copied between processes. `make` must depend on its step alone, then so does what is yielded.

    Args:
        threads: that make batches at a time.
    """
    pinned = torch.cuda.is_available()

    def one(step: int) -> Batch:
        batch = make(step)
        return tuple(part.pin_memory() for part in batch) if pinned else batch

    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as pool:
        try:
            for step in steps:
                waiting.append(pool.submit(one, step))
                if len(waiting) > BATCHES_PER_THREAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
