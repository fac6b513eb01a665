"""Validation of a config, with every fault named in one error."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from jointseg.config.renamed_keys import current_name
from jointseg.config.schema import Settings
from jointseg.runtime.errors import DataError


def read_config(path: Path) -> Settings:
    """Read and validate a YAML config. Raises the errors of `load_config`."""
    return load_config(yaml.safe_load(Path(path).read_text(encoding="utf-8")))


def load_config(config: dict[str, Any]) -> Settings:
    """Validate a config that was parsed from YAML.

    Raises DataError if the config is invalid; the message lists each invalid key, its value and what is allowed.
    """
    try:
        return Settings.model_validate(config)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            key = ".".join(str(part) for part in fault["loc"]) or "config"
            value = "" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})"
            message = _unknown_key(fault["loc"]) if fault["type"] == "extra_forbidden" else fault["msg"]
            lines.append(f"{key}: {message}{value}")
        raise DataError("the config is not valid: " + "; ".join(lines)) from error


def _unknown_key(location: tuple[int | str, ...]) -> str:
    if current := current_name(location):
        return f"this key was renamed to `{current}`"
    return "unknown key; run `jointseg schema --markdown` for the valid keys"
