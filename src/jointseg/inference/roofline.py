"""Roofline model: measured peak rates of a device, and the operations and memory traffic of the networks."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_SIDE = {"cpu": 1536, "cuda": 8192}
_COPY_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
_SECONDS = 1.0  # minimum measuring time of each peak


@dataclass(frozen=True)
class DevicePeaks:
    """Measured peak rates of a device with a job's number of threads."""

    flops: float  # floating-point operations per second of a product of two square matrices
    bytes: float  # bytes per second read and written by a copy


def measure_peaks(device: torch.device, dtype: torch.dtype, threads: int) -> DevicePeaks:
    """Measure the peaks with `threads` independent CPU threads, as the windows of a job use them."""
    side, size = _SIDE[device.type], _COPY_BYTES[device.type]
    workers = threads if device.type == "cpu" else 1

    def product() -> Callable[[], Any]:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        return lambda: a @ b

    def copy() -> Callable[[], Any]:
        source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
        return lambda: target.copy_(source)

    return DevicePeaks(2 * side**3 * _rate(product, workers, device), 2 * size * _rate(copy, workers, device))


def _rate(prepare: Callable[[], Callable[[], Any]], workers: int, device: torch.device) -> float:
    """Return the total calls per second of all workers."""

    def run(_: int) -> float:
        torch.set_num_threads(1)
        work = prepare()
        work()
        _wait(device)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < _SECONDS:
            work()
            _wait(device)
            count += 1
        return count / (time.perf_counter() - started)

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(run, range(workers)))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Demand:
    """Operations and memory traffic of a call."""

    flops: float  # floating-point operations of convolutions, matrix products and attention
    bytes: float  # of all tensors that its operations read and write: the memory traffic without fusion or caching

    def seconds(self, peaks: DevicePeaks) -> float:
        """Return the minimum time: the longer of computing and moving data at peak rate."""
        return max(self.flops / peaks.flops, self.bytes / peaks.bytes)


class _Traffic(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(
                leaf.numel() * leaf.element_size()
                for leaf in tree_leaves((args, kwargs, out))
                if isinstance(leaf, Tensor)
            )
        return out


def count_demand(call: Callable[[], Any]) -> Demand:
    """Count operations and traffic of one call."""
    with torch.no_grad():
        counter = FlopCounterMode(display=False)
        with counter:
            call()
        with _Traffic() as traffic:
            call()
    return Demand(float(counter.get_total_flops()), float(traffic.bytes))


def parameters(model: nn.Module | None) -> int:
    return sum(weight.numel() for weight in model.parameters()) if model is not None else 0
