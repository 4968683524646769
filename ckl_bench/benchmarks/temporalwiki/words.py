"""Whole words in text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def _inside(char: str) -> bool:
    return char.isalnum() or char == "_" or unicodedata.category(char) in ("Mn", "Mc", "Me")


def states(text: str, name: str) -> bool:
    """Whether a name stands in a text as whole words: not `Niger` in `Nigerian`, not `male` in `female`."""
    start = text.find(name) if name else -1
    while start >= 0:
        end = start + len(name)
        joined_before = start > 0 and _inside(text[start - 1]) and _inside(name[0])
        joined_after = end < len(text) and _inside(text[end]) and _inside(name[-1])
        if not joined_before and not joined_after:
            return True
        start = text.find(name, start + 1)
    return False


def first_stating(texts: Iterable[str], name: str) -> str | None:
    """The first text in which a name stands as whole words."""
    return next((text for text in texts if states(text, name)), None)
