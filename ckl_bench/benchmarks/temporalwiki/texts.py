"""A month's sentences -> documents: cut to length, and the filters that drop what is no text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# 512 tokens of English are about 2,100 characters; runs cut at 512 tokens whatever the tokenizer.
MOST = 2000
LEAST = 50
LETTERS = 0.3


def chunks(sentences: Sequence[str]) -> Iterator[str]:
    """Whole sentences joined to texts of at most `MOST` characters (a longer sentence stands alone)."""
    held: list[str] = []
    length = 0
    for sentence in sentences:
        if held and length + len(sentence) + 1 > MOST:
            yield " ".join(held)
            held, length = [], 0
        held.append(sentence)
        length += len(sentence) + 1
    if held:
        yield " ".join(held)


def refuse_text(text: str) -> str | None:
    """Why a text is no document (Jang et al. 2022): short, mostly no letters, or `nan`; None for one that is."""
    stripped = text.strip()
    if stripped.lower() == "nan":
        return "nan"
    if len(stripped) < LEAST:
        return f"under {LEAST} characters"
    if sum(c.isalpha() for c in stripped) < LETTERS * len(stripped):
        return "mostly not letters"
    return None
