"""Worker processes that end with the process that started them, however that ends."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from threading import Thread


def spawn_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of fresh processes: nothing of GDAL's or PyTorch's threads is forked."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent)


def _end_with_parent() -> None:
    # Without this the workers of a job that was killed (by the kernel, for memory) wait for work forever, and with them the
    # lock on the results folder that they inherited.
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
