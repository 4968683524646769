"""The data about templates, `inline_templates.toml`, read once."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def section(name: str) -> dict[str, Any]:
    """A section of the table."""
    found: dict[str, Any] = _data()[name]
    return found


@cache
def codes(name: str) -> dict[str, str]:
    """Codes and the names that they stand for (sections with one a line)."""
    pairs = (line.partition(" ") for line in section(name)["names"].split("\n") if line)
    return {code: words for code, _, words in pairs}


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "inline_templates.toml").read_text("utf-8"))
