"""Where the time of a pass goes: seconds by stage, counted only while somebody asks."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_asked: list[defaultdict[str, float]] = []


@contextmanager
def counted() -> Iterator[defaultdict[str, float]]:
    """Seconds by stage of all that runs within it, summed over the threads. GPUs are waited for at every stage's end."""
    found: defaultdict[str, float] = defaultdict(float)
    _asked.append(found)
    try:
        yield found
    finally:
        _asked.remove(found)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The work of a stage."""
    if not _asked:
        yield
        return
    started = _now()
    try:
        yield
    finally:
        seconds = _now() - started
        with _lock:
            for found in _asked:
                found[name] += seconds


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
