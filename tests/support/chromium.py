"""Headless Chromium, for tests of HTML pages."""

import shutil
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def chromium_command(folder: Path, size: tuple[int, int], *arguments: str) -> list[str]:
    """Return a command with a window of `size` pixels and its profile in `folder`."""
    window = [f"--window-size={size[0]},{size[1]}", f"--user-data-dir={folder}/profile"]
    return [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *window, *arguments]
