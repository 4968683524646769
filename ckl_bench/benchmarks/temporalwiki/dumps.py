"""Wikimedia dumps -> pages, in bounded memory: XML or JSON, plain, gzip, bzip2, or bzip2 in several streams."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TypeVar
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from ckl_bench.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
_STREAM = re.compile(rb"BZh[1-9]1AY&SY")  # every bzip2 stream begins with it, on a whole byte
# `#REDIRECT [[Target]]` in any language (`#WEITERLEITUNG`, `#転送`, ...): a word right behind the sign, and a link.
_REDIRECT = re.compile(r"\s*[#＃](?:\s*redirect|[^\W\d][^\s\[\]:：]*)\s*[:：]?\s*\[\[[^\]\n]+\]\]", re.I)
_OTHERS = frozenset([".7z", ".xz", ".zst", ".zip", ".lz4", ".lzma", ".br"])
READ = 1 << 20
# What one thing may take in memory, so that a dump made to fill it is refused instead; a page of Wikipedia has 2 MiB.
PAGE = 64 << 20  # bytes of XML from the end of one page to the next's
_DEPTH = 32  # tags in tags; a dump has six
_LARGE = 8 << 20  # bytes of a packed file from which threads pay
_THREADS = 4  # each holds some 50 MiB; as many unpack faster than anything reads
WHOLE = 512 << 20  # bytes, packed or not, of a stream that is unpacked at once; they have about one


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a dump, as the newest of its revisions there has it."""

    id: int
    title: str
    namespace: int
    revision: int
    redirect: bool
    text: str
    stamp: int = 0  # when the revision was made, as the digits of its timestamp; 0 where none stands there
    model: str = ""  # content model; "" where none stands there


