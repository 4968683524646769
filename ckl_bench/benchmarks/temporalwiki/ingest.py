"""Snapshots -> Parquet: the index of articles, the sentences of changed ones, Wikidata's entities, page properties."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ckl_bench.errors import UserError

from . import wikidata
from .cuts import PageBlock, page_blocks
from .dumps import Page, open_dump, ordered_map
from .languages import Wiki, namespaces_of, sentences, wiki_of
from .multistream import blocks, index_of, pages_of_block
from .shards import Unit, run_step
from .sources import is_xml
from .wikitext import clean

_LINE = 64 << 20  # bytes of a line of SQL at most (a longer one is read in parts); MySQL writes one megabyte
ARTICLES = pa.schema(
    [
        ("page", pa.int64()),
        ("title", pa.string()),
        ("revision", pa.int64()),
        ("stamp", pa.int64()),
        ("redirect", pa.bool_()),
    ]
)
TEXTS = pa.schema([("page", pa.int64()), ("title", pa.string()), ("sentences", pa.list_(pa.string()))])
_CLAIM = pa.struct([("property", pa.int64()), ("object", pa.int64()), ("best", pa.bool_())])
ENTITIES = pa.schema(
    [(name, pa.string()) for name in ("id", "label", "title", "redirect")] + [("claims", pa.list_(_CLAIM))]
)
PAGE_PROPS = pa.schema([("page", pa.int64()), ("id", pa.string())])
Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Wanted:
    """Which revision of which pages is to be read: two rows of numbers in a file, the pages sorted.

    A file, since millions of them are looked up in by every worker, and sent to none.
    """

    path: Path

    @classmethod
    def write(cls, path: Path, pages: Numbers, revisions: Numbers) -> Wanted:
        """Keep pages (sorted) and their revisions in a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp.npy")
        np.save(temporary, np.stack([pages, revisions]).astype(np.int64))
        temporary.replace(path)
        return cls(path)

    def of(self, group: list[Page]) -> list[Page]:
        """The wanted ones among some pages."""
        pages, revisions = _numbers(self.path)
        if not len(pages):
            return []
        at = np.minimum(np.searchsorted(pages, [page.id for page in group]), len(pages) - 1)
        return [p for p, i in zip(group, at, strict=True) if pages[i] == p.id and revisions[i] == p.revision]


@lru_cache(maxsize=2)
def _numbers(path: Path) -> Numbers:
    found: Numbers = np.load(path, mmap_mode="r")
    return found


def read_articles(dump: Path, folder: Path, pool: Executor) -> Path:
    """The pages of namespace 0 in a Wikipedia dump, redirects marked, each as often as it stands there."""
    return run_step(folder, ARTICLES, partial(_units, dump, pool, _index_pages, None))


def read_texts(dump: Path, wanted: Wanted, folder: Path, pool: Executor, language: str = "en") -> Path:
    """The sentences of the wanted articles, cleaned in parallel by the rules of the wiki's language."""
    work = partial(_clean_pages, wiki_of(language, namespaces_of(dump)))
    return run_step(folder, TEXTS, partial(_units, dump, pool, work, wanted))


def _units(dump: Path, pool: Executor, work: Any, wanted: Wanted | None, start: int) -> Iterator[Unit]:
    index = index_of(dump)
    if index is not None:
        yield from ordered_map(pool, partial(_block, work, wanted), islice(blocks(dump, index), start, None))
        return
    with open_dump(dump, pool) as stream:
        yield from ordered_map(pool, partial(_block, work, wanted), islice(page_blocks(stream, str(dump)), start, None))


Block = tuple[Path, int, int] | PageBlock  # where whole pages stand, or those pages


def _pages_of(block: Block) -> list[Page]:
    return block.pages() if isinstance(block, PageBlock) else pages_of_block(block)


def _block(work: Any, wanted: Wanted | None, block: Block) -> Unit:
    found = _pages_of(block)
    unit: Unit = work(found if wanted is None else wanted.of(found))
    return unit


def _index_pages(group: list[Page]) -> Unit:
    rows, counts = [], {"pages": len(group), "other_namespaces": 0, "redirects": 0, "articles": 0}
    for page in group:
        if page.namespace != 0:
            counts["other_namespaces"] += 1
            continue
        counts["redirects" if page.redirect else "articles"] += 1
        rows.append(
            {
                "page": page.id,
                "title": page.title,
                "revision": page.revision,
                "stamp": page.stamp,
                "redirect": page.redirect,
            }
        )
    return pa.Table.from_pylist(rows, schema=ARTICLES), counts


