"""Device and precision of a training."""

from contextlib import AbstractContextManager

import torch

from jointseg.runtime.errors import DataError

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def device() -> torch.device:
    """Return the first GPU, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast_dtype(precision: str) -> torch.dtype | None:
    """Return the dtype of the forward pass; None for float32. "bf16" is about twice as fast where hardware supports it.

    Raises DataError if `precision` is neither "fp32" nor "bf16".
    """
    if precision not in PRECISIONS:
        raise DataError(f"precision '{precision}' is unknown; choose {' or '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def autocast(precision: str) -> AbstractContextManager:
    """Return a context in which forward passes run in `precision`, "fp32" or "bf16"."""
    dtype = autocast_dtype(precision)
    return torch.autocast(device().type, dtype, enabled=dtype is not None)
