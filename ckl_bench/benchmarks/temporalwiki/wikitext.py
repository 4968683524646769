"""Wikitext -> plain sentences: what a reader reads, without templates, tables, references, files and markup."""

from __future__ import annotations

import html
import re
from typing import Any

import mwparserfromhell
from mwparserfromhell.nodes import Comment, ExternalLink, Heading, Tag, Template, Text, Wikilink

_DROPPED_TAGS = frozenset(
    [
        "ref",
        "references",
        "gallery",
        "table",
        "math",
        "chem",
        "timeline",
        "syntaxhighlight",
        "source",
        "pre",
        "score",
        "imagemap",
        "graph",
        "mapframe",
        "maplink",
        "hiero",
        "templatestyles",
        "section",
        "indicator",
        "includeonly",
        "inputbox",
        "categorytree",
        "noinclude",
    ]
)
# Templates that stand inside sentences, with the arguments they show.
_INLINE = {"lang": (2,), "lang-": (1,), "transl": (2,), "nowrap": (1,), "convert": (1, 2), "cvt": (1, 2)}
_DROPPED_LINKS = re.compile(r"\s*(file|image|media|category|template|portal|wikt|commons|special)\s*:", re.I)
_LANGUAGE_LINK = re.compile(r"[a-z]{2,3}(-[a-z]+)*:")
_MAGIC = re.compile(r"__[A-Z]+__")
_MARKUP = re.compile(r"\{\{|\}\}|\{\||\|\}|\[\[|\]\]|</?\s*[a-z!][^>]{0,200}/?>|<ref|'''|''|^\s*[|!]", re.I)
_SPACE = re.compile(r"[ \t\u00a0\u2009\u202f]+")
_EMPTY = re.compile(r"\(\s*[,;:]*\s*\)|\[\s*\]|(?<=\()\s*[,;:]+\s*|(?<=\()\s+")
# A sentence ends at . ! ? (and quotes or brackets after it) before a space and a capital, digit or quote; not after
# an initial or a usual abbreviation, which keeps names such as "J. S. Bach" and "St. Louis" whole.
_END = re.compile(r"""(?<=[.!?])["'”’)\]]*\s+(?=["'“‘(\[]?[A-ZÀ-ÖØ-ÞΑ-ΩА-Я0-9])""")
_NOT_AN_END = re.compile(
    r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Sr|Jr|Prof|Gen|Lt|Col|Capt|Sgt|Rev|Hon|Gov|Sen|Rep|No|vs|etc|e\.g|i\.e|cf|ca|c|"
    r"approx|Inc|Ltd|Co|Corp|Bros|U\.S|U\.K|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec))\.$"
)


def clean(wikitext: str) -> tuple[str, int]:
    """(paragraphs, one a line; how many were dropped because markup was left in them).

    Templates go whole, since only MediaWiki can expand them. Malformed markup that survives the parser costs its
    paragraph rather than the reader.
    """
    code = mwparserfromhell.parse(wikitext, skip_style_tags=True)
    _strip(code)
    text = code.strip_code(normalize=True, collapse=True, keep_template_params=False)
    text = html.unescape(_MAGIC.sub("", text)).replace("'''''", "").replace("'''", "")
    paragraphs, dropped = [], 0
    for line in text.split("\n"):
        line = _SPACE.sub(" ", _EMPTY.sub("", line.replace("''", ""))).strip(" *#:;")
        line = re.sub(r" ([,.;:)])", r"\1", line)
        if not line:
            continue
        if _MARKUP.search(line):
            dropped += 1
        else:
            paragraphs.append(line)
    return "\n".join(paragraphs), dropped


def _strip(code: Any) -> None:
    """Take out of parsed wikitext what a reader does not read, at every depth."""
    code.nodes = [kept for node in code.nodes for kept in _shown(node) if _is_read(kept)]
    for node in code.nodes:
        inner = node.contents if isinstance(node, Tag) else node.text if isinstance(node, Wikilink) else None
        if inner is not None:
            _strip(inner)


def _shown(node: object) -> list[object]:
    """The node, or of a few common inline templates the words that they show."""
    if isinstance(node, Template):
        wanted = _INLINE.get(re.sub(r"-.*", "-", str(node.name).strip().lower()), ())
        if wanted and all(node.has(number) for number in wanted):
            values = [node.get(number).value for number in wanted]
            return [kept for value in values for kept in (*value.nodes, Text(" "))][:-1]
    return [node]


def _is_read(node: object) -> bool:
    if isinstance(node, Tag):
        return str(node.tag).strip().lower() not in _DROPPED_TAGS
    if isinstance(node, Wikilink):
        target = str(node.title)
        return not (_DROPPED_LINKS.match(target) or _LANGUAGE_LINK.match(target))
    if isinstance(node, ExternalLink):
        return node.title is not None
    return not isinstance(node, Template | Heading | Comment)


def sentences(text: str) -> list[str]:
    """The sentences of cleaned text, in order; a paragraph's end is a sentence's."""
    found = []
    for paragraph in text.split("\n"):
        start = 0
        for match in _END.finditer(paragraph):
            head = paragraph[start : match.start()]
            if not _NOT_AN_END.search(head):
                found.append(paragraph[start : match.end()].strip())
                start = match.end()
        found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]
