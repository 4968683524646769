"""Where a text names something: whole words, by Unicode's word boundaries (UAX #29), and never inside other words."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

import regex

Span = tuple[int, int]  # characters, end exclusive

# Ways to write the same character: apostrophes, hyphens, blanks. One character each, so that places stay.
_SAME = str.maketrans(
    {"’": "'", "ʼ": "'", "‘": "'", "‐": "-", "‑": "-"} | dict.fromkeys("\t\n\r\u00a0\u2009\u202f", " ")
)
_ELIDED = (
    "[ldcjmnst]|qu|lorsqu|puisqu|jusqu|dell|all|nell|sull|dall|un|quest"  # d'Angers names Angers, O'Neill no Neill
)
_PARTICLES = (  # what Korean writes on to a noun
    "은|는|이|가|을|를|의|에|에서|에게|에는|에도|께|로|으로|와|과|도|만|까지|부터|나|이나|보다|처럼|라는|이라는|이다|였다|이었다|인|이며|이고"
)
# Beside UAX #29: a possessive or contracted ending and a colon stand outside the word, as does a sentence that follows
# without a blank; "C" is not named by "C#" or "C++", "NET" not by ".NET", "H" not by "H₂O", and no syllable is cut.
_BEGINS = regex.compile(
    rf"(?w)(?:\b|(?<=\b(?:{_ELIDED})')|(?<=:)|(?<=\p{{Ll}}\.)(?=\p{{Lu}}\p{{Ll}}))"
    r"(?<![\u2070-\u209c])(?<!(?:^|[\s(])\.(?=\w))(?<![เแโใไເແໂໃໄ])"
)
_ENDS = regex.compile(
    rf"(?w)(?:\b|(?='(?:s|S|d|ll|re|ve)\b)|(?=:)|(?<=\p{{Ll}})(?=\.\p{{Lu}}\p{{Ll}})|(?<=\p{{L}})(?=(?:{_PARTICLES})\b))"
    r"(?![\u2070-\u209c²³¹])(?<!\w(?=\+\+|#))(?![ะาำๅະາຳ])"
)


def occurrences(text: str, words: str) -> list[Span]:
    """Every place where `text` names `words` as whole words, in order and apart from each other.

    Case counts. Ways to write the same letters (composed or with combining marks), apostrophes, hyphens and blanks do
    not. In scripts without blanks between words (Chinese, Japanese, Thai) a place between two letters is a boundary.
    """
    folded, places = _folded(text)
    wanted = _folded(words)[0].strip()
    spans: list[Span] = []
    start = folded.find(wanted) if wanted else -1
    while start >= 0:
        end = start + len(wanted)
        whole = _BEGINS.match(folded, start) and _ENDS.match(folded, end)
        if whole:
            spans.append((places[start], places[end]) if places else (start, end))
        start = folded.find(wanted, end if whole else start + 1)
    return spans


def names(text: str, words: str) -> bool:
    """Whether `text` names `words` somewhere, as `occurrences` finds it."""
    return bool(occurrences(text, words))


def fold(text: str) -> str:
    """The text with one way to write each letter (NFC), apostrophe, hyphen and blank, to compare it with others."""
    return _folded(text)[0]


@lru_cache(maxsize=4096)
def _folded(text: str) -> tuple[str, list[int] | None]:
    """The folded text, and where in `text` each of its characters and its end stand; None where at the same places."""
    same = text.translate(_SAME)
    if unicodedata.is_normalized("NFC", same):
        return same, None
    parts: list[str] = []
    places: list[int] = []
    for cluster in _clusters(same):
        composed = unicodedata.normalize("NFC", cluster[0])
        parts.append(composed)
        places += [cluster.start()] * len(composed)
    return "".join(parts), [*places, len(text)]


def _clusters(text: str) -> Any:
    return regex.finditer(r"\X", text)
