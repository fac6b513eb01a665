"""Half-done trainings, kept in a file: one that was stopped goes on where the file was last written."""

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

# Seconds between two writings: what a killed training loses at most.
SAVE_INTERVAL_S = 120.0


class TrainingState:
    """The file of one training; one that belongs to other inputs, settings or code is not believed.

    Args:
        path: of the file; None keeps nothing.
        module: of the step, whose code counts.
        inputs: files that the training reads, by content; files in folders by name, size and time.
        settings: any JSON-able values on which the training depends.
    """

    def __init__(self, path: str | None, module: str, inputs: Sequence[Path | None], settings: dict[str, Any]) -> None:
        self.path = Path(path) if path else None
        self._written = time.monotonic()
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            told = {"torch": torch.__version__, "device": device().type, **settings}
            self.key = cache_key(module, [each for each in inputs if each is not None], told)

    def load(self) -> dict[str, Any] | None:
        """What was kept; None where nothing was, or it is damaged, or belongs to another training."""
        if self.path is None or not self.path.exists():
            return None
        try:
            kept = torch.load(self.path, map_location=device(), weights_only=True)
            key = kept["key"]
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
            log.warning("%s is damaged: the training starts afresh", self.path)
            return None
        if key != self.key:
            log.warning("%s is of other inputs, settings or code: the training starts afresh", self.path)
            return None
        return kept

    @property
    def due(self) -> bool:
        """Whether it is time to write again."""
        return self.path is not None and time.monotonic() - self._written >= SAVE_INTERVAL_S

    def save(self, content: dict[str, Any]) -> None:
        """Writes the file beside and renames it: a killed writer leaves the older one."""
        assert self.path is not None
        remove_partial_files(self.path)
        with atomic_write(self.path) as part:
            torch.save({**content, "key": self.key}, part)
        self._written = time.monotonic()

    def drop(self) -> None:
        """Removes the file: what was trained is written."""
        if self.path is not None:
            remove_path(self.path)