def _clean_pages(wiki: Wiki, group: list[Page]) -> Unit:
    rows, counts = [], Counter[str]({"cleaned": 0, "paragraphs_dropped": 0, "pages_with_paragraphs_dropped": 0})
    for page in group:
        text, dropped, templates = clean(page.text, wiki, page.title)
        rows.append({"page": page.id, "title": page.title, "sentences": sentences(text, wiki)})
        counts["cleaned"] += 1
        counts["paragraphs_dropped"] += dropped
        counts["pages_with_paragraphs_dropped"] += dropped > 0
        counts.update({f"templates_dropped/{name}": number for name, number in templates.items()})
    return pa.Table.from_pylist(rows, schema=TEXTS), counts


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What of an entity is kept: the wiki's title, the first label of the languages, what holds on the date."""

    wiki: str = "enwiki"
    languages: Sequence[str] = ("en", "mul")
    date: wikidata.Date | None = None

    def parse(self, text: str | bytes, where: str) -> wikidata.Row | None:
        """As `wikidata.parse`."""
        return wikidata.parse(text, where, self.wiki, self.languages, self.date)


def read_entities(dump: Path, reading: Reading, folder: Path, pool: Executor) -> Path:
    """Labels, sitelinks, redirects, statements of a Wikidata dump: JSON, or XML whose pages hold entity JSON."""

    def units(start: int) -> Iterator[Unit]:
        index = index_of(dump)
        if is_xml(dump) and index is not None:
            yield from ordered_map(
                pool, partial(_entities_of_block, reading, str(dump)), islice(blocks(dump, index), start, None)
            )
            return
        with open_dump(dump, pool) as stream:
            if is_xml(dump):
                cut = islice(page_blocks(stream, str(dump)), start, None)
                yield from ordered_map(pool, partial(_entities_of_block, reading, str(dump)), cut)
            else:
                lines = islice(wikidata.lines(stream, str(dump)), start, None)
                yield from ordered_map(pool, partial(_entities_of_lines, reading, str(dump)), lines)

    return run_step(folder, ENTITIES, units)


def _entities_of_lines(reading: Reading, name: str, block: tuple[int, bytes]) -> Unit:
    first, text = block
    found = (reading.parse(line, f"{name}, line {first + number}") for number, line in wikidata.texts(text))
    return _entities([row for row in found if row is not None], {})


def _entities_of_block(reading: Reading, name: str, block: Block) -> Unit:
    rows, counts = [], dict.fromkeys(("deleted_texts", "redirects", "other_pages"), 0)
    for page in _pages_of(block):
        reason = wikidata.skipped(page)
        if reason:
            counts[reason] += 1
        elif row := reading.parse(page.text, f"{name}, page {page.title}"):
            rows.append(row)
    return _entities(rows, counts)


def _entities(rows: list[wikidata.Row], counts: dict[str, int]) -> Unit:
    redirects = sum(row["redirect"] is not None for row in rows)
    seen = {"entities": len(rows) - redirects, "statements": sum(len(row["claims"]) for row in rows)}
    counts = {name: number for name, number in counts.items() if number}
    if redirects:
        counts["redirects"] = counts.get("redirects", 0) + redirects
    return pa.Table.from_pylist(rows, schema=ENTITIES), seen | counts


_PROPERTY = re.compile(r"\((\d+),'wikibase_item','(Q\d+)'")


def read_page_props(path: Path, folder: Path) -> Path:
    """Page ids and their items from MediaWiki's `page_props.sql[.gz]`, read as text: nothing in it is executed."""

    def units(start: int) -> Iterator[Unit]:
        with open_dump(path) as stream:
            try:
                for line in islice(iter(partial(stream.readline, _LINE), b""), start, None):
                    found = _PROPERTY.findall(line.decode("utf-8", "replace"))
                    yield [{"page": int(page), "id": item} for page, item in found], {"page_items": len(found)}
            except (EOFError, OSError) as error:
                raise UserError(f"{path} is cut short or damaged ({error}); fetch it again") from error

    return run_step(folder, PAGE_PROPS, units)
