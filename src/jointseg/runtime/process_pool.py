"""A pool of worker processes that exit when the parent process ends, even if it is killed."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from threading import Thread


def spawn_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of spawned processes: forking would copy the threads of GDAL and PyTorch."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _exit_with_parent)


def _exit_with_parent() -> None:
    # The workers of a killed job (out of memory) would otherwise wait forever and hold the inherited lock on the results.
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
