"""Wikimedia dumps -> pages, in bounded memory: XML or JSON, plain, gzip, bzip2, or bzip2 in several streams."""

from __future__ import annotations

import bz2
import gzip
import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from ckl_bench.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
_STREAM = re.compile(rb"BZh[1-9]1AY&SY")  # every bzip2 stream begins with it, on a whole byte
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a dump, as its latest revision has it."""

    id: int
    title: str
    namespace: int
    revision: int
    redirect: bool
    text: str


def ordered_map(pool: Executor, work: Callable[[T], R], items: Iterable[T], window: int = 16) -> Iterator[R]:
    """`work` over the items in a pool, in order, with at most `window` items under way, so memory stays bounded."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def open_dump(path: Path, pool: Executor | None = None) -> IO[bytes]:
    """A dump's decompressed bytes; the streams of a multistream bzip2 are decompressed in the pool."""
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.open(path))
    if path.suffix != ".bz2":
        return open(path, "rb")
    if pool is None or not _has_several_streams(path):
        return bz2.open(path)
    return io.BufferedReader(_Joined(ordered_map(pool, bz2.decompress, _streams(path))), _READ)


def _has_several_streams(path: Path, within: int = 16 << 20) -> bool:
    with open(path, "rb") as file:
        head = file.read(within)
    return len(_STREAM.findall(head)) > 1


def _streams(path: Path) -> Iterator[bytes]:
    """The compressed streams of a multistream bzip2, one after the other."""
    with open(path, "rb") as file:
        held = b""
        while block := file.read(_READ):
            searched = max(len(held) - 9, 1)
            held += block
            while found := _STREAM.search(held, searched):
                yield held[: found.start()]
                held, searched = held[found.start() :], 1
        yield held


class _Joined(io.RawIOBase):
    """Chunks of bytes as one stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._held = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        while not self._held:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._held = memoryview(chunk)
        size = min(len(buffer), len(self._held))
        buffer[:size] = self._held[:size]
        self._held = self._held[size:]
        return size


def pages(stream: IO[bytes], name: str) -> Iterator[Page]:
    """Every page of a MediaWiki XML export (schema 0.10 or 0.11); `name` stands in errors.

    Raises UserError for XML that is cut short or malformed, for a DTD or entities, and for a page without its parts.
    """
    count = 0
    try:
        context = iterparse(stream, events=("start", "end"), forbid_dtd=True)
        root: Element | None = None
        for event, element in context:
            if root is None:
                root = element
            if event == "end" and element.tag.rpartition("}")[2] == "page":
                yield _page(element)
                count += 1
                root.clear()
    except (ParseError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        kind = "refused" if isinstance(error, DefusedXmlException) else "cut short or damaged"
        raise UserError(
            f"{name} is {kind} after {count} pages ({error or type(error).__name__}); fetch it again"
        ) from error


def _page(element: Element) -> Page:
    parts = {child.tag.rpartition("}")[2]: child for child in element}
    revision = {child.tag.rpartition("}")[2]: child.text or "" for child in parts["revision"]}
    return Page(
        id=int(parts["id"].text or ""),
        title=parts["title"].text or "",
        namespace=int(parts["ns"].text or ""),
        revision=int(revision["id"]),
        redirect="redirect" in parts,
        text=revision.get("text", ""),
    )


def index_of(path: Path) -> Path | None:
    """The index that lies beside a multistream dump (`...-multistream-index.txt.bz2`), if there is one."""
    stem = path.name.removesuffix(".xml.bz2")
    for name in (f"{stem}-index.txt.bz2", f"{stem}-index.txt"):
        if path.name.endswith(".xml.bz2") and (path.parent / name).is_file():
            return path.parent / name
    return None


def blocks(path: Path, index: Path) -> Iterator[tuple[Path, int, int]]:
    """(dump, first byte, end byte) of every stream of whole pages that the index names."""
    start = 0
    with open_dump(index) as lines:
        for number, line in enumerate(lines, 1):
            head = line.split(b":", 1)[0]
            if not head.isdigit():
                raise UserError(f"{index}:{number}: expected offset:id:title; fetch the index again or remove it")
            offset = int(head)
            if offset > start:
                if start:
                    yield path, start, offset
                start = offset
    if start:
        yield path, start, path.stat().st_size


def pages_of_block(block: tuple[Path, int, int]) -> list[Page]:
    """The pages of one stream of a multistream dump (the last one carries the closing tag, which is left out)."""
    path, start, end = block
    with open(path, "rb") as file:
        file.seek(start)
        raw = file.read(end - start)
    try:
        text = bz2.BZ2Decompressor().decompress(raw)
    except OSError as error:
        raise UserError(f"{path} does not match its index at byte {start}; fetch both again") from error
    whole = b"<mediawiki>" + text.rpartition(b"</mediawiki>")[0 if b"</mediawiki>" in text else 2] + b"</mediawiki>"
    return list(pages(io.BytesIO(whole), f"{path} (byte {start})"))


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive items in lists of `size`."""
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
