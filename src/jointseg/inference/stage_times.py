"""Computing time by stage, measured only inside `collect_times`."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_collectors: list[defaultdict[str, float]] = []


@contextmanager
def collect_times() -> Iterator[defaultdict[str, float]]:
    """Collect seconds by stage, summed over all threads. The end of each stage synchronises the GPU."""
    seconds: defaultdict[str, float] = defaultdict(float)
    _collectors.append(seconds)
    try:
        yield seconds
    finally:
        _collectors.remove(seconds)


@contextmanager
def stage(name: str) -> Iterator[None]:
    if not _collectors:
        yield
        return
    started = _now()
    try:
        yield
    finally:
        elapsed = _now() - started
        with _lock:
            for seconds in _collectors:
                seconds[name] += elapsed


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
