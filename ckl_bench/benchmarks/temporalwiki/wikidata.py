"""Wikidata dumps -> entities: label, sitelink, redirect, and the statements that hold and whose value is an item."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import msgspec

from ckl_bench.errors import UserError

from .dumps import Page

Row = dict[str, Any]
Date = tuple[int, int, int]
_BY_ID = re.compile(r"[QP]\d+")
_MARK = b"\xef\xbb\xbf"  # a byte order mark, which some tools write
_LINE = 64 << 20  # bytes; the longest entities have a few
_BLOCK = 4 << 20  # bytes of whole lines that are parsed at once
_TIME = re.compile(r"([+-]?)(\d+)-(\d\d)-(\d\d)T.*")
_DAY, _MONTH, _YEAR, _DECADE = 11, 10, 9, 8  # precisions of a time; smaller numbers are ever longer spans
_MODELS = frozenset(["wikibase-item", "wikibase-property"])
_PLAIN = frozenset(["", "wikitext", "json"])  # what exports of other tools write, or nothing
_NAMESPACES = frozenset([0, 120])  # items and properties, on Wikidata itself
_TITLE = re.compile(r"Q\d+|(\w+:)?P\d+")


class _Value(msgspec.Struct):
    value: Any = None


class _Snak(msgspec.Struct):
    snaktype: str = "value"
    datavalue: _Value | None = None


class _Statement(msgspec.Struct):
    mainsnak: _Snak
    rank: str = "normal"
    qualifiers: dict[str, list[_Snak]] | list[object] | None = None


class _Label(msgspec.Struct):
    value: str | None = None


class _Link(msgspec.Struct):
    title: str | None = None


class _Entity(msgspec.Struct):
    """What of an entity is kept: the rest, most of it, is passed over unread. XML dumps write empty tables as lists."""

    id: str = ""
    entity: str = ""
    redirect: str = ""
    labels: dict[str, _Label] | list[object] | None = None
    sitelinks: dict[str, _Link] | list[object] | None = None
    claims: dict[str, list[_Statement]] | list[object] | None = None


_DECODER = msgspec.json.Decoder(_Entity)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, text) of blocks of whole lines of a JSON dump: an entity a line, in an array.

    Raises UserError for a dump that cannot be unpacked, or whose array is not closed.
    """
    number, opened, last = 1, False, b""
    try:
        while block := stream.read(_BLOCK):
            block += stream.readline(_LINE)
            if number == 1:
                block = block.removeprefix(_MARK)
            shown = block.strip()
            if number == 1:
                opened = shown.startswith(b"[")
            last = shown[-1:] or last
            yield number, block
            number += block.count(b"\n")
        if opened and last != b"]":
            raise EOFError("the array has no end")
    except (EOFError, OSError) as error:
        raise UserError(f"{name} is cut short or damaged after {number - 1} lines ({error}); fetch it again") from error


def texts(block: bytes) -> Iterator[tuple[int, bytes]]:
    """(line from 0, entity) of a block, without the brackets and commas of the array around them.

    A bracket may share its line with an entity; an array in one line, as other tools write it, is taken apart.
    """
    for number, line in enumerate(block.split(b"\n")):
        line = line.strip().rstrip(b",")
        if line[:1] == b"[" and line[-1:] == b"]":
            try:
                yield from ((number, bytes(entity)) for entity in _ARRAY.decode(line))
                continue
            except ValueError:
                pass  # damage: who reads the entity says so
        line = line.removeprefix(b"[").strip()
        if line.endswith(b"}]"):
            line = line[:-1]
        if line and line != b"]":
            yield number, line


def skipped(page: Page) -> str | None:
    """Why a page of an XML dump holds no item or property (its namespace and content model say so); None if it does."""
    plain = page.model in _PLAIN and page.namespace in _NAMESPACES and _TITLE.fullmatch(page.title)
    if page.model in _MODELS or plain:
        if page.text.lstrip()[:1] == "{":
            return None
        if not page.text.strip():
            return "deleted_texts"
        if page.model in _MODELS:
            return None  # and what is no entity there, is damage
    return "redirects" if page.redirect else "other_pages"


