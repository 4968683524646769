"""Multistream dumps with their index: streams of whole pages, each of which can be read by itself."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ckl_bench.errors import UserError

from . import dumps
from .dumps import READ, Page, open_dump, pages, unpack

_DUMP = re.compile(r"(.*?)(\d+)?\.xml(-p\d+p\d+)?\.bz2")


def index_of(path: Path) -> Path | None:
    """The index that lies beside a multistream dump or a part of one, if there is one.

    It is `...-multistream-index.txt.bz2`; of the part `...-multistream1.xml-p1p41242.bz2`,
    `...-multistream-index1.txt-p1p41242.bz2`.
    """
    named = _DUMP.fullmatch(path.name)
    if named is None:
        return None
    stem, number, pages = named[1], named[2] or "", named[3] or ""
    for name in (f"{stem}-index{number}.txt{pages}", f"{stem}{number}-index.txt{pages}"):
        for ending in (".bz2", ""):
            if (path.parent / f"{name}{ending}").is_file():
                return path.parent / f"{name}{ending}"
    return None


def blocks(path: Path, index: Path) -> Iterator[tuple[Path, int, int]]:
    """(dump, first byte, end byte) of every stream of whole pages that the index names."""
    start = 0
    try:
        with open_dump(index) as lines:
            for number, line in enumerate(iter(partial(lines.readline, READ), b""), 1):
                head = line.split(b":", 1)[0]
                if not head.isdigit():
                    raise UserError(f"{index}:{number}: expected offset:id:title; fetch the index again or remove it")
                offset = int(head)
                if offset > start:
                    if start:
                        yield path, start, offset
                    else:
                        _only_head(path, offset, index)
                    start = offset
    except (EOFError, OSError, ValueError) as error:
        raise UserError(f"{index} is damaged ({error}); fetch the index again or remove it") from error
    if not start:
        raise UserError(f"{index} names no pages; fetch the index again or remove it")
    yield path, start, path.stat().st_size


def _only_head(path: Path, end: int, index: Path) -> None:
    """UserError where there are pages before those that the index names first: its beginning is lost."""
    with open(path, "rb") as file:
        head = unpack(file.read(min(end, dumps.WHOLE)))
    if b"<page>" in head:
        raise UserError(f"{index} does not name the first pages of {path}; fetch the index again or remove it")


def pages_of_block(block: tuple[Path, int, int]) -> list[Page]:
    """The pages of one stream of a multistream dump (the last one carries the closing tag, which is left out)."""
    path, start, end = block
    try:
        if end - start > dumps.WHOLE:
            raise OSError("the stream is too large")
        with open(path, "rb") as file:
            file.seek(start)
            text = unpack(file.read(end - start))
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} does not match its index at byte {start} ({error}); fetch both again") from error
    whole = b"<mediawiki>" + text.rpartition(b"</mediawiki>")[0 if b"</mediawiki>" in text else 2] + b"</mediawiki>"
    return list(pages(io.BytesIO(whole), f"{path} (byte {start})"))
