"""Texts and pages out of templates that lie beside the modules that fill them."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: Path, told: dict[str, Any]) -> str:
    """A filled template. Pages (.html.j2) escape what they are told; a name that is not told is an error."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=template.name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(told)
