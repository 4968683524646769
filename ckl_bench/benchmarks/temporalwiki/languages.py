"""What differs between wikis: the words of their namespaces, and where a sentence ends (data: `languages.toml`)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .dumps import open_dump

_HEAD = 1 << 20  # bytes of a dump in which its siteinfo stands
_NAMESPACE = re.compile(r'<namespace\s+key="(6|14)"[^<>]*>([^<>]*)</namespace>')
# A sentence ends at . ! ? (and quotes or brackets after it) before a space and a capital, digit or quote; in Chinese
# and Japanese without a space.
_END = re.compile(r"""(?<=[.!?…])["'”’“»)\]]*\s+(?=["'“‘„«»¿¡(\[]*[A-ZÀ-ÖØ-ÞĀ-ſΑ-ΩЀ-Я0-9])|(?<=[。！？])(?![」』）])""")
_INITIAL = r"(?<![\w.])(?:[^\W\d_]\.)*[^\W\d_a-zß-öø-ÿ]"  # J. of J. S. Bach, and D.C.


@dataclass(frozen=True)
class Wiki:
    """`hidden`: the prefixes, in small letters, of links that are no text; `whole`: what ends a head that goes on."""

    language: str
    hidden: frozenset[str]
    whole: re.Pattern[str]


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "languages.toml").read_text("utf-8"))


def wiki_of(language: str, namespaces: Mapping[int, str] | None = None) -> Wiki:
    """The wiki of a language (`de`, `pt-br`; an unlisted one has the English rules), with a dump's own namespaces."""
    code = language.lower().split("-")[0]
    own, english = _data().get(code, {}), _data()["en"]
    names = [*(namespaces or {}).values()]  # those of other languages are titles of no article, so they hold everywhere
    names += [name for data in _data().values() for name in (*data["files"], *data["categories"])]
    hidden = {" ".join(name.replace("_", " ").split()).lower() for name in names if name}
    words = [word.rstrip(".") for word in (own or english).get("abbreviations", "").split()]
    ways = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    parts = [_INITIAL, *([rf"\b(?:{ways})"] if ways else []), *([r"\b\d{1,2}"] if own.get("ordinals") else [])]
    return Wiki(code, frozenset(hidden), re.compile(f"(?:{'|'.join(parts)})\\.$"))


ENGLISH = wiki_of("en")


def namespaces_of(dump: Path) -> dict[int, str]:
    """What a Wikipedia dump's siteinfo calls its files (6) and categories (14); empty where it says nothing."""
    try:
        with open_dump(dump) as stream:
            head = stream.read(_HEAD).decode("utf-8", "replace").partition("</siteinfo>")[0]
    except (OSError, EOFError, ValueError):
        return {}  # damage is said by who reads the pages
    return {int(key): name for key, name in _NAMESPACE.findall(head)}


def sentences(text: str, wiki: Wiki = ENGLISH) -> list[str]:
    """The sentences of cleaned text, in order; a paragraph's end is a sentence's."""
    found = []
    for paragraph in text.split("\n"):
        start = 0
        for match in _END.finditer(paragraph):
            head = paragraph[start : match.start()]
            if not wiki.whole.search(head[-40:]):
                found.append(paragraph[start : match.end()].strip())
                start = match.end()
        found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]
