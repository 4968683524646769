"""Wikidata dumps -> entities: English label, sitelink, and the truthy statements whose value is an item."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

from ckl_bench.errors import UserError

Row = dict[str, Any]
_BY_ID = re.compile(r"[QP]\d+")
_LINE = 64 << 20  # bytes; the longest entities have a few


def lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The entities of a JSON dump, one a line, without the brackets and commas of the array around them.

    Raises UserError for a dump that cannot be unpacked, or whose array is not closed.
    """
    number, opened = 0, False
    try:
        while line := stream.readline(_LINE):
            number += 1
            line = line.strip().rstrip(b",")
            if line in (b"[", b"]"):
                opened = line == b"["
            elif line:
                yield line
        if opened:
            raise EOFError("the array has no end")
    except (EOFError, OSError) as error:
        raise UserError(f"{name} is cut short or damaged after {number} lines ({error}); fetch it again") from error


def parse(text: str | bytes, where: str, wiki: str) -> Row | None:
    """One entity as a row {id, label, title, claims: [{property, object}]}; None for what is neither item nor property.

    `wiki` (enwiki) is the site whose link gives the title. Raises UserError for text that is no entity.
    """
    try:
        entity = json.loads(text)
        return _row(entity, wiki)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{where}: not a Wikidata entity ({type(error).__name__}: {error})") from error


def _row(entity: Mapping[str, Any], wiki: str) -> Row | None:
    name = entity["id"]
    if not _BY_ID.fullmatch(name):
        return None  # lexemes and the like
    label = _field(entity.get("labels"), "en", "value")
    title = _field(entity.get("sitelinks"), wiki, "title")
    return {"id": name, "label": label, "title": title, "claims": list(_truthy(entity.get("claims") or {}))}


def _field(table: Any, key: str, field: str) -> str | None:
    """`table[key][field]`; XML dumps write empty tables as lists."""
    value = table.get(key, {}).get(field) if isinstance(table, Mapping) else None
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{field} is {type(value).__name__}, expected text")
    return value


def _truthy(claims: Mapping[str, Any]) -> Iterator[Row]:
    """Of each property the preferred statements, or the normal ones where none is preferred; never deprecated ones."""
    for code, statements in sorted(claims.items() if isinstance(claims, Mapping) else ()):
        best = [s for s in statements if s.get("rank") == "preferred"]
        for statement in best or [s for s in statements if s.get("rank", "normal") == "normal"]:
            snak = statement["mainsnak"]
            value = snak.get("datavalue", {}).get("value") if snak.get("snaktype") == "value" else None
            if isinstance(value, Mapping) and value.get("entity-type") == "item":
                target = value.get("id") or f"Q{value['numeric-id']}"
                yield {"property": int(code[1:]), "object": int(target[1:])}
