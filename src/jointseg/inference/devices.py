"""Which GPU a job computes on: jobs of one machine share its GPUs out, one job a GPU."""

import fcntl
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_WAIT_S = 0.5


def lock_of(gpu: int) -> Path:
    """The file whose lock says that a GPU of this machine is taken; the kernel lets it go when its job ends, however."""
    return Path(tempfile.gettempdir()) / f"jointseg-gpu-{gpu}.lock"


@contextmanager
def claimed(count: int | None = None) -> Iterator[torch.device]:
    """A GPU that no other job on this machine has, waiting for one where all are taken; the CPU where there is none.

    Args:
        count: GPUs of the machine, as PyTorch counts them where it is left out.
    """
    count = torch.cuda.device_count() if count is None else count
    if not count:
        yield torch.device("cpu")
        return
    told = False
    while True:
        for gpu in range(count):
            with open(lock_of(gpu), "a", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield torch.device("cuda", gpu)
                return
        if not told:
            log.info("waiting for one of the %d GPUs of this machine", count)
            told = True
        time.sleep(_WAIT_S)