def parse(
    text: str | bytes, where: str, wiki: str, languages: Sequence[str] = ("en", "mul"), date: Date | None = None
) -> Row | None:
    """One entity as a row {id, label, title, redirect, claims: [{property, object, best}]}; None for lexemes and such.

    `wiki` (enwiki) is the site whose link gives the title; the label is that of the first of `languages` that has one.
    Claims are the statements that are not deprecated and hold on `date`; `best` are the preferred among them, or all
    where none is preferred. A redirect has the id it leads to, and nothing else.
    Raises UserError for text that is no entity.
    """
    try:
        return _row(_DECODER.decode(text), wiki, languages, date)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # msgspec's are ValueErrors
        raise UserError(f"{where}: not a Wikidata entity ({type(error).__name__}: {error})") from error


def _row(entity: _Entity, wiki: str, languages: Sequence[str], date: Date | None) -> Row | None:
    if entity.redirect and not entity.id:
        if not (_BY_ID.fullmatch(entity.entity) and _BY_ID.fullmatch(entity.redirect)):
            return None
        return {"id": entity.entity, "label": None, "title": None, "redirect": entity.redirect, "claims": []}
    if not entity.id:
        raise KeyError("id")
    if not _BY_ID.fullmatch(entity.id):
        return None  # lexemes and the like
    labels = entity.labels if isinstance(entity.labels, dict) else {}
    link = entity.sitelinks.get(wiki) if isinstance(entity.sitelinks, dict) else None
    return {
        "id": entity.id,
        "label": next((labels[code].value for code in languages if code in labels and labels[code].value), None),
        "title": link.title if link else None,
        "redirect": None,
        "claims": list(_claims(entity.claims, date)),
    }


def _claims(claims: dict[str, list[_Statement]] | list[object] | None, date: Date | None) -> Iterator[Row]:
    for code, statements in sorted(claims.items() if isinstance(claims, dict) else ()):
        valid = [s for s in statements if s.rank != "deprecated" and holds(s.qualifiers, date)]
        preferred = any(s.rank == "preferred" for s in valid)
        for statement in valid:
            snak = statement.mainsnak
            value = snak.datavalue.value if snak.snaktype == "value" and snak.datavalue else None
            if isinstance(value, dict) and value.get("entity-type") == "item":
                target = value.get("id") or f"Q{value['numeric-id']}"
                best = statement.rank == "preferred" or not preferred
                yield {"property": int(code[1:]), "object": int(target[1:]), "best": best}


def holds(qualifiers: Any, date: Date | None) -> bool:
    """Whether a statement holds on a date: neither its end (P582) lies surely before it, nor its start (P580) after it.

    A year or month is a span: what ends in 2024 has not surely ended in February 2024. An end that is not known is one
    in the past. Of several terms the last counts. Without a date, what has an end is over.
    """
    if not isinstance(qualifiers, Mapping) or not ("P582" in qualifiers or "P580" in qualifiers):
        return True
    starts = [span for span in _spans(qualifiers.get("P580")) if span is not None]
    ends = list(_spans(qualifiers.get("P582")))
    if date is None:
        return not ends
    begun = [first for first, _ in starts if first <= date]
    if starts and not begun:
        return False
    if not ends or any(span is not None and span[1] >= date for span in ends):
        return True
    over = max((span[1] for span in ends if span is not None), default=None)
    return over is not None and any(first > over for first in begun)


def _spans(snaks: Sequence[_Snak] | None) -> Iterator[tuple[Date, Date] | None]:
    """(first day, last day) of every time; None for one that is not known. `novalue` is no time at all."""
    for snak in snaks or ():
        if snak.snaktype == "novalue":
            continue
        value = snak.datavalue.value if snak.datavalue else None
        yield _span(value) if isinstance(value, Mapping) else None


def _span(value: Mapping[str, Any]) -> tuple[Date, Date] | None:
    found = _TIME.fullmatch(str(value.get("time")))
    if not found:
        return None
    year, month, day = int(found[2]) * (-1 if found[1] == "-" else 1), int(found[3]), int(found[4])
    precision = int(value.get("precision", _DAY))
    if precision <= _DECADE:
        length = 10 ** (_YEAR - precision)
        # A decade is named by its first year, a century or millennium by one within it.
        first = year if precision == _DECADE else year - length
        return (first, 1, 1), (year + length - (precision == _DECADE), 12, 31)
    if precision == _YEAR or not month:
        return (year, 1, 1), (year, 12, 31)
    if precision == _MONTH or not day:
        return (year, month, 1), (year, month, 31)
    return (year, month, day), (year, month, day)
