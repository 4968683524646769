"""The data about templates, `inline_templates.toml` and what a language has beside it, read once."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

OTHERS = frozenset(["de"])  # languages with a table of their own, `inline_templates_LANGUAGE.toml`


@cache
def section(name: str, language: str = "en") -> dict[str, Any]:
    """A section of the table: the language's own lines, and the English ones where it has none."""
    return {**_data("en").get(name, {}), **_data(language).get(name, {})}


@cache
def codes(name: str, language: str = "en") -> dict[str, str]:
    """Codes and the names that they stand for (sections with one a line)."""
    lines = [line for text in layers(name, "names", language) for line in text.split("\n") if line]
    return {code: name for code, _, name in (line.partition(" ") for line in lines)}


def layers(name: str, key: str, language: str = "en") -> list[Any]:
    """What a section has under a key: the English, then the language's own."""
    tables = [_data("en"), *([_data(language)] if language in OTHERS else [])]
    return [table[name][key] for table in tables if key in table.get(name, {})]


@cache
def _data(language: str) -> dict[str, Any]:
    if language != "en" and language not in OTHERS:
        return {}
    name = "inline_templates.toml" if language == "en" else f"inline_templates_{language}.toml"
    return tomllib.loads((files(__package__) / name).read_text("utf-8"))