def ordered_map(pool: Executor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work` over the items in a pool, in order; few items are under way (the pool's `window`), to bound memory."""
    window = getattr(pool, "window", 16)
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def open_dump(path: Path, pool: Executor | None = None) -> IO[bytes]:
    """A dump's decompressed bytes; of a bzip2, several streams in the pool, one in threads.

    Threads are rapidgzip's, where it is installed (`pip install 'ckl-bench[parallel]'`) and a pool is given. It does
    not read gzip: a file that was cut in the middle it takes for a shorter one.
    """
    if path.suffix in _OTHERS:
        raise UserError(f"{path.name}: .gz, .bz2 and unpacked dumps are read, not {path.suffix}; unpack it first")
    if path.suffix not in (".gz", ".bz2"):
        return open(path, "rb")
    if path.suffix == ".bz2" and pool is not None and _has_several_streams(path):
        chunks = ordered_map(pool, unpack, _streams(path))
    elif path.suffix == ".gz":
        chunks = _gunzipped(path)
    elif pool is not None and path.stat().st_size >= _LARGE and find_spec("rapidgzip"):
        chunks = _unpacked_in_threads(path)
    else:
        chunks = _unpacked(path)
    return io.BufferedReader(_Joined(chunks), READ)


def _unpacked_in_threads(path: Path) -> Iterator[bytes]:
    """A bzip2 file's content, a megabyte at a time; OSError for damage."""
    import rapidgzip

    try:
        with rapidgzip.open(str(path), parallelization=min(os.cpu_count() or 1, _THREADS)) as file:
            while chunk := file.read(READ):
                yield chunk
    except (RuntimeError, ValueError) as error:  # what its C++ throws
        raise OSError(" ".join(str(error).split()) or "damaged") from error


def _gunzipped(path: Path) -> Iterator[bytes]:
    """A gzip file's content, a megabyte at a time; EOFError or OSError for damage."""
    if path.stat().st_size == 0:
        raise EOFError("the file is empty")
    try:
        with gzip.open(path) as file:
            while chunk := file.read(READ):
                yield chunk
    except zlib.error as error:
        raise OSError(str(error)) from error


def _has_several_streams(path: Path, within: int = 16 << 20) -> bool:
    with open(path, "rb") as file:
        head = file.read(within)
    return len(_STREAM.findall(head)) > 1


def _unpacked(path: Path) -> Iterator[bytes]:
    """A bzip2 file's content, a megabyte at a time.

    Raises EOFError or OSError for damage, and also where Python's own reader would leave out what follows a stream.
    """
    with open(path, "rb") as file:
        unpacker, held = bz2.BZ2Decompressor(), file.read(READ)
        while held or not unpacker.needs_input:
            yield unpacker.decompress(held, READ)
            held = b""
            if unpacker.eof:
                held = unpacker.unused_data or file.read(READ)
                if not held:
                    return
                unpacker = bz2.BZ2Decompressor()
            elif unpacker.needs_input:
                held = file.read(READ)
    raise EOFError("a bzip2 stream has no end")


def unpack(packed: bytes) -> bytes:
    """bzip2 streams unpacked at once; raises as `_unpacked` does, and OSError where they are larger than `WHOLE`."""
    whole = []
    while packed:
        unpacker = bz2.BZ2Decompressor()
        whole.append(unpacker.decompress(packed, WHOLE + 1))
        if sum(map(len, whole)) > WHOLE:
            raise OSError(f"a stream is larger than {WHOLE >> 20} MiB")
        if not unpacker.eof:
            raise EOFError("a bzip2 stream has no end")
        packed = unpacker.unused_data
    return b"".join(whole)


def _streams(path: Path) -> Iterator[bytes]:
    """The compressed streams of a multistream bzip2, one after the other; OSError where one is larger than `WHOLE`."""
    with open(path, "rb") as file:
        held = bytearray()
        while block := file.read(READ):
            searched = max(len(held) - 9, 1)
            held += block
            while found := _STREAM.search(held, searched):
                yield bytes(held[: found.start()])
                del held[: found.start()]
                searched = 1
            if len(held) > WHOLE:
                raise OSError(f"a stream is larger than {WHOLE >> 20} MiB")
        yield bytes(held)


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


class _Counted:
    """A stream of XML that may not go on for ever without a page's end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.read_since = stream, 0

    def read(self, size: int = -1) -> bytes:
        """As the stream's; ValueError where no page has ended for `PAGE` bytes."""
        found = self._stream.read(size)
        self.read_since += len(found)
        if self.read_since > PAGE:
            raise ValueError(f"{PAGE >> 20} MiB without a page's end")
        return found


def pages(stream: IO[bytes], name: str, before: int = 0) -> Iterator[Page]:
    """Every page of a MediaWiki XML export (schema 0.10 or 0.11); `name` stands in errors, with pages read `before`.

    Raises UserError for XML that is cut short or malformed, for a DTD or entities, for a page without its parts, and
    for what is larger or nested deeper than any dump.
    """
    count, depth = before, 0
    source = _Counted(stream)
    try:
        context = iterparse(source, events=("start", "end"), forbid_dtd=True)
        root: Element | None = None
        for event, element in context:
            if root is None:
                root = element
            depth += 1 if event == "start" else -1
            if depth > _DEPTH:
                raise ValueError("its tags are nested too deeply")
            if event == "end" and element.tag.rpartition("}")[2] == "page":
                yield _page(element)
                count += 1
                root.clear()
                source.read_since = 0
    except (ParseError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        kind = "refused" if isinstance(error, DefusedXmlException) else "cut short or damaged"
        raise UserError(
            f"{name} is {kind} after {count} pages ({error or type(error).__name__}); fetch it again"
        ) from error


def _page(element: Element) -> Page:
    parts = {_name(child): child for child in element}
    made = max((_revision(child) for child in element if _name(child) == "revision"), key=_newest)
    return Page(
        id=int(parts["id"].text or ""),
        title=parts["title"].text or "",
        namespace=int(parts["ns"].text or ""),
        revision=int(made["id"]),
        redirect="redirect" in parts or bool(_REDIRECT.match(made.get("text", ""))),
        text=made.get("text", ""),
        stamp=_age(made)[0],
        model=made.get("model", "").strip(),
    )


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _revision(element: Element) -> dict[str, str]:
    found = {_name(child): child.text or "" for child in element}
    if any("deleted" in child.attrib for child in element if _name(child) == "text"):
        found["deleted"] = "text"
    return found


def _newest(revision: dict[str, str]) -> tuple[bool, tuple[int, int]]:
    """Revisions in any order: the last made, but one whose text was taken from the public only where all were."""
    return "deleted" not in revision, _age(revision)


def _age(revision: dict[str, str]) -> tuple[int, int]:
    """When a revision was made, and its number where that does not tell."""
    return int("0" + re.sub(r"[^0-9]", "", revision.get("timestamp", ""))[:14]), int(revision["id"])
