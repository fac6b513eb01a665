"""Saved state of an unfinished training, from which a stopped training resumes."""

import logging
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from jointseg.provenance.cache_key import cache_key
from jointseg.runtime.files import atomic_write, remove_partial_files, remove_path
from jointseg.training.compute import device

log = logging.getLogger(__name__)

SAVE_INTERVAL_S = 120.0  # a killed training loses at most this much work


class TrainingState:
    """State file of one training. A file of other inputs, settings or code is ignored.

    Args:
        path: of the file; None saves nothing.
        module: of the step, whose code counts.
        inputs: files that the training reads, by content; files in folders by name, size and time.
        settings: JSON-able values on which the training depends.
    """

    def __init__(self, path: str | None, module: str, inputs: Sequence[Path | None], settings: dict[str, Any]) -> None:
        self.path = Path(path) if path else None
        self._saved_at = time.monotonic()
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            settings = {"torch": torch.__version__, "device": device().type, **settings}
            self.key = cache_key(module, [each for each in inputs if each is not None], settings)

    def load(self) -> dict[str, Any] | None:
        """Return the saved content; None if there is none, or it is damaged or belongs to another training."""
        if self.path is None or not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location=device(), weights_only=True)
            key = content["key"]
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
            log.warning("%s is damaged; the training starts from step 0", self.path)
            return None
        if key != self.key:
            log.warning("%s belongs to other inputs, settings or code; the training starts from step 0", self.path)
            return None
        return content

    @property
    def due(self) -> bool:
        """Whether SAVE_INTERVAL_S have passed since the last save."""
        return self.path is not None and time.monotonic() - self._saved_at >= SAVE_INTERVAL_S

    def save(self, content: dict[str, Any]) -> None:
        """Replace the file atomically."""
        assert self.path is not None
        remove_partial_files(self.path)
        with atomic_write(self.path) as part:
            torch.save({**content, "key": self.key}, part)
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Remove the file, after the outputs of the training are written."""
        if self.path is not None:
            remove_path(self.path)
