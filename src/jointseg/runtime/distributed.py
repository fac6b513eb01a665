"""Processes that share a training, one a GPU: who this one is, sums over all of them, and starting them.

Every loss of a training is a quotient of sums over the batch. `everywhere` adds such a sum over the processes and
keeps the gradient of the own share, so each process has the loss of the whole batch and its part of the gradient;
`sum_gradients` adds the parts. Two processes with half a batch each do what one does with the whole of it.
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

LAUNCHED = "WORLD_SIZE"  # torchrun tells every process how many there are
PATIENCE = timedelta(hours=2)  # the others wait while the first process validates


def get_world_size() -> int:
    """How many processes share this training."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def get_rank() -> int:
    """Which of them this is, from 0; only process 0 validates and writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum of a tensor over the processes; its gradient is that of this process's share alone."""
    if get_world_size() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return values + (total - values.detach())


@torch.no_grad()
def all_reduce_gradients(weights: Sequence[Tensor]) -> None:
    """Adds the gradients of all processes, in one message; a weight without gradient in any of them keeps none."""
    if get_world_size() == 1 or not weights:
        return
    device = weights[0].device
    given = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.float32, device=device)
    parts = [(torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten() for weight in weights]
    message = torch.cat([*parts, given])
    distributed.all_reduce(message)
    *summed, anywhere = message.split([*(part.numel() for part in parts), len(weights)])
    for weight, part, present in zip(weights, summed, anywhere.tolist()):
        weight.grad = part.view(weight.shape) if present else None


@contextmanager
def process_group() -> Iterator[None]:
    """Connects the processes that torchrun started (NCCL between GPUs, Gloo between CPUs); one alone needs nothing."""
    if int(os.environ.get(LAUNCHED, "1")) == 1:
        yield
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if gpus else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def needs_launch(devices: int) -> bool:
    """Whether this process has yet to start the `devices` that a step asks for."""
    return devices > 1 and LAUNCHED not in os.environ


def launch(step: Callable[..., Any], devices: int, arguments: dict[str, Any]) -> Any:
    """Runs a step in `devices` processes of this machine under torchrun; what its first process returned.

    Raises:
        DataError: the step's own, of whichever process met it; or fewer GPUs than processes.
    """
    gpus = torch.cuda.device_count()
    if 0 < gpus < devices:
        raise DataError(f"devices {devices} is more than the {gpus} GPUs of this machine; lower it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "call").write_bytes(pickle.dumps((step, arguments)))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
        command += ["-m", __name__, name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as started:
            try:
                assert started.stdout is not None
                for line in started.stdout:
                    log.info("%s", line.rstrip())
            finally:
                started.terminate()
        for met in sorted(folder.glob("error-*")):
            raise DataError(met.read_text(encoding="utf-8"))
        if not (folder / "answer").exists():
            raise RuntimeError(f"the {devices} processes ended with status {started.returncode} before they were done")
        return pickle.loads((folder / "answer").read_bytes())


def _main(folder: Path) -> None:
    """One of the processes: the step, its answer or its error as a file."""
    place = int(os.environ["RANK"])
    level = logging.INFO if place == 0 else logging.ERROR
    logging.basicConfig(level=level, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")
    step, arguments = pickle.loads((folder / "call").read_bytes())
    try:
        with process_group():
            answer = step(**arguments)
    except DataError as error:
        (folder / f"error-{place}").write_text(str(error), encoding="utf-8")
        raise SystemExit(1) from error
    if place == 0:
        (folder / "answer").write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
