"""Assignment of GPUs to jobs: one job per GPU of a machine."""

import fcntl
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_POLL_S = 0.5


def gpu_lock_path(gpu: int) -> Path:
    """Return the lock file of a GPU of this machine; the kernel releases the lock when the job ends for any reason."""
    return Path(tempfile.gettempdir()) / f"jointseg-gpu-{gpu}.lock"


@contextmanager
def claim_device(count: int | None = None) -> Iterator[torch.device]:
    """Yield a GPU that no other job on this machine uses, waiting if necessary; the CPU if there is no GPU.

    `count` is the number of GPUs, by default as detected by PyTorch.
    """
    count = torch.cuda.device_count() if count is None else count
    if not count:
        yield torch.device("cpu")
        return
    logged = False
    while True:
        for gpu in range(count):
            with open(gpu_lock_path(gpu), "a", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield torch.device("cuda", gpu)
                return
        if not logged:
            log.info("waiting for one of the %d GPUs of this machine", count)
            logged = True
        time.sleep(_POLL_S)
