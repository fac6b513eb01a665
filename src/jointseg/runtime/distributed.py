"""Data-parallel training: process group, all-reduce of losses and gradients, and the launch of the processes.

Every training loss is a quotient of sums over the batch. `all_reduce_sum` adds such a sum over the processes and keeps
the gradient of the local term, so that each process has the loss of the global batch and its part of the gradient;
`all_reduce_gradients` adds the parts. Two processes with half a batch each compute what one process computes for the
batch.
"""

import logging
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from jointseg.runtime.errors import DataError

log = logging.getLogger(__name__)

_WORLD_SIZE = "WORLD_SIZE"  # environment variable that torchrun sets in every process
_TIMEOUT = timedelta(hours=2)  # the other processes wait while process 0 validates


def get_world_size() -> int:
    """Return the number of processes that share this training."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def get_rank() -> int:
    """Return the index of this process, from 0. Only process 0 validates and writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes, with the gradient of the local tensor only."""
    if get_world_size() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return values + (total - values.detach())


@torch.no_grad()
def all_reduce_gradients(weights: Sequence[Tensor]) -> None:
    """Sum the gradients over the processes in one all-reduce.

    A weight that has no gradient in any process keeps `grad` None.
    """
    if get_world_size() == 1 or not weights:
        return
    device = weights[0].device
    has_gradient = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.float32, device=device)
    parts = [(torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten() for weight in weights]
    buffer = torch.cat([*parts, has_gradient])
    distributed.all_reduce(buffer)
    *summed, counts = buffer.split([*(part.numel() for part in parts), len(weights)])
    for weight, part, count in zip(weights, summed, counts.tolist()):
        weight.grad = part.view(weight.shape) if count else None


@contextmanager
def process_group() -> Iterator[None]:
    """Initialise the process group under torchrun: NCCL between GPUs, Gloo between CPUs. A single process needs none."""
    if int(os.environ.get(_WORLD_SIZE, "1")) == 1:
        yield
        return
    has_gpus = torch.cuda.is_available()
    if has_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if has_gpus else "gloo", timeout=_TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def needs_launch(devices: int) -> bool:
    """Return whether a step that trains on `devices` devices still has to start its processes."""
    return devices > 1 and _WORLD_SIZE not in os.environ


def launch(step: Callable[..., Any], devices: int, arguments: dict[str, Any]) -> Any:
    """Run a step in `devices` processes on this machine under torchrun and return the result of process 0.

    Raises the first DataError of a process; DataError if the machine has fewer GPUs than processes; RuntimeError if the
    processes end without a result.
    """
    gpus = torch.cuda.device_count()
    if 0 < gpus < devices:
        raise DataError(f"devices {devices} is more than the {gpus} GPUs of this machine; lower it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "call").write_bytes(pickle.dumps((step, arguments)))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
        command += ["-m", __name__, name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    log.info("%s", line.rstrip())
            finally:
                process.terminate()
        for path in sorted(folder.glob("error-*")):
            raise DataError(path.read_text(encoding="utf-8"))
        if not (folder / "result").exists():
            raise RuntimeError(
                f"the {devices} processes ended with status {process.returncode} and no result; see the log"
            )
        return pickle.loads((folder / "result").read_bytes())


def _main(folder: Path) -> None:
    """Run the step in one process; write its result or its error to a file."""
    rank = int(os.environ["RANK"])
    level = logging.INFO if rank == 0 else logging.ERROR
    logging.basicConfig(level=level, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")
    step, arguments = pickle.loads((folder / "call").read_bytes())
    try:
        with process_group():
            result = step(**arguments)
    except DataError as error:
        (folder / f"error-{rank}").write_text(str(error), encoding="utf-8")
        raise SystemExit(1) from error
    if rank == 0:
        (folder / "result").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
